"""`wasm-shim run -t` and `-it`: the guest has a terminal of its own, and the caller's is as it was afterwards."""

import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import (
    DEADLINE,
    Environment,
    guest_pid,
    leftovers,
    on_terminal,
    read_to_end,
    refusal,
    started,
    wait_for,
    wasm_shim,
)

Guest = Callable[[str], Path]

ENDINGS: dict[str, Callable[[subprocess.Popen[bytes], int], None]] = {
    "its own end": lambda _process, terminal: _type(terminal, b"\x04"),
    "the interrupt key": lambda _process, terminal: _type(terminal, b"\x03"),
    "SIGTERM": lambda process, _terminal: process.send_signal(signal.SIGTERM),
    "SIGHUP": lambda process, _terminal: process.send_signal(signal.SIGHUP),
}


@pytest.fixture(params=["kit_p1.wasm", "kit_p2.wasm"])
def kit(request: pytest.FixtureRequest, guest: Guest) -> Path:
    """The program kit, for WASI 0.1 and 0.2."""
    return guest(request.param)


def _type(terminal: int, keys: bytes) -> None:
    os.write(terminal, keys)


def lines(output: bytes) -> list[bytes]:
    """Lines without their ends: what a terminal puts there depends on who else is between."""
    return output.replace(b"\r", b"").splitlines()


@pytest.mark.parametrize("options", [["-t"], ["-i", "-t"], ["-it"]], ids=" ".join)
def test_guest_sees_a_terminal(home: Environment, kit: Path, options: list[str]) -> None:
    """With -t all three streams of the guest are terminals."""
    with on_terminal(home, "run", "--rm", *options, kit, "tty") as (process, terminal):
        assert lines(read_to_end(terminal)) == [b"1 1 1"]
        assert process.wait(DEADLINE) == 0
    assert leftovers(home) == []


def test_terminal_works_without_one_around(home: Environment, kit: Path) -> None:
    """With -t and pipes around, the guest has a terminal all the same, and its output comes through the pipe."""
    done = wasm_shim(home, "run", "--rm", "-t", kit, "tty")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1", "1", "1"], "")


def test_input_for_a_terminal_must_be_one(home: Environment, kit: Path) -> None:
    """-it with a stdin that is no terminal is refused."""
    done = wasm_shim(home, "run", "--rm", "-it", kit, stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    assert "terminal" in refusal(done)
    assert leftovers(home) == []


def test_last_output_is_not_lost(home: Environment, kit: Path) -> None:
    """What a guest writes right before its end reaches the caller's terminal, with or without a newline."""
    with on_terminal(home, "run", "--rm", "-it", kit, "noeol") as (process, terminal):
        output = read_to_end(terminal)
        assert process.wait(DEADLINE) == 0
    assert sorted((output.find(b"err no newline"), output.rfind(b"no newline"))) != [-1, -1]
    assert len(output) == len(b"no newline" + b"err no newline")


def test_large_output_is_unharmed(home: Environment, kit: Path, tmp_path: Path) -> None:
    """A megabyte of lines through the guest's terminal is complete."""
    text = b"".join(b"line %d\n" % number for number in range(100_000))
    (tmp_path / "text").write_bytes(text)
    with started(home, "run", "--rm", "-t", "-v", f"{tmp_path}:/d", kit, "read", "/d/text") as process:
        assert process.stdout
        assert read_to_end(process.stdout.fileno()).replace(b"\r", b"") == text
        assert process.wait(DEADLINE) == 0


def test_keys_reach_the_guest(home: Environment, kit: Path) -> None:
    """What is typed is echoed once, by the guest's terminal; Ctrl-D ends the input."""
    with on_terminal(home, "run", "--rm", "-it", kit, "cat") as (process, terminal):
        wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
        os.write(terminal, b"hello\n")
        said = wait_for(terminal, b"hello\r\nhello\r\n")
        os.write(terminal, b"\x04")
        assert said + read_to_end(terminal) == b"hello\r\nhello\r\n"
        assert process.wait(DEADLINE) == 0


def test_size_of_the_terminal_is_passed_on(home: Environment, kit: Path) -> None:
    """The guest's terminal has the size of the caller's, also after that has changed."""
    with on_terminal(home, "run", "--rm", "-it", kit, "block") as (process, terminal):
        resize(terminal, rows=11, columns=22)
        wait_for(terminal, b"ready")
        with Path(f"/proc/{guest_pid(home)}/fd/0").open("rb", buffering=0) as own:
            wait_until(lambda: size(own.fileno()) == (11, 22))
            resize(terminal, rows=33, columns=44)
            wait_until(lambda: size(own.fileno()) == (33, 44))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 143


def resize(terminal: int, *, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def size(terminal: int) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def wait_until(is_so: Callable[[], bool]) -> None:
    """A terminal tells nobody that its settings change: ask until they have, or the test's time is over."""
    while not is_so():
        os.sched_yield()


@pytest.mark.parametrize("ending", ENDINGS)
def test_terminal_is_restored(home: Environment, kit: Path, ending: str) -> None:
    """While the guest runs the caller's terminal is raw; afterwards it is as it was, however the run ended."""
    with on_terminal(home, "run", "--rm", "-it", kit, "block") as (process, terminal):
        before = termios.tcgetattr(terminal)
        wait_for(terminal, b"ready")
        assert not termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        ENDINGS[ending](process, terminal)
        process.wait(DEADLINE)
        assert termios.tcgetattr(terminal) == before
    assert leftovers(home) == []


def test_terminal_is_restored_after_a_refusal(home: Environment, guest: Guest) -> None:
    """A program that cannot run leaves the terminal as it was, and its reason is readable there."""
    with on_terminal(home, "run", "--rm", "-it", guest("unknown_import.wat")) as (process, terminal):
        before = termios.tcgetattr(terminal)
        output = read_to_end(terminal)
        assert process.wait(DEADLINE) == 126
        assert termios.tcgetattr(terminal) == before
    assert output.startswith(b"wasm-shim: ")
    assert output.endswith(b"\r\n")


def test_terminal_that_hangs_up_ends_the_guest(home: Environment, kit: Path) -> None:
    """When the caller's terminal is closed, the guest ends and nothing is left."""
    with on_terminal(home, "run", "--rm", "-it", kit, "block") as (process, terminal):
        wait_for(terminal, b"ready")
        reader, writer = os.openpty()
        os.dup2(reader, terminal)  # closes our only descriptor of the terminal's other side
        os.close(reader)
        os.close(writer)
        assert process.wait(DEADLINE) == 129
    assert leftovers(home) == []

"""A Wasm task's input and output through ctr: whole, in order, and independent of the client that began it."""

import functools
import os
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containerd.daemon import Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import Image
from tests.contracts.cgroups import wait_until
from tests.integration.support import DEADLINE, read_to_end, wait_for
from tests.integration.tasks import APP, COMPONENT, kit_image, pid_of, run, words
from tests.integration.test_stdio_files import pattern

pytestmark = pytest.mark.root
one_release = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)
both_kinds = pytest.mark.parametrize("program", [APP, COMPONENT])

MUCH = 10_000_000


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    return containerd.load(kit_image(guest))


# Pipes


@pytest.mark.parametrize("user", ["0", "12345:54321"])
def test_much_output_arrives_whole(containerd: Daemon, guest: Callable[[str], Path], user: str) -> None:
    """Ten megabytes, also of a user who does not own the FIFO."""
    image = containerd.load(kit_image(guest, name=f"localhost/user-{user[0]}:1", user=user))
    command = words(containerd, image, APP, "out", str(MUCH))
    with containerd.ctr(*command, stdout=subprocess.PIPE) as ctr:
        assert ctr.stdout
        assert read_to_end(ctr.stdout.fileno()) == pattern(MUCH)
        assert ctr.wait(DEADLINE) == 0


def test_both_outputs(containerd: Daemon, kit: Image) -> None:
    """Each goes where it belongs, also without a newline at the end."""
    for program in (APP, COMPONENT):
        done = run(containerd, kit, program, "noeol")
        assert (done.returncode, done.stdout, without_log(done.stderr)) == (0, "no newline", "err no newline")


def test_input(containerd: Daemon, kit: Image) -> None:
    """What is piped into ctr comes out of the guest, and the end of the one ends the other.

    The end comes after something was echoed: ctr forgets one that it meets before its task is made.
    """
    for program in (APP, COMPONENT):
        command = words(containerd, kit, program, "cat")
        with containerd.ctr(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ctr:
            assert ctr.stdin
            assert ctr.stdout
            os.write(ctr.stdin.fileno(), b"first\n")
            assert wait_for(ctr.stdout.fileno(), b"first\n") == b"first\n"
            os.write(ctr.stdin.fileno(), b"second, no newline")
            ctr.stdin.close()
            assert read_to_end(ctr.stdout.fileno()) == b"second, no newline"
            assert ctr.wait(DEADLINE) == 0


@one_release
def test_much_input(containerd: Daemon, kit: Image) -> None:
    """More than any pipe holds, there and back."""
    text = "0123456789abcdef" * (MUCH // 16)
    command = words(containerd, kit, APP, "cat")
    with containerd.ctr(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ctr:
        said, _ = ctr.communicate(text, DEADLINE)
    assert (ctr.returncode, said) == (0, text)


@one_release
@both_kinds
def test_no_input(containerd: Daemon, kit: Image, program: str) -> None:
    """Where nobody gives input it ends at once; what is written goes nowhere."""
    done = run(containerd, kit, program, "cat", options=["--null-io"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(containerd, kit, program, "err", options=["--null-io"]).returncode == (3 if program == APP else 1)


# Files


def test_log_file(containerd: Daemon, kit: Image) -> None:
    """`--log-uri file://` makes the file with its directory; all is in it when the exit is told, from both outputs."""
    log = containerd.directory / "tmp" / containerd.new_id() / "log"
    with Events(containerd) as events:
        for command in (["noeol"], ["out", str(MUCH)]):
            name = containerd.new_id()
            options = ["--detach", "--log-uri", f"file://{log}"]
            containerd.run(*containerd.container(kit, name, APP, *command, options=options))
            events.wait_for_topic(name, "/tasks/exit")
            if command == ["noeol"]:
                assert log.read_text() in ("no newlineerr no newline", "err no newlineno newline")
                log.write_text("")
    assert log.read_bytes() == pattern(MUCH)


@one_release
def test_log_program_is_refused(containerd: Daemon, kit: Image) -> None:
    """A program for logs is not served, and that is said."""
    done = run(containerd, kit, options=["--log-uri", "binary:///usr/bin/logger"])
    [line] = done.stderr.splitlines()
    assert "wasm-shim knows fifo:// and file://; use one of them" in line


# Terminals


@contextmanager
def on_terminal(containerd: Daemon, image: Image, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A container of `ctr run --tty` that has been started, and the other side of ctr's terminal."""
    name = containerd.new_id()
    command = containerd.container(image, name, *arguments, options=["--rm", "--tty"])
    master, slave = os.openpty()
    modes = termios.tcgetattr(slave)
    modes[1] = 0  # of its output: ctr leaves it as it is, and the guest's terminal has ended the lines already
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    try:
        with Events(containerd) as events:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
            with containerd.ctr(*command, **streams, start_new_session=True) as ctr:
                os.close(slave)
                try:
                    events.wait_for_topic(name, "/tasks/start")  # ctr has made its terminal raw by then
                    yield ctr, master
                finally:
                    ctr.kill()
    finally:
        os.close(master)


def test_terminal(containerd: Daemon, kit: Image) -> None:
    """The guest has one of its own on all three; a line is echoed and read, the interrupt key ends it."""
    with on_terminal(containerd, kit, APP, "tty") as (ctr, terminal):
        wait_for(terminal, b"1 1 1\r\n")
        assert ctr.wait(DEADLINE) == 0
    with on_terminal(containerd, kit, APP, "cat") as (ctr, terminal):
        os.write(terminal, b"line\n")
        wait_for(terminal, b"line\r\nline\r\n")
        os.write(terminal, b"\x03")
        assert ctr.wait(DEADLINE) == 128 + signal.SIGINT


@one_release
@both_kinds
def test_terminal_ends(containerd: Daemon, kit: Image, program: str) -> None:
    """The key for the end of input ends what reads it; much output comes through whole."""
    with on_terminal(containerd, kit, program, "cat") as (ctr, terminal):
        os.write(terminal, b"line\n\x04")
        wait_for(terminal, b"line\r\nline\r\n")
        assert ctr.wait(DEADLINE) == 0
    with on_terminal(containerd, kit, program, "out", "300000") as (ctr, terminal):
        whole = pattern(300000).replace(b"\n", b"\r\n")
        assert read_to_end(terminal) == whole
        assert ctr.wait(DEADLINE) == 0


def has_size(pid: int, size: tuple[int, int]) -> bool:
    """Whether a process's terminal has so many rows and columns."""
    terminal = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NOCTTY)
    try:
        return termios.tcgetwinsize(terminal) == size
    finally:
        os.close(terminal)


@one_release
def test_guest_on_a_terminal_outlives_its_client(containerd: Daemon, kit: Image) -> None:
    """Killed in the middle of output, ctr leaves a guest that can be ended and deleted."""
    with on_terminal(containerd, kit, APP, "out", str(MUCH)) as (ctr, terminal):
        assert os.read(terminal, 1 << 16)
        ctr.kill()
    [line] = containerd.run("task", "list").stdout.splitlines()[1:]
    assert line.split()[2] == "RUNNING"
    containerd.run("task", "kill", "--signal", "SIGKILL", line.split()[0])
    containerd.run("task", "delete", "--force", line.split()[0])


@one_release
def test_terminal_has_the_size_of_the_clients(containerd: Daemon, kit: Image) -> None:
    """From the start, and when it changes."""
    with on_terminal(containerd, kit, APP, "cat") as (ctr, terminal):
        [pid] = [int(line.split()[1]) for line in containerd.run("task", "list").stdout.splitlines()[1:]]
        for size in ((24, 80), (50, 132)):
            termios.tcsetwinsize(terminal, size)
            ctr.send_signal(signal.SIGWINCH)
            wait_until(functools.partial(has_size, pid, size))
        os.write(terminal, b"\x04")
        assert ctr.wait(DEADLINE) == 0


# Clients that come and go


@contextmanager
def open_input() -> Iterator[int]:
    """Input in which nothing comes: at its end, ctr would close the guest's, too."""
    ours, theirs = os.pipe()
    try:
        yield ours
    finally:
        os.close(ours)
        os.close(theirs)


def test_guest_outlives_its_client(containerd: Daemon, kit: Image) -> None:
    """ctr is killed while the guest writes: it writes on to the next client, nothing of it is lost in between."""
    name = containerd.new_id()
    command = containerd.container(kit, name, APP, "out", str(MUCH))
    with containerd.ctr(*command, stdout=subprocess.PIPE) as ctr:
        assert ctr.stdout
        begin = os.read(ctr.stdout.fileno(), 1 << 16)
        assert begin == pattern(len(begin))
        ctr.kill()
    assert containerd.run("task", "list").stdout.split()[-1] == "RUNNING"
    with containerd.ctr("task", "attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout
        rest = read_to_end(client.stdout.fileno())
        assert client.wait(DEADLINE) == 0
    assert pattern(MUCH).endswith(rest)
    assert len(rest) > MUCH - (1 << 22)  # what ctr had read and not passed on is gone with it
    containerd.run("container", "delete", name)  # the task was deleted by the client that saw its end


def test_attach(containerd: Daemon, kit: Image) -> None:
    """One client after the other talks to the same guest; the guest does not notice."""
    name = containerd.new_id()
    with open_input() as stdin:
        containerd.run(*containerd.container(kit, name, APP, "cat", options=["--detach"]), stdin=stdin)
    pid = pid_of(containerd, name)
    for text in (b"first\n", b"second\n"):
        with containerd.ctr("task", "attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin
            assert client.stdout
            os.write(client.stdin.fileno(), text)
            assert wait_for(client.stdout.fileno(), text) == text
            client.kill()
    assert pid_of(containerd, name) == pid
    containerd.run("task", "kill", name)


@one_release
def test_attach_tells_the_code(containerd: Daemon, kit: Image) -> None:
    """Who attaches gets the exit code, too."""
    name = containerd.new_id()
    with open_input() as stdin:
        containerd.run(*containerd.container(kit, name, APP, "cat", options=["--detach"]), stdin=stdin)
    with containerd.ctr("task", "attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin
        assert client.stdout
        os.write(client.stdin.fileno(), b"attached\n")
        wait_for(client.stdout.fileno(), b"attached\n")
        containerd.run("task", "kill", name)
        assert client.wait(DEADLINE) == 128 + signal.SIGTERM

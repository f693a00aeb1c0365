"""Where a guest's input comes from: nowhere unless -i is given, else a pipe, a file, a socket, a terminal."""

import hashlib
import os
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import (
    DEADLINE,
    Environment,
    leftovers,
    on_terminal,
    read_soon,
    read_to_end,
    started,
    wait_for,
    wait_ready,
    wasm_shim,
)

Guest = Callable[[str], Path]

GIB = 1 << 30
# Writes a GiB of blocks, each different, and their sha256 to stderr.
PRODUCER = """
import hashlib, random, sys
block, sha256 = random.Random(7).randbytes((1 << 20) - 8), hashlib.sha256()
for number in range(1024):
    for part in (number.to_bytes(8, "big"), block):
        sha256.update(part)
        sys.stdout.buffer.write(part)
sys.stdout.buffer.close()
sys.stderr.write(sha256.hexdigest())
"""


@pytest.fixture(params=["kit_p1.wasm", "kit_p2.wasm"])
def kit(request: pytest.FixtureRequest, guest: Guest) -> Path:
    """The program kit, for WASI 0.1 and 0.2."""
    return guest(request.param)


def test_without_i_input_ends_at_once(home: Environment, kit: Path) -> None:
    """Without -i the guest reads the end at once, though the caller's stdin is open and has something to say."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as ours, os.fdopen(writer, "wb", buffering=0) as theirs:
        theirs.write(b"not for the guest")
        done = wasm_shim(home, "run", "--rm", kit, "cat", stdin=ours)
        assert (done.returncode, done.stdout) == (0, "")
        assert ours.read(64) == b"not for the guest"


def test_pipe_is_passed_on(home: Environment, kit: Path) -> None:
    """With -i the guest reads what the caller pipes in, to its end."""
    done = wasm_shim(home, "run", "--rm", "-i", kit, "cat", input="one\ntwo, no newline")
    assert (done.returncode, done.stdout) == (0, "one\ntwo, no newline")


def test_input_is_passed_on_as_it_comes(home: Environment, kit: Path) -> None:
    """The guest sees a line when it is written, not when the input ends."""
    with started(home, "run", "--rm", "-i", kit, "cat", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for line in (b"first\n", b"second\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert wait_for(process.stdout.fileno(), line) == line
        process.stdin.close()
        assert process.wait(DEADLINE) == 0


def test_file_is_read_from_the_shared_offset_on(home: Environment, kit: Path, tmp_path: Path) -> None:
    """Of a file as stdin the guest reads what is behind the caller's offset, which then stands at the end."""
    path = tmp_path / "in"
    path.write_bytes(b"seen before\n" + b"x" * 1_000_000)
    with path.open("rb", buffering=0) as file:
        file.seek(12)
        done = wasm_shim(home, "run", "--rm", "-i", kit, "cat", stdin=file)
        assert (done.returncode, done.stdout) == (0, "x" * 1_000_000)
        assert file.tell() == 1_000_012


def test_dev_null_ends_at_once(home: Environment, kit: Path) -> None:
    """/dev/null as stdin is an empty input."""
    done = wasm_shim(home, "run", "--rm", "-i", kit, "cat", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "")


def test_socket_is_passed_on(home: Environment, kit: Path) -> None:
    """A socket as stdin is read until its other side ends; it may be stdout at the same time."""
    ours, theirs = socket.socketpair()
    with ours, started(home, "run", "--rm", "-i", kit, "cat", stdin=theirs, stdout=theirs) as process:
        theirs.close()
        ours.sendall(b"over a socket\n")
        assert wait_for(ours.fileno(), b"\n") == b"over a socket\n"
        ours.shutdown(socket.SHUT_WR)
        assert read_to_end(ours.fileno()) == b""
        assert process.wait(DEADLINE) == 0


def test_terminal_is_passed_on_by_lines(home: Environment, kit: Path) -> None:
    """With -i on a terminal the caller's line editing works, and Ctrl-D ends the input."""
    with on_terminal(home, "run", "--rm", "-i", kit, "cat", stdout=subprocess.PIPE) as (process, terminal):
        assert process.stdout
        os.write(terminal, b"tyop\x7f\x7f\x7f\x7fline\n\x04")
        assert read_to_end(process.stdout.fileno()) == b"line\n"
        assert process.wait(DEADLINE) == 0


def test_terminal_keeps_its_settings(home: Environment, kit: Path) -> None:
    """Without -t the caller's terminal is never changed."""
    with on_terminal(home, "run", "--rm", "-i", kit, "block") as (process, terminal):
        before = termios.tcgetattr(terminal)
        wait_for(terminal, b"ready")
        assert termios.tcgetattr(terminal) == before
        os.write(terminal, b"\x04")
        assert process.wait(DEADLINE) == 0


def test_guest_that_does_not_read_can_end(home: Environment, kit: Path) -> None:
    """A guest that ends without reading its input is not waited for: the run ends with it."""
    with started(home, "run", "--rm", "-i", kit, "hello", stdin=subprocess.PIPE) as process:
        assert process.wait(DEADLINE) == 0
    ours, theirs = socket.socketpair()
    with ours, theirs, started(home, "run", "--rm", "-i", kit, "hello", stdin=theirs) as process:
        ours.sendall(b"x" * 1000)
        assert process.wait(DEADLINE) == 0
    assert leftovers(home) == []


def test_closed_input_ends_a_waiting_guest(home: Environment, kit: Path) -> None:
    """A guest that waits for input ends when the caller closes it."""
    with started(home, "run", "--rm", "-i", kit, "block", stdin=subprocess.PIPE) as process:
        wait_ready(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(DEADLINE) == 0


def test_gibibyte_through_pipes_is_unharmed(home: Environment, kit: Path) -> None:
    """1 GiB through `… | wasm-shim run -i cat | …` arrives byte for byte."""
    with (
        subprocess.Popen([sys.executable, "-c", PRODUCER], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as producer,
        started(home, "run", "--rm", "-i", kit, "cat", stdin=producer.stdout) as process,
    ):
        assert producer.stdout
        assert producer.stderr
        assert process.stdout
        producer.stdout.close()
        size, sha256 = 0, hashlib.sha256()
        while part := read_soon(process.stdout.fileno()):
            size += len(part)
            sha256.update(part)
        assert size == GIB
        assert process.wait(DEADLINE) == 0
        assert producer.stderr.read().decode() == sha256.hexdigest()

"""Where a guest's output goes: files, sockets, pipes, devices, a terminal; nothing is lost or changed on the way."""

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from tests.integration.support import (
    DEADLINE,
    Environment,
    leftovers,
    on_terminal,
    read_to_end,
    refusal,
    started,
    wasm_shim,
)

Guest = Callable[[str], Path]

KITS = ["kit_p1.wasm", "kit_p2.wasm"]
WRITE_FAILED = {"kit_p1.wasm": 5, "kit_p2.wasm": 1}  # the exit code of kit when it cannot write

# Writes "out" to stdout and "err" to stderr by turns, a thousand times.
TURNS = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00\\14\\00\\00\\00\\04\\00\\00\\00out\\0aerr\\0a")
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
      (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 32)))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
"""


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest, guest: Guest) -> Path:
    """The program kit, for WASI 0.1 and 0.2."""
    return guest(request.param)


@pytest.fixture
def turns(tmp_path: Path) -> Path:
    """A program that writes to stdout and stderr by turns."""
    path = tmp_path / "turns.wasm"
    path.write_bytes(wasmtime.wat2wasm(TURNS))
    return path


def pattern(size: int) -> bytes:
    """What `kit out SIZE` writes."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_appending_to_a_file_keeps_what_is_there_and_the_order(home: Environment, turns: Path, tmp_path: Path) -> None:
    """`>> file 2>&1` adds both outputs in the order in which the guest wrote them, behind what was there."""
    log = tmp_path / "log"
    log.write_bytes(b"earlier\n")
    for _ in range(2):
        with log.open("ab") as file:
            assert wasm_shim(home, "run", "--rm", turns, stdout=file, stderr=subprocess.STDOUT).returncode == 0
    assert log.read_bytes() == b"earlier\n" + b"out\nerr\n" * 2000


def test_one_pipe_for_both_outputs_keeps_the_order(home: Environment, turns: Path) -> None:
    """`2>&1 | …` passes both outputs on in the order in which the guest wrote them."""
    done = wasm_shim(home, "run", "--rm", turns, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == "out\nerr\n" * 1000


def test_file_is_written_from_the_shared_offset_on(home: Environment, kit: Path, tmp_path: Path) -> None:
    """Of a file that others write, too, the guest's output begins and ends where the caller's offset is."""
    log = tmp_path / "log"
    with log.open("wb", buffering=0) as file:
        file.write(b"before\n")
        wasm_shim(home, "run", "--rm", kit, stdout=file, stderr=subprocess.PIPE)
        file.write(b"after\n")
    assert log.read_bytes() == b"before\nhello from kit\nafter\n"


def test_large_output_to_a_file_is_unharmed(home: Environment, kit: Path, tmp_path: Path) -> None:
    """64 MiB to a regular file arrive byte for byte."""
    size, path = 64 << 20, tmp_path / "out"
    with path.open("wb") as file:
        assert wasm_shim(home, "run", "--rm", kit, "out", str(size), stdout=file).returncode == 0
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(pattern(size)).digest()


def test_large_output_to_a_socket_is_unharmed(home: Environment, kit: Path) -> None:
    """16 MiB to a socket arrive byte for byte, however slowly the other side reads."""
    size = 16 << 20
    ours, theirs = socket.socketpair()
    with ours, started(home, "run", "--rm", kit, "out", str(size), stdout=theirs) as process:
        theirs.close()
        assert read_to_end(ours.fileno()) == pattern(size)
        assert process.wait(DEADLINE) == 0


def test_closed_socket_ends_the_run(home: Environment, kit: Path) -> None:
    """When the other side of a socket has gone, the guest gets an error and the run ends by itself."""
    ours, theirs = socket.socketpair()
    with started(home, "run", "--rm", kit, "out", str(1 << 40), stdout=theirs, stderr=subprocess.DEVNULL) as process:
        theirs.close()
        ours.recv(10)
        ours.close()
        assert process.wait(DEADLINE) == WRITE_FAILED[kit.name]
    assert leftovers(home) == []


def test_closed_pipe_ends_the_run(home: Environment, kit: Path) -> None:
    """When a reader such as `head` has enough, the guest gets an error and the run ends by itself."""
    with started(home, "run", "--rm", kit, "out", str(1 << 40), stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(DEADLINE) == WRITE_FAILED[kit.name]
    assert leftovers(home) == []


def test_dev_null_takes_everything(home: Environment, kit: Path) -> None:
    """With /dev/null as stdout a run ends with its own exit code."""
    assert wasm_shim(home, "run", "--rm", kit, "out", "10000000", stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("size", ["1", "10000000"])
def test_full_disk_is_an_error(home: Environment, kit: Path, size: str) -> None:
    """Output that finds no space is not lost in silence: a line of ours says so, and the exit code is ours."""
    with Path("/dev/full").open("wb") as full:
        done = wasm_shim(home, "run", "--rm", kit, "out", size, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    *guests, ours = done.stderr.splitlines()
    assert guests in ([], ["write: Broken pipe"])
    assert ours.startswith("wasm-shim: ")
    assert "No space left on device" in ours
    assert leftovers(home) == []


@pytest.mark.parametrize("words", [["version"], ["ps"]], ids=" ".join)
def test_full_disk_is_an_error_of_other_verbs(home: Environment, words: list[str]) -> None:
    """A verb that cannot write what it has to say ends with one line and our exit code."""
    with Path("/dev/full").open("wb") as full:
        done = wasm_shim(home, *words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert "No space left on device" in refusal(done)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_descriptor_is_harmless(home: Environment, kit: Path, closed: int) -> None:
    """A run whose stdin, stdout or stderr is closed (`<&-`, `>&-`, `2>&-`) works as with /dev/null there."""
    words = ["wasm-shim", "run", "--rm", "-i", str(kit), "noeol"]
    command = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *words]
    done = subprocess.run(command, env=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0
    assert done.stdout == ("" if closed == 1 else "no newline")
    assert done.stderr == ("" if closed == 2 else "err no newline")


def test_last_line_without_newline_reaches_a_pipe(home: Environment, kit: Path) -> None:
    """Output that does not end with a newline is complete on both streams."""
    done = wasm_shim(home, "run", "--rm", kit, "noeol")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no newline", "err no newline")


def test_last_line_without_newline_reaches_a_file(home: Environment, kit: Path, tmp_path: Path) -> None:
    """Output that does not end with a newline is complete in files."""
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        assert wasm_shim(home, "run", "--rm", kit, "noeol", stdout=out_file, stderr=err_file).returncode == 0
    assert (out.read_text(), err.read_text()) == ("no newline", "err no newline")


def test_terminal_gets_everything(home: Environment, kit: Path) -> None:
    """On a terminal without -t both outputs are complete, each line ending as the terminal wants it."""
    with on_terminal(home, "run", "--rm", kit, "err") as (process, terminal):
        assert read_to_end(terminal) == b"to stderr\r\n"
        assert process.wait(DEADLINE) == (3 if kit.name == "kit_p1.wasm" else 1)


def test_guest_on_a_terminal_without_t_sees_no_terminal(home: Environment, kit: Path) -> None:
    """Only -t makes the guest's stdio a terminal."""
    with on_terminal(home, "run", "--rm", "-i", kit, "tty") as (process, terminal):
        assert read_to_end(terminal) == b"0 0 0\r\n"
        assert process.wait(DEADLINE) == 0


def test_caller_keeps_blocking_descriptors(home: Environment, kit: Path) -> None:
    """A pipe, a socket and a terminal that the caller shares with us are as blocking after the run as before."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs, os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        for descriptor in (theirs.fileno(), writer):
            assert wasm_shim(home, "run", "--rm", kit, stdout=descriptor, stderr=subprocess.PIPE).returncode == 0
            assert os.get_blocking(descriptor)

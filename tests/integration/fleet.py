"""Containers of the wasm shim on a private containerd: begun in numbers, asked for, and seen from outside."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.containerd.daemon import WASM, Daemon
from tests.containerd.images import Image, wasm_image
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import RpcError
from wasm_shim.ttrpc.protobuf import Message

KIT: Final = "/app.wasm"  # the program of tests/guests/kit.c
CODE: Final = "/byte.wat"  # waits for a byte on stdin and ends with its value
_CODE = b"""(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")  ;; one buffer: at 16, of 1 byte
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.load8_u (i32.const 16)))))
"""
_AT_ONCE = 4  # calls of ctr at a time
DEADLINE = 30  # seconds for an answer of a shim


class Row(NamedTuple):
    """A line of `ctr task list`."""

    pid: int
    status: str  # RUNNING, STOPPED, …


def fleet_image(guest: Callable[[str], Path]) -> Image:
    """An image with KIT and CODE."""
    return wasm_image("localhost/fleet:1", {KIT: guest("kit_p1.wasm"), CODE: _CODE}, [KIT])


class Fleet:
    """The containers of one image on one containerd."""

    def __init__(self, daemon: Daemon, image: Image, runtime: str = WASM) -> None:
        self.daemon, self._image, self._runtime = daemon, daemon.load(image), runtime

    def words(self, id_: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """The words of `ctr run`."""
        return self.daemon.container(self._image, id_, *arguments, runtime=self._runtime, options=options)

    def begin(self, *arguments: str, id_: str = "", options: Sequence[str] = ()) -> str:
        """A container that runs on when ctr has gone; its id. Its stdin is a FIFO that stays open."""
        id_ = id_ or self.daemon.new_id()
        self._detach(self.words(id_, *arguments, options=["--detach", *options]))
        return id_

    def begin_all(self, count: int, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """Many of them, some at a time."""
        ids = [self.daemon.new_id() for _ in range(count)]
        in_parallel(lambda id_: self.begin(*arguments, id_=id_, options=options), ids, _AT_ONCE)
        return ids

    def create(self, *arguments: str, id_: str = "", options: Sequence[str] = ()) -> str:
        """A task that is created and not started: ctr gives up between the two, as it cannot write the pid."""
        id_ = id_ or self.daemon.new_id()
        options = ["--detach", "--pid-file", f"{self.daemon.directory}/missing/pid", *options]
        failed = self._detach(self.words(id_, *arguments, options=options), check=False)
        assert "missing" in failed.stderr, failed.stderr
        return id_

    def run(self, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """A container's whole life; without arguments it greets."""
        words = self.words(self.daemon.new_id(), *(arguments or (KIT, "hello")), options=["--rm", *options])
        return self.daemon.run(*words)

    def _detach(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        with open_pipe() as stdin:  # at the end of its stdin, ctr would close the container's
            streams = {"stdin": stdin, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            return self.daemon.run(*words, **streams | options)

    def list(self) -> dict[str, Row]:
        """What `ctr task list` says."""
        rows = [line.split() for line in self.daemon.run("task", "list").stdout.splitlines()[1:]]
        return {id_: Row(int(pid), status) for id_, pid, status in rows}

    def delete(self, *ids: str, options: Sequence[str] = ()) -> None:
        """Delete tasks that have ended, and then their containers."""
        self.daemon.run("task", "delete", *options, *ids)
        self.daemon.run("container", "delete", *ids)

    def fifo(self, id_: str, stream: str) -> Path:
        """One of the three that ctr has made for it."""
        [path] = (self.daemon.directory / "fifo").glob(f"*/{id_}-{stream}")
        return path

    def end(self, id_: str, code: int) -> None:
        """Have a container that runs CODE end with this code."""
        self.fifo(id_, "stdin").write_bytes(bytes([code]))

    def address(self, id_: str) -> str:
        """The path of the socket of its shim, from what containerd keeps."""
        bundle = self.daemon.directory / "state/io.containerd.runtime.v2.task" / self.daemon.namespace / id_
        return (bundle / "address").read_text(encoding="utf-8").removeprefix("unix://")


def settle(daemon: Daemon) -> None:
    """Wait until nothing is left of what has ended: containerd may be about to run `delete`."""
    end = time.monotonic() + DEADLINE
    while left := daemon.leftovers():
        assert time.monotonic() < end, f"left: {left}"


def in_parallel(call: Callable[[str], Any], ids: Iterable[str], at_once: int) -> list[Any]:
    """What a function gives for each of these."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(call, ids))


@contextlib.contextmanager
def open_pipe() -> Iterator[int]:
    """The reading end of a pipe in which nothing comes."""
    ends = os.pipe()
    try:
        yield ends[0]
    finally:
        for descriptor in ends:
            os.close(descriptor)


# Shims


def sockets(daemon: Daemon) -> list[Path]:
    """The sockets of its shims."""
    return sorted((daemon.shim_root / "s").glob("*"))


def shims(daemon: Daemon) -> list[int]:
    """The pids of its shims, in the order of their sockets: who listens on these."""
    return [_listener(path) for path in sockets(daemon)]


def _listener(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)


class Shim:
    """Calls of the Task service of one shim, as containerd makes them; a context manager."""

    def __init__(self, address: str) -> None:
        """`address` is the path of its socket."""
        self._loop = EventLoop()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        self._client = Client(self._loop, connection)

    def __enter__(self) -> "Shim":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._loop.close()

    def begin(self, method: str, request: Message) -> Callable[[], bytes]:
        """Call; the answer comes from what is returned, which raises RpcError where that is an error."""
        answers: list[tuple[bytes | None, RpcError | None]] = []

        def answered(payload: bytes | None, error: RpcError | None) -> None:
            answers.append((payload, error))
            self._loop.stop()

        def result() -> bytes:
            while not answers:
                self._loop.run()
            [(payload, error)] = answers
            if error:
                raise error
            return payload or b""

        self._client.call(messages.TASK_SERVICES[0], method, request.encode(), answered, DEADLINE)
        return result

    def call(self, method: str, request: Message) -> bytes:
        """The answer; raises RpcError."""
        return self.begin(method, request)()

    def refused(self, method: str, request: Message) -> tuple[int, str]:
        """Code and message of the error that answers."""
        with pytest.raises(RpcError) as caught:
            self.call(method, request)
        return caught.value.code, caught.value.message

"""Copying between descriptors of every kind on the event loop."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from wasm_shim.copier import Copier, own_description
from wasm_shim.eventloop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = 4096
LOTS = bytes(range(251)) * 4001  # about a megabyte: many times what a pipe holds


class Bench:
    """A loop, and descriptors that are closed at the end."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.open: list[int] = []
        self.ends = 0

    def pipe(self, size: int = PAGE) -> tuple[int, int]:
        """A pipe whose writer does not block."""
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
        os.set_blocking(writer, False)
        self.open += [reader, writer]
        return reader, writer

    def sockets(self) -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        self.open += [ours.detach(), theirs.detach()]
        return self.open[-2], self.open[-1]

    def file(self, path: Path, content: bytes = b"") -> int:
        path.write_bytes(content)
        self.open.append(os.open(path, os.O_RDWR))
        return self.open[-1]

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        os.close(descriptor)

    def copy(self, source: int, sink: int) -> Copier:
        return Copier(self.loop, source, sink, self._ended)

    def _ended(self) -> None:
        self.ends += 1
        self.loop.stop()

    def feed(self, writer: int, data: bytes) -> None:
        """Write all of it from the loop, then close."""
        left = memoryview(data)

        def write() -> None:
            nonlocal left
            left = left[os.write(writer, left) :]
            if not left:
                self.loop.unwatch_write(writer)
                self.close(writer)

        self.loop.watch_write(writer, write)

    def drain(self, reader: int, got: bytearray, at_once: int = 1 << 16) -> None:
        """Read from the loop, so much at once, until the end."""

        def read() -> None:
            data = os.read(reader, at_once)
            got.extend(data)
            if not data:
                self.loop.unwatch_read(reader)

        self.loop.watch_read(reader, read)

    def turn(self) -> None:
        """Let the loop turn a few times."""
        for _ in range(3):
            self.loop.call_soon(self.loop.stop)
            self.loop.run()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for descriptor in made.open:
        os.close(descriptor)
    made.loop.close()


PAIRS = pytest.mark.parametrize("pair", [Bench.pipe, Bench.sockets], ids=["pipe", "socket"])


@PAIRS
def test_copies_everything(bench: Bench, pair: Callable[[Bench], tuple[int, int]]) -> None:
    """Every byte arrives in order, and the end is told once, after the last of them."""
    reader, writer = bench.pipe()
    sink_reader, sink = pair(bench)
    got = bytearray()
    bench.copy(reader, sink)
    bench.feed(writer, LOTS)
    bench.drain(sink_reader, got, at_once=1000)
    bench.loop.run()
    bench.close(sink)
    while not got.endswith(LOTS[-1:]) or len(got) < len(LOTS):
        bench.turn()
    assert bytes(got) == LOTS
    assert bench.ends == 1


def test_slow_reader_stops_the_source(bench: Bench) -> None:
    """While nobody reads, no more is taken from the source than fits, and the copier does not spin."""
    reader, writer = bench.pipe()
    sink_reader, sink = bench.pipe()
    bench.copy(reader, sink)
    taken = 0
    for _ in range(10):
        try:
            taken += os.write(writer, bytes(PAGE))
        except BlockingIOError:
            break
        bench.turn()
    assert taken == 3 * PAGE  # one in the sink, one in the copier, one in the source
    calls: list[int] = []
    bench.loop.call_later(0.01, bench.loop.stop)
    bench.loop.watch_read(sink_reader, lambda: calls.append(os.read(sink_reader, PAGE).count(0)))
    bench.loop.run()
    assert sum(calls) == taken


@PAIRS
def test_reader_gone_ends(bench: Bench, pair: Callable[[Bench], tuple[int, int]]) -> None:
    """A sink that nobody reads any more ends the copying without a signal, and the source is left alone."""
    reader, writer = bench.pipe()
    sink_reader, sink = pair(bench)
    bench.close(sink_reader)
    bench.copy(reader, sink)
    os.write(writer, b"x")
    bench.loop.run()
    assert bench.ends == 1
    os.write(writer, b"y")
    bench.turn()
    assert os.read(reader, 10) == b"y"


def test_reader_that_goes_while_it_is_waited_for(bench: Bench) -> None:
    """The same for a reader that stops reading first and goes then."""
    reader, writer = bench.pipe()
    sink_reader, sink = bench.pipe()
    bench.copy(reader, sink)
    for _ in range(2):
        os.write(writer, bytes(PAGE))
        bench.turn()
    bench.close(sink_reader)
    bench.loop.run()
    assert bench.ends == 1


def test_copies_from_a_file_to_a_file(bench: Bench, tmp_path: Path) -> None:
    """Files, which cannot be waited for, are copied to their end."""
    source, sink = bench.file(tmp_path / "a", LOTS), bench.file(tmp_path / "b")
    bench.copy(source, sink)
    bench.loop.run()
    assert (tmp_path / "b").read_bytes() == LOTS
    assert bench.ends == 1


def test_copies_from_a_file_to_a_slow_reader(bench: Bench, tmp_path: Path) -> None:
    """A file waits for its reader, too."""
    reader, sink = bench.pipe()
    got = bytearray()
    bench.copy(bench.file(tmp_path / "a", LOTS), sink)
    bench.turn()
    bench.drain(reader, got, at_once=1000)
    bench.loop.run()
    bench.turn()
    assert bytes(got) == LOTS[: len(got)]
    assert len(LOTS) - len(got) <= PAGE


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_source_with_nothing_in_it(bench: Bench, path: str) -> None:
    """/dev/null and a directory are at their end at once."""
    source = os.open(path, os.O_RDONLY)
    bench.open.append(source)
    bench.copy(source, bench.pipe()[1])
    bench.loop.run()
    assert bench.ends == 1


def test_full_device_ends(bench: Bench) -> None:
    """A sink that takes nothing more, like a full disk, ends the copying."""
    reader, writer = bench.pipe()
    sink = os.open("/dev/full", os.O_WRONLY)
    bench.open.append(sink)
    bench.copy(reader, sink)
    os.write(writer, b"x")
    bench.loop.run()
    assert bench.ends == 1


def test_closed_terminal_is_an_end(bench: Bench) -> None:
    """A terminal whose other side has closed is at its end, after what it still held."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    bench.open += [master, slave]
    reader, sink = bench.pipe()
    os.write(slave, b"bye")
    bench.copy(master, sink)
    bench.close(slave)
    bench.loop.run()
    assert os.read(reader, 10) == b"bye"
    assert bench.ends == 1


def test_stopped_copier_is_silent(bench: Bench) -> None:
    """After stop nothing is copied and no end is told, even if it had come already."""
    reader, writer = bench.pipe()
    sink_reader, sink = bench.pipe()
    copier = bench.copy(reader, sink)
    os.write(writer, b"x")
    copier.stop()
    copier.stop()
    bench.turn()
    os.set_blocking(sink_reader, False)
    with pytest.raises(BlockingIOError):
        os.read(sink_reader, 1)
    assert os.read(reader, 1) == b"x"
    second = bench.copy(reader, sink)
    bench.close(writer)

    def end_and_stop() -> None:
        second._read()
        second.stop()
        bench.loop.stop()

    bench.loop.watch_read(reader, end_and_stop)
    bench.loop.run()
    bench.turn()
    assert bench.ends == 0


# Descriptors of our own


def test_own_description_leaves_the_other_blocking(bench: Bench) -> None:
    """A pipe is opened anew: ours does not block, and its other users do not notice."""
    _, writer = bench.pipe()
    os.set_blocking(writer, True)
    own = own_description(writer, os.O_WRONLY)
    bench.open.append(own)
    assert (os.get_blocking(own), os.get_blocking(writer), os.get_inheritable(own)) == (False, True, False)
    assert os.path.sameopenfile(own, writer)


def test_own_description_of_a_terminal(bench: Bench) -> None:
    """So is a terminal, which does not become ours."""
    bench.open += os.openpty()
    own = own_description(bench.open[-1], os.O_WRONLY)
    bench.open.append(own)
    assert (os.isatty(own), os.get_blocking(own), os.get_blocking(bench.open[-2])) == (True, False, True)


def test_own_description_of_others_is_a_duplicate(bench: Bench, tmp_path: Path) -> None:
    """A file or a socket is duplicated with its position: opening it anew would begin at its start."""
    file = bench.file(tmp_path / "a", b"abc")
    os.lseek(file, 2, os.SEEK_SET)
    bench.open.append(own_description(file, os.O_WRONLY))
    assert os.read(bench.open[-1], 9) == b"c"
    ours, theirs = bench.sockets()
    bench.open.append(own_description(ours, os.O_WRONLY))
    os.write(bench.open[-1], b"x")
    assert os.read(theirs, 9) == b"x"

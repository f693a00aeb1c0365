"""The event loop: descriptors, timers and queued calls, on real pipes and sockets."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from wasm_shim.eventloop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_reads_when_bytes_arrive(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """A read callback runs once the descriptor has bytes."""
    got: list[bytes] = []

    def read() -> None:
        got.append(pair[0].recv(10))
        loop.stop()

    loop.watch_read(pair[0].fileno(), read)
    loop.call_soon(lambda: pair[1].sendall(b"hello"))
    loop.run()
    assert got == [b"hello"]


def test_reports_both_sides_of_one_descriptor(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """A descriptor can be watched for reading and writing at once, and each watch ends by itself."""
    seen: list[str] = []

    def write() -> None:
        seen.append("write")
        loop.unwatch_write(pair[0].fileno())

    def read() -> None:
        seen.append("read")
        loop.stop()

    loop.watch_read(pair[0].fileno(), read)
    loop.watch_write(pair[0].fileno(), write)
    loop.call_later(0.001, lambda: pair[1].sendall(b"x"))
    loop.run()
    assert seen == ["write", "read"]


def test_reports_the_end_to_a_reader(loop: EventLoop) -> None:
    """The end of a pipe is something to read."""
    reader, writer = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        got.append(os.read(reader, 10))
        loop.stop()

    loop.watch_read(reader, read)
    os.close(writer)
    loop.run()
    loop.unwatch_read(reader)
    os.close(reader)
    assert got == [b""]


def test_reports_a_lost_reader_to_a_writer(loop: EventLoop) -> None:
    """A write watch fires when the pipe's reader has gone, although the pipe is full."""
    reader, writer = os.pipe()
    # A pipe of one page is full after one page.
    assert os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))) == 4096
    loop.watch_write(writer, loop.stop)
    os.close(reader)
    loop.run()
    loop.unwatch_write(writer)
    os.close(writer)


def test_removed_watch_does_not_fire_in_the_same_batch(loop: EventLoop) -> None:
    """Of two ready descriptors whose callbacks each remove the other, only one calls back."""
    one, other = socket.socketpair()
    fired: list[int] = []

    def read(mine: int, others: int) -> None:
        fired.append(mine)
        loop.unwatch_read(others)
        loop.call_soon(loop.stop)

    a, b = one.fileno(), other.fileno()
    with one, other:
        loop.watch_read(a, lambda: read(a, b))
        loop.watch_read(b, lambda: read(b, a))
        one.sendall(b"x")
        other.sendall(b"x")
        loop.run()
        assert len(fired) == 1


def test_reused_number_does_not_inherit_readiness(loop: EventLoop) -> None:
    """A descriptor opened during a batch, with the number of one that was ready, does not call back."""
    pairs = [socket.socketpair(), socket.socketpair()]
    fresh = os.pipe()
    reused: list[int] = []
    wrong: list[str] = []

    def replace(victim: socket.socket) -> Callable[[], None]:
        def read() -> None:
            if not reused:
                reused.append(victim.detach())
                loop.unwatch_read(reused[0])
                os.dup2(fresh[0], reused[0])
                loop.watch_read(reused[0], lambda: wrong.append("fired"))
            loop.call_soon(loop.stop)

        return read

    (first, feed_first), (second, feed_second) = pairs
    loop.watch_read(first.fileno(), replace(second))
    loop.watch_read(second.fileno(), replace(first))
    feed_first.sendall(b"x")
    feed_second.sendall(b"x")
    loop.run()
    assert len(reused) == 1
    assert wrong == []
    for end in (first, feed_first, second, feed_second):
        end.close()
    for number in (*fresh, *reused):
        os.close(number)


def test_watching_again_replaces_the_callback(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """The last callback given for a descriptor counts."""
    wrong: list[str] = []
    loop.watch_read(pair[0].fileno(), lambda: wrong.append("fired"))
    loop.watch_read(pair[0].fileno(), loop.stop)
    pair[1].sendall(b"x")
    loop.run()
    assert wrong == []


def test_unwatching_a_stranger_is_harmless(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """Unwatching a descriptor that is not watched does nothing."""
    loop.unwatch_read(pair[0].fileno())
    loop.unwatch_write(pair[0].fileno())


def test_rejects_regular_files(loop: EventLoop, tmp_path: Path) -> None:
    """A regular file is refused with a sentence, and the loop goes on."""
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(ValueError, match=f"descriptor {file.fileno()} is a regular file"):
            loop.watch_read(file.fileno(), loop.stop)
        loop.unwatch_read(file.fileno())
    loop.call_soon(loop.stop)
    loop.run()


def test_timers_fire_in_order_of_time(loop: EventLoop) -> None:
    """Timers run by their moment, not in the order in which they were made."""
    seen: list[int] = []
    loop.call_later(0.003, loop.stop)
    loop.call_later(0.002, lambda: seen.append(2))
    loop.call_later(0.001, lambda: seen.append(1))
    loop.run()
    assert seen == [1, 2]


def test_cancelled_timer_stays_silent(loop: EventLoop) -> None:
    """A timer can be cancelled, also by another one due at the same time, and cancelled again later."""
    wrong: list[str] = []
    loop.call_later(0, lambda: doomed.cancel())
    doomed = loop.call_later(0, lambda: wrong.append("fired"))
    stopper = loop.call_later(0.001, loop.stop)
    loop.run()
    stopper.cancel()
    doomed.cancel()
    assert wrong == []


def test_queued_calls_do_not_starve_descriptors(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """A call that queues itself for ever leaves descriptors their turn."""

    def again() -> None:
        loop.call_soon(again)
        pair[1].sendall(b"x")

    loop.call_soon(again)
    loop.watch_read(pair[0].fileno(), loop.stop)
    loop.run()


def test_stop_keeps_the_rest_for_the_next_run(loop: EventLoop) -> None:
    """What was queued behind a stop runs when the loop runs again."""
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: seen.append("queued"))
    loop.run()
    assert seen == []
    loop.call_soon(loop.stop)
    loop.run()
    assert seen == ["queued"]


def test_stop_before_run(loop: EventLoop) -> None:
    """A loop that was stopped before it runs returns at once, and can run again."""
    loop.stop()
    loop.run()
    loop.call_soon(loop.stop)
    loop.run()


def test_exception_reaches_the_caller(loop: EventLoop) -> None:
    """What a callback raises comes out of run, and the loop can go on."""

    def fail() -> None:
        raise KeyError("fault")

    loop.call_soon(fail)
    with pytest.raises(KeyError, match="fault"):
        loop.run()
    loop.call_soon(loop.stop)
    loop.run()


def test_child_closes_an_inherited_loop_harmlessly(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    """A forked child that closes the loop it inherited leaves the parent's watches alone."""
    loop.watch_read(pair[0].fileno(), loop.stop)
    child = os.fork()
    if child == 0:
        loop.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    pair[1].sendall(b"x")
    loop.run()

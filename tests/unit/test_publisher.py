"""Events on their way to a containerd that is there, away, busy, slow or gone."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.contracts.containerd_bench import Bench, unpacked
from tests.contracts.memory_runner import run_until
from wasm_shim.eventloop import EventLoop
from wasm_shim.guest import Image
from wasm_shim.log import Log
from wasm_shim.shim.publisher import LIMIT, EventPublisher
from wasm_shim.task.events import Created, Deleted, Exited, OutOfMemory, Paused, Resumed, Started
from wasm_shim.task.ports import Creation, Exit, RootMount
from wasm_shim.ttrpc import events
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Mount, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wasm_shim.task.events import TaskEvent
    from wasm_shim.ttrpc.server import Reply


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


CREATION = Creation(
    id="one",
    bundle="/b",
    image=Image("", ""),
    call="",
    terminal=True,
    stdin="/i",
    stdout="/o",
    stderr="",
    rootfs=(RootMount("overlay", "overlay", "", ("ro", "lowerdir=/l")),),
)
AT = Timestamp(seconds=1_500_000_000, nanos=500_000_000)
MESSAGES: list[tuple[TaskEvent, events.Event]] = [
    (
        Created(CREATION, 7),
        events.TaskCreate(
            container_id="one",
            bundle="/b",
            rootfs=[Mount(type="overlay", source="overlay", options=["ro", "lowerdir=/l"])],
            io=events.TaskIO(stdin="/i", stdout="/o", terminal=True),
            pid=7,
        ),
    ),
    (Started("one", 7), events.TaskStart(container_id="one", pid=7)),
    (Paused("one"), events.TaskPaused(container_id="one")),
    (Resumed("one"), events.TaskResumed(container_id="one")),
    (OutOfMemory("one"), events.TaskOOM(container_id="one")),
    (
        Exited("one", 7, Exit(137, 1.5e9 + 0.5)),
        events.TaskExit(container_id="one", id="one", pid=7, exit_status=137, exited_at=AT),
    ),
    (
        Deleted("one", 7, Exit(137, 1.5e9 + 0.5)),
        events.TaskDelete(container_id="one", pid=7, exit_status=137, exited_at=AT),
    ),
    (Deleted("one", 7, None), events.TaskDelete(container_id="one", pid=7)),
]


def test_every_event_has_its_message(bench: Bench) -> None:
    """Each event arrives in order with containerd's topic and fields, the namespace and the time."""
    containerd = bench.containerd()
    for event, _ in MESSAGES:
        bench.publisher.publish(event)
    bench.drain()
    assert [unpacked(envelope) for envelope in containerd.envelopes] == [message for _, message in MESSAGES]
    for envelope in containerd.envelopes:
        assert envelope.timestamp
        assert (envelope.namespace, envelope.timestamp.seconds > 1_700_000_000) == ("k8s.io", True)
    assert containerd.server.connections == 1


def test_one_at_a_time(bench: Bench) -> None:
    """The next event is sent when the one before was answered, so nothing can overtake."""
    containerd = bench.containerd()
    waiting: list[Reply] = []
    containerd.answer = waiting.append
    bench.publish("a", "b", "c")
    for number, ids in enumerate(("a", "ab", "abc"), start=1):
        bench.until(lambda expected=number: len(waiting) == expected)  # type: ignore[misc]
        assert "".join(containerd.ids) == ids
        waiting[-1].send(b"")
    bench.drain()


def test_waits_for_containerd(bench: Bench) -> None:
    """What happens before containerd listens is told when it does."""
    bench.publish("a", "b")
    tried: list[bool] = []
    bench.loop.call_later(0.15, lambda: tried.append(True))
    bench.until(lambda: bool(tried))
    containerd = bench.containerd()
    bench.publish("c")
    bench.drain()
    assert containerd.ids == ["a", "b", "c"]


def test_containerd_restarts(bench: Bench) -> None:
    """An event whose answer was lost with the connection is sent again to the next containerd, in order."""
    first = bench.containerd()
    first.answer = lambda _: first.hang_up()
    bench.publish("a", "b")
    bench.until(lambda: first.ids == ["a"] and not first.server.connections)
    second = bench.containerd()
    bench.drain()
    assert second.ids == ["a", "b"]


def test_idle_connection_that_was_closed(bench: Bench) -> None:
    """A connection that containerd closed while there was nothing to tell is made again, without a pause."""
    first = bench.containerd()
    bench.publish("a")
    bench.drain()
    first.close()
    second = bench.containerd()
    bench.publish("b")
    bench.drain()
    assert (first.ids, second.ids, bench.logged()) == (["a"], ["b"], "")


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED])
def test_containerd_that_is_busy_is_asked_again(bench: Bench, code: Code) -> None:
    """A refusal that may not last is no reason to lose an event."""
    containerd = bench.containerd()
    codes = [code, code]
    containerd.answer = lambda reply: reply.fail(codes.pop(), "not now") if codes else reply.send(b"")
    bench.publish("a", "b")
    bench.drain()
    assert containerd.ids == ["a", "a", "a", "b"]


def test_containerd_that_does_not_answer(bench: Bench) -> None:
    """An event without an answer in time is sent again over a new connection, and only what comes there counts."""
    containerd = bench.containerd()
    late: list[Reply] = []
    containerd.answer = late.append
    bench.publish("a", "b")
    bench.until(lambda: len(late) == 2)
    containerd.answer = lambda reply: reply.send(b"")
    for reply in late:
        reply.send(b"")
    bench.drain()
    assert containerd.ids == ["a", "a", "b"]
    assert containerd.server.connections == 1


def test_refused_event_is_lost_and_logged(bench: Bench) -> None:
    """What containerd cannot take is dropped, so that it does not hold up the others."""
    containerd = bench.containerd()
    refusals = [Code.INVALID_ARGUMENT]
    containerd.answer = lambda reply: reply.fail(refusals.pop(), "bad topic") if refusals else reply.send(b"")
    bench.publish("a", "b")
    bench.drain()
    assert containerd.ids == ["a", "b"]
    assert "containerd refused the event /tasks/paused, which is lost: bad topic" in bench.logged()


def test_oldest_are_dropped_beyond_the_limit(bench: Bench) -> None:
    """Memory is bounded: the newest are kept, and the number of the others is told once."""
    bench.publish(*(str(number) for number in range(LIMIT + 3)))
    containerd = bench.containerd()
    bench.drain()
    assert containerd.ids == [str(number) for number in range(3, LIMIT + 3)]
    assert bench.logged().count("3 events are lost") == 1


def test_long_absence_is_logged_once(bench: Bench) -> None:
    """After some attempts there is one line, not one per attempt; and the pauses grow."""
    bench.publish("a")
    attempts: list[str] = []

    def look() -> None:
        attempts.append(bench.logged())
        bench.loop.call_later(0.1, look)

    look()
    bench.until(lambda: len(attempts) == 16)
    assert "".join(attempts).count("cannot be told to containerd") == 1


def test_drain_is_bounded(bench: Bench) -> None:
    """Without containerd a drain ends when its time is over, and what waits is kept."""
    bench.publish("a")
    bench.drain(timeout=0.05)
    containerd = bench.containerd()
    bench.drain()
    assert containerd.ids == ["a"]


def test_several_drains(bench: Bench) -> None:
    """Everyone who waits is called once, also by a containerd that never answers."""
    containerd = bench.containerd()
    waiting: list[Reply] = []
    containerd.answer = waiting.append
    bench.publish("a")
    called: list[str] = []
    bench.publisher.drain(lambda: called.append("short"), 0.05)
    bench.publisher.drain(lambda: called.append("long"), 30)
    bench.until(lambda: called == ["short"])
    waiting[0].send(b"")
    bench.until(lambda: len(called) == 2)
    assert called == ["short", "long"]


def test_nobody_to_tell(tmp_path: Path) -> None:
    """Without an address events are forgotten, and a drain ends at once."""
    os.mkfifo(tmp_path / "log")
    loop = EventLoop()
    publisher = EventPublisher(loop, "", "default", Log(""))
    publisher.publish(Paused("a"))
    done: list[bool] = []
    publisher.drain(lambda: done.append(True), 30)
    run_until(loop, lambda: bool(done))
    publisher.close()
    loop.close()


def test_full_backlog_does_not_block(bench: Bench) -> None:
    """A containerd that accepts no connections holds up events, not the shim."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bench.path))
    listener.listen(0)
    others: list[socket.socket] = []
    while True:
        other = socket.socket(socket.AF_UNIX)
        other.setblocking(False)
        others.append(other)
        try:
            other.connect(str(bench.path))
        except BlockingIOError:
            break
    bench.publish("a")
    for other in others:
        other.close()
    listener.close()
    containerd = bench.containerd()
    bench.drain()
    assert containerd.ids == ["a"]


def test_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """An address that cannot be connected to is like a containerd that is away."""
    loop = EventLoop()
    publisher = EventPublisher(loop, f"{tmp_path}/{'x' * 200}", "default", Log(""))
    publisher.publish(Paused("a"))
    done: list[bool] = []
    publisher.drain(lambda: done.append(True), 0.2)
    run_until(loop, lambda: bool(done))
    publisher.close()
    loop.close()

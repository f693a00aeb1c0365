"""The side of containerd that events go to, on a socket of its own, and a publisher that tells it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from tests.contracts.memory_runner import run_until
from wasm_shim.eventloop import EventLoop
from wasm_shim.log import Log
from wasm_shim.shim.publisher import EventPublisher
from wasm_shim.task.events import Paused
from wasm_shim.ttrpc import events
from wasm_shim.ttrpc.server import Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS: dict[str, type[events.Event]] = {kind.TOPIC: kind for kind in events.Event.__subclasses__()}


class Containerd:
    """The service that takes events, on a socket; `answer` decides what becomes of each request."""

    def __init__(self, loop: EventLoop, path: Path) -> None:
        self.envelopes: list[events.Envelope] = []
        self.answer: Callable[[Reply], None] = lambda reply: reply.send(b"")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.server = Server(loop, listener, self._handle)
        self._loop, self._closed = loop, False

    def _handle(self, service: str, method: str, payload: bytes, reply: Reply) -> None:
        assert (service, method) == (events.EVENTS_SERVICE, "Forward")
        envelope = events.ForwardRequest.decode(payload).envelope
        assert envelope
        self.envelopes.append(envelope)
        self.answer(reply)

    def hang_up(self) -> None:
        """It stops, once; its connections end soon."""
        if not self._closed:
            self._closed = True
            self.server.close()

    def close(self) -> None:
        """It stops, and has no connections any more."""
        self.hang_up()
        run_until(self._loop, lambda: not self.server.connections)

    @property
    def ids(self) -> list[str]:
        """What the events are about, in the order of their arrival."""
        return [unpacked(envelope).container_id for envelope in self.envelopes]


def unpacked(envelope: events.Envelope) -> Any:
    """The event of an envelope."""
    kind = KINDS[envelope.topic]
    assert envelope.event
    assert envelope.event.type_url == f"containerd.events.{kind.__name__}"
    return kind.decode(envelope.event.value)


class Bench:
    """A publisher, its loop and its log, and the path where containerd may be."""

    def __init__(self, directory: Path) -> None:
        self.loop = EventLoop()
        self.path = directory / "containerd.sock.ttrpc"
        os.mkfifo(directory / "log")
        self.log = Log(str(directory / "log"))
        self._lines = os.open(directory / "log", os.O_RDONLY | os.O_NONBLOCK)
        self._daemons: list[Containerd] = []
        self.publisher = EventPublisher(self.loop, f"unix://{self.path}", "k8s.io", self.log, answer_time=0.2)

    def containerd(self) -> Containerd:
        self._daemons.append(Containerd(self.loop, self.path))
        return self._daemons[-1]

    def publish(self, *ids: str) -> None:
        for id_ in ids:
            self.publisher.publish(Paused(id_))

    def until(self, condition: Callable[[], bool]) -> None:
        run_until(self.loop, condition)

    def drain(self, timeout: float = 30) -> None:
        done: list[bool] = []
        self.publisher.drain(lambda: done.append(True), timeout)
        assert done == []
        self.until(lambda: bool(done))
        assert done == [True]

    def logged(self) -> str:
        try:
            return os.read(self._lines, 1 << 16).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self.publisher.close()
        for daemon in self._daemons:
            daemon.close()
        self.log.close()
        os.close(self._lines)
        self.loop.close()

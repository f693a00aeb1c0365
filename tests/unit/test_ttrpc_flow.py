"""Slow peers, full buffers and closing: client and server on one loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import Code, Request, Response, RpcError
from wasm_shim.ttrpc.frames import REQUEST, FrameDecoder, encode_frame
from wasm_shim.ttrpc.server import Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


class SlowPeer:
    """A connection that reads only when told to, and then through the loop."""

    def __init__(self, loop: EventLoop, sock: socket.socket, on_answer: Callable[[], None]) -> None:
        self.sock = sock
        self.sock.settimeout(0)
        self.streams: list[int] = []
        self.sizes: list[int] = []
        self.ended = False
        self._loop = loop
        self._decoder = FrameDecoder()
        self._on_answer = on_answer

    def ask(self, stream: int, payload: bytes = b"") -> None:
        self.sock.sendall(encode_frame(stream, REQUEST, Request(method="Wait", payload=payload).encode()))

    def start_reading(self) -> None:
        self._loop.watch_read(self.sock.fileno(), self._read)

    def _read(self) -> None:
        data = self.sock.recv(MIB)
        for frame in self._decoder.feed(data):
            self.streams.append(frame.stream)
            self.sizes.append(len(Response.decode(frame.payload or b"").payload))
        if not data:
            self.ended = True
            self._loop.unwatch_read(self.sock.fileno())
        self._on_answer()


class Bench:
    """A loop, a listening socket, and connections to it."""

    def __init__(self, path: str) -> None:
        self.loop = EventLoop()
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.sockets = [self.listener]
        self.server: Server | None = None
        self.until: Callable[[], bool] = lambda: False

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        self.sockets.append(sock)
        sock.connect(self.path)
        return sock

    def slow_peer(self) -> SlowPeer:
        return SlowPeer(self.loop, self.connect(), self.check)

    def check(self) -> None:
        if self.until():
            self.loop.stop()

    def run(self, until: Callable[[], bool]) -> None:
        """Run the loop until `until` holds, looked at after every answer."""
        self.until = until
        self.loop.run()

    def tick(self, client: Client, count: int) -> None:
        """Let a well-behaved client make `count` calls, one after the other."""
        answers: list[bytes | None] = []

        def on_reply(payload: bytes | None, error: RpcError | None) -> None:
            assert error is None
            answers.append(payload)
            if len(answers) == count:
                self.loop.stop()
            else:
                client.call("test.Task", "State", b"", on_reply)

        client.call("test.Task", "State", b"", on_reply)
        self.loop.run()
        assert answers == [b"here"] * count


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path / "s"))
    yield made
    # One turn in which the server notices that all have hung up.
    for sock in made.sockets:
        if sock is not made.listener:
            sock.close()
    made.loop.call_soon(made.loop.stop)
    made.loop.run()
    made.listener.close()
    made.loop.close()


def test_fifty_megabytes_for_a_slow_reader(bench: Bench) -> None:
    """Replies that a peer does not read wait for it, in order, and hold up nobody else."""
    waiting: list[Reply] = []

    def handler(_service: str, method: str, _payload: bytes, reply: Reply) -> None:
        if method == "State":
            reply.send(b"here")
            return
        waiting.append(reply)
        if len(waiting) == 25:
            for each in waiting:
                each.send(bytes(2 * MIB))

    Server(bench.loop, bench.listener, handler)
    slow, quick = bench.slow_peer(), Client(bench.loop, bench.connect())
    for stream in range(1, 51, 2):
        slow.ask(stream)
    bench.tick(quick, 20)
    assert len(waiting) == 25
    assert slow.sizes == []
    slow.start_reading()
    bench.run(lambda: len(slow.sizes) == 25)
    assert slow.sizes == [2 * MIB] * 25
    assert slow.streams == list(range(1, 51, 2))
    bench.tick(quick, 1)
    quick.close()


def test_peer_that_asks_without_reading_is_held_back(bench: Bench) -> None:
    """Requests of a peer with too many unread answers wait in its socket, until it reads."""
    handled: list[int] = []

    def handler(_service: str, method: str, payload: bytes, reply: Reply) -> None:
        if method == "State":
            reply.send(b"here")
        else:
            handled.append(len(payload))
            reply.send(bytes(MIB // 4))

    Server(bench.loop, bench.listener, handler)
    slow, quick = bench.slow_peer(), Client(bench.loop, bench.connect())
    asked = 0
    try:
        while asked < 1000:
            slow.ask(2 * asked + 1, bytes(4096))
            asked += 1
    except BlockingIOError:
        # The last one is in the socket in part.
        pass
    bench.tick(quick, 50)
    assert 4 <= len(handled) < asked
    slow.start_reading()
    bench.run(lambda: len(slow.sizes) == asked)
    assert len(handled) == asked
    quick.close()


def test_both_directions_full(bench: Bench) -> None:
    """Client and server with megabytes for each other both get through."""
    Server(bench.loop, bench.listener, lambda _s, _m, payload, reply: reply.send(payload))
    client = Client(bench.loop, bench.connect())
    answers: list[bytes | None] = []

    def on_reply(payload: bytes | None, _error: RpcError | None) -> None:
        answers.append(payload)
        if len(answers) == 20:
            bench.loop.stop()

    for number in range(20):
        client.call("test.Task", "State", bytes((number,)) * MIB, on_reply)
    bench.loop.run()
    assert answers == [bytes((number,)) * MIB for number in range(20)]
    client.close()


def test_close_flushes_answers_first(bench: Bench) -> None:
    """Closing delivers the answers given so far to a slow peer, then hangs up and calls back."""
    idle: list[str] = []
    flushed: list[str] = []

    def handler(_service: str, _method: str, _payload: bytes, reply: Reply) -> None:
        reply.send(bytes(3 * MIB))
        if not flushed:
            server.close(lambda: flushed.append("yes"))
            slow.start_reading()

    server = Server(bench.loop, bench.listener, handler, on_idle=lambda: idle.append("idle"))
    slow = bench.slow_peer()
    slow.ask(1)
    bench.run(lambda: slow.ended)
    assert slow.sizes == [3 * MIB]
    assert flushed == ["yes"]
    assert idle == []
    with pytest.raises(ConnectionRefusedError):
        bench.connect()


def test_close_gives_up_on_a_peer_that_does_not_read(bench: Bench) -> None:
    """After its time limit closing hangs up on a peer that takes nothing."""

    def handler(_service: str, _method: str, _payload: bytes, reply: Reply) -> None:
        reply.send(bytes(3 * MIB))
        server.close(bench.loop.stop, timeout=0.01)

    server = Server(bench.loop, bench.listener, handler)
    bench.slow_peer().ask(1)
    bench.loop.run()
    assert server.connections == 0


def test_close_with_requests_unanswered(bench: Bench) -> None:
    """A request without an answer ends with the connection; its reply is dropped when it comes after all."""
    waiting: list[Reply] = []
    codes: list[int] = []

    def handler(_service: str, _method: str, _payload: bytes, reply: Reply) -> None:
        waiting.append(reply)
        server.close()

    def on_reply(_payload: bytes | None, error: RpcError | None) -> None:
        codes.append(error.code if error is not None else Code.OK)
        waiting[0].send(b"too late")
        bench.loop.stop()

    server = Server(bench.loop, bench.listener, handler)
    Client(bench.loop, bench.connect()).call("test.Task", "Wait", b"", on_reply)
    bench.loop.run()
    assert codes == [Code.UNAVAILABLE]


def test_close_takes_no_more_requests(bench: Bench) -> None:
    """Requests that arrived together with the one that closed the server are not handled."""
    handled: list[str] = []

    def handler(_service: str, method: str, _payload: bytes, reply: Reply) -> None:
        handled.append(method)
        reply.send(bytes(3 * MIB))
        server.close(bench.loop.stop, timeout=0.01)

    server = Server(bench.loop, bench.listener, handler)
    slow = bench.slow_peer()
    slow.ask(1)
    slow.ask(3)
    bench.loop.run()
    assert handled == ["Wait"]


def test_close_without_connections(bench: Bench) -> None:
    """Closing an idle server calls back from the loop; closing it again is an error."""
    server = Server(bench.loop, bench.listener, lambda _s, _m, _p, reply: reply.send(b""))
    server.close(bench.loop.stop)
    with pytest.raises(RuntimeError, match="closing already"):
        server.close()
    bench.loop.run()

"""The ttrpc server, on a real loop and real sockets, against peers that behave and peers that do not."""

from __future__ import annotations

import os
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.envelope import Code, KeyValue, Request, Response
from wasm_shim.ttrpc.frames import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, FrameDecoder, encode_frame
from wasm_shim.ttrpc.server import Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wasm_shim.ttrpc.frames import Frame
    from wasm_shim.ttrpc.server import Handler

T = TypeVar("T")


class Peer:
    """A blocking connection to the server, for a thread."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self.decoder = FrameDecoder()
        self.frames: list[Frame] = []

    def ask(self, stream: int, method: str = "State", payload: bytes = b"") -> None:
        request = Request(service="test.Task", method=method, payload=payload, metadata=[KeyValue(key="k", value="v")])
        self.sock.sendall(encode_frame(stream, REQUEST, request.encode()))

    def answer(self) -> tuple[int, Response]:
        """The next response and its stream."""
        while not self.frames:
            data = self.sock.recv(1 << 16)
            assert data, "the server hung up"
            self.frames = self.decoder.feed(data)
        frame = self.frames.pop(0)
        assert frame.type == RESPONSE
        return frame.stream, Response.decode(frame.payload or b"")

    def refusal(self) -> tuple[int, int, str]:
        """The next response's stream, code and sentence."""
        stream, response = self.answer()
        assert response.status is not None
        return stream, response.status.code, response.status.message

    def hung_up(self) -> bool:
        """Whether the server ends the connection without another word."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            # It had not read all that was sent.
            return True


class Bench:
    """A listening socket, a loop, and peers that run in a thread while the loop runs here."""

    def __init__(self, path: str) -> None:
        self.loop = EventLoop()
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        self.peers.append(Peer(self.path))
        return self.peers[-1]

    def serve(self, handler: Handler) -> Server:
        """A server that ends the loop when its last peer has gone."""
        return Server(self.loop, self.listener, handler, on_idle=self.loop.stop)

    def talk(self, script: Callable[[Peer], T]) -> T:
        """Run `script` with a connected peer until all peers have hung up; its result."""

        def run() -> T:
            try:
                return script(self.peer())
            finally:
                for peer in self.peers:
                    peer.sock.close()

        with ThreadPoolExecutor() as pool:
            future = pool.submit(run)
            self.loop.run()
            return future.result()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path / "s"))
    yield made
    for peer in made.peers:
        peer.sock.close()
    # One turn more, in which the server closes its side.
    made.loop.call_soon(made.loop.stop)
    made.loop.run()
    made.listener.close()
    made.loop.close()


def echo(service: str, method: str, payload: bytes, reply: Reply) -> None:
    """Answer with all that was asked."""
    reply.send(f"{service}/{method}:".encode() + payload)


def test_answers_a_call(bench: Bench) -> None:
    """Service, method and payload reach the handler, and its answer returns on the request's stream."""
    bench.serve(echo)

    def script(peer: Peer) -> object:
        peer.ask(1, "State", b"\x00\xff")
        return peer.answer()

    assert bench.talk(script) == (1, Response(payload=b"test.Task/State:\x00\xff"))


def test_pipelined_calls(bench: Bench) -> None:
    """Many requests sent at once are answered in order, also in a frame cut in two."""
    bench.serve(echo)

    def script(peer: Peer) -> list[int]:
        for stream in range(1, 401, 2):
            peer.ask(stream)
        frame = encode_frame(401, REQUEST, Request(method="Wait").encode())
        peer.sock.sendall(frame[:7])
        peer.sock.sendall(frame[7:])
        return [peer.answer()[0] for _ in range(201)]

    assert bench.talk(script) == list(range(1, 402, 2))


def test_peer_gone_before_its_reply(bench: Bench) -> None:
    """A reply to a peer that has hung up is dropped, and the server goes on."""
    waiting: list[Reply] = []
    bench.serve(lambda _s, _m, _p, reply: waiting.append(reply))
    bench.talk(lambda peer: peer.ask(1, "Wait"))
    waiting[0].send(b"too late")
    bench.talk(lambda peer: peer.ask(1, "Wait"))
    waiting[1].fail(Code.INTERNAL, "too late")
    assert len(waiting) == 2


def test_oversized_request_fails_alone(bench: Bench) -> None:
    """A request over 4 MiB is refused with RESOURCE_EXHAUSTED, and the stream goes on behind it."""
    bench.serve(echo)
    size = MAX_PAYLOAD + 1

    def script(peer: Peer) -> list[object]:
        peer.sock.sendall(size.to_bytes(4, "big") + encode_frame(1, REQUEST, b"")[4:] + bytes(size))
        peer.ask(3)
        return [peer.refusal(), peer.answer()]

    assert bench.talk(script) == [
        (1, Code.RESOURCE_EXHAUSTED, "the message is longer than the 4194304 bytes that ttrpc carries"),
        (3, Response(payload=b"test.Task/State:")),
    ]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x01" + bytes(9)])
def test_garbage_closes_only_its_connection(bench: Bench, garbage: bytes) -> None:
    """A peer that speaks something else is hung up on, and another is served."""
    bench.serve(echo)

    def script(peer: Peer) -> list[object]:
        other = bench.peer()
        other.ask(1)
        first = other.answer()
        peer.sock.sendall(garbage)
        end = peer.hung_up()
        other.ask(3)
        return [first, end, other.answer()]

    good = Response(payload=b"test.Task/State:")
    assert bench.talk(script) == [(1, good), True, (3, good)]


def test_forbidden_frames_are_refused(bench: Bench) -> None:
    """Even, zero, reused and falling stream ids, stream data and malformed requests fail; other types are ignored."""
    bench.serve(echo)

    def script(peer: Peer) -> list[tuple[int, int, str]]:
        for stream in (0, 2, 5):
            peer.ask(stream)
        peer.sock.sendall(encode_frame(7, RESPONSE, b"") + encode_frame(7, 99, b"") + encode_frame(7, DATA, b""))
        peer.sock.sendall(encode_frame(9, REQUEST, b"\x0a"))
        peer.ask(5)
        peer.ask(3)
        first = [peer.refusal(), peer.refusal()]
        assert peer.answer() == (5, Response(payload=b"test.Task/State:"))
        return [*first, *(peer.refusal() for _ in range(4))]

    assert bench.talk(script) == [
        (0, Code.INVALID_ARGUMENT, "a client's stream id must be odd"),
        (2, Code.INVALID_ARGUMENT, "a client's stream id must be odd"),
        (7, Code.INVALID_ARGUMENT, "no method here takes a stream of messages"),
        (9, Code.INVALID_ARGUMENT, "the request is malformed: the message ends within a number"),
        (5, Code.INVALID_ARGUMENT, "stream ids must grow and are used once"),
        (3, Code.INVALID_ARGUMENT, "stream ids must grow and are used once"),
    ]


def test_foreign_uid_is_hung_up_on(bench: Bench) -> None:
    """A peer of a user who is not allowed gets no answer."""
    server = Server(bench.loop, bench.listener, echo, allowed_uids=[os.geteuid() + 1])
    peer = bench.peer()
    bench.loop.watch_read(peer.sock.fileno(), bench.loop.stop)
    bench.loop.run()
    assert peer.hung_up()
    assert server.connections == 0


def test_accept_survives_a_lack_of_descriptors(bench: Bench) -> None:
    """Out of descriptors, the server waits without spinning and accepts when there are some again."""
    bench.serve(echo)
    peer = bench.peer()
    peer.ask(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    bench.loop.call_later(0, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    bench.loop.watch_read(peer.sock.fileno(), bench.loop.stop)
    try:
        bench.loop.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert peer.answer() == (1, Response(payload=b"test.Task/State:"))


def test_peer_that_stops_reading_ends_only_itself(bench: Bench) -> None:
    """A write to a peer that reads no more closes its connection, and raises no SIGPIPE."""
    bench.serve(echo)
    peer = bench.peer()
    peer.ask(1)
    peer.sock.shutdown(socket.SHUT_RD)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        bench.loop.run()
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_connections_are_counted(bench: Bench) -> None:
    """The server knows how many connections it has, and says when the last has ended."""
    counts: list[int] = []

    def handler(_service: str, _method: str, _payload: bytes, reply: Reply) -> None:
        counts.append(server.connections)
        reply.send(b"")

    server = bench.serve(handler)

    def script(peer: Peer) -> None:
        peer.ask(1)
        peer.answer()
        other = bench.peer()
        other.ask(1)
        other.answer()

    bench.talk(script)
    assert counts == [1, 2]
    assert server.connections == 0

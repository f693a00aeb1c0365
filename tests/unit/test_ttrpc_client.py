"""The ttrpc client, on a real loop, against a hand-driven peer at the other end of a socket pair."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import Code, Request, Response, RpcError, failure
from wasm_shim.ttrpc.frames import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, FrameDecoder, encode_frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """A client, the other end of its connection, and a list of what it called back with."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(20)
        self.seen: list[object] = []
        self.client = Client(self.loop, ours, on_close=lambda: self.seen.append("closed"))

    def call(self, method: str, payload: bytes = b"", timeout: float | None = None) -> None:
        """Call, and note the answer or the error's code."""
        self.client.call("test.Task", method, payload, self._note, timeout)

    def answer(self, stream: int, response: Response) -> None:
        self.peer.sendall(encode_frame(stream, RESPONSE, response.encode()))

    def run(self, count: int) -> list[object]:
        """Let the loop run until `count` things have been noted in all."""
        while len(self.seen) < count:
            self.loop.call_soon(self.loop.stop)
            self.loop.run()
        return self.seen

    def requests(self) -> list[tuple[int, Request]]:
        """What the client has written."""
        frames = FrameDecoder().feed(self.peer.recv(1 << 16))
        assert {frame.type for frame in frames} == {REQUEST}
        return [(frame.stream, Request.decode(frame.payload or b"")) for frame in frames]

    def _note(self, payload: bytes | None, error: RpcError | None) -> None:
        assert (payload is None) != (error is None)
        self.seen.append(payload if error is None else (error.code, error.message))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.client.close()
    made.peer.close()
    made.loop.close()


def test_call_and_answer(bench: Bench) -> None:
    """A call is written with odd, growing stream ids and its time limit; its answer comes back."""
    bench.call("State", b"\x00ask")
    bench.call("Wait", timeout=1.5)
    assert bench.requests() == [
        (1, Request(service="test.Task", method="State", payload=b"\x00ask")),
        (3, Request(service="test.Task", method="Wait", timeout_nano=1_500_000_000)),
    ]
    bench.answer(1, Response(payload=b"\xffanswer"))
    assert bench.run(1) == [b"\xffanswer"]


def test_answers_in_any_order(bench: Bench) -> None:
    """Answers find their calls by stream id, an empty one and one with status OK included."""
    for method in ("Create", "Start", "Wait"):
        bench.call(method)
    bench.answer(5, Response(payload=b"third"))
    bench.answer(1, failure(Code.OK, ""))
    bench.answer(3, failure(Code.NOT_FOUND, "no such process"))
    assert bench.run(3) == [b"third", b"", (Code.NOT_FOUND, "no such process")]


def test_timeout(bench: Bench) -> None:
    """A call without an answer in time fails with DEADLINE_EXCEEDED; its late answer is ignored."""
    bench.call("Wait", timeout=0.001)
    assert bench.run(1) == [(Code.DEADLINE_EXCEEDED, "Wait was not answered within 0.001 s")]
    bench.call("State")
    bench.answer(1, Response(payload=b"late"))
    bench.answer(3, Response(payload=b"in time"))
    assert bench.run(2)[1] == b"in time"


def test_answered_call_does_not_time_out(bench: Bench) -> None:
    """An answer ends the time limit."""
    bench.call("State", timeout=0.01)
    bench.answer(1, Response(payload=b"yes"))
    bench.call("Wait", timeout=0.02)
    assert bench.run(2) == [b"yes", (Code.DEADLINE_EXCEEDED, "Wait was not answered within 0.02 s")]


def test_connection_lost(bench: Bench) -> None:
    """When the peer hangs up every pending call fails with UNAVAILABLE, then on_close is called, once."""
    bench.call("Wait", timeout=60)
    bench.call("State")
    bench.requests()
    bench.peer.close()
    lost = (Code.UNAVAILABLE, "the peer closed the connection")
    assert bench.run(3) == [lost, lost, "closed"]
    bench.call("State")
    assert len(bench.seen) == 3
    assert bench.run(4)[3] == (Code.UNAVAILABLE, "the connection is closed")


def test_own_close(bench: Bench) -> None:
    """The client's own close fails what is pending too, later and not within close."""
    bench.call("Wait")
    bench.client.close()
    bench.client.close()
    assert bench.seen == []
    assert bench.run(2) == [(Code.UNAVAILABLE, "the client closed the connection"), "closed"]


def test_garbage_closes_the_connection(bench: Bench) -> None:
    """A peer that speaks something else costs the connection and no more."""
    bench.call("State")
    bench.peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    first, closed = bench.run(2)
    assert closed == "closed"
    assert isinstance(first, tuple)
    assert "does not speak ttrpc" in first[1]


def test_malformed_and_oversized_answers_fail_their_call(bench: Bench) -> None:
    """A malformed answer is INTERNAL, an oversized one RESOURCE_EXHAUSTED, others are ignored; the next arrives."""
    for method in ("Create", "Start", "State"):
        bench.call(method)
    bench.peer.sendall(encode_frame(5, DATA, b"x") + encode_frame(99, RESPONSE, b""))
    bench.peer.sendall(encode_frame(1, RESPONSE, b"\x0a"))
    bench.peer.sendall((MAX_PAYLOAD + 1).to_bytes(4, "big") + encode_frame(3, RESPONSE, b"")[4:])
    assert bench.run(2) == [
        (Code.INTERNAL, "the answer is malformed: the message ends within a number"),
        (Code.RESOURCE_EXHAUSTED, "the answer is longer than 4194304 bytes"),
    ]
    rest = bytes(MAX_PAYLOAD + 1) + encode_frame(5, RESPONSE, Response(payload=b"fine").encode())
    for position in range(0, len(rest), 1 << 16):
        bench.peer.sendall(rest[position : position + (1 << 16)])
        bench.loop.call_soon(bench.loop.stop)
        bench.loop.run()
    assert bench.run(3)[2] == b"fine"


def test_oversized_request_is_refused_here(bench: Bench) -> None:
    """A request over 4 MiB fails without being sent."""
    bench.call("Create", bytes(MAX_PAYLOAD))
    assert bench.seen == []
    first = bench.run(1)[0]
    assert isinstance(first, tuple)
    assert first[0] == Code.RESOURCE_EXHAUSTED
    bench.call("State")
    assert [stream for stream, _ in bench.requests()] == [1]

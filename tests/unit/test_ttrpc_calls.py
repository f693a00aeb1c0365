"""What a handler can answer, as a client sees it: both on one loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import Code, RpcError
from wasm_shim.ttrpc.frames import MAX_PAYLOAD
from wasm_shim.ttrpc.server import Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wasm_shim.ttrpc.server import Handler

Answer = bytes | tuple[int, str]


class Bench:
    """A loop and a listening socket."""

    def __init__(self, path: str) -> None:
        self.loop = EventLoop()
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()

    def serve(self, handler: Handler, on_error: Callable[[str, Exception], None] | None = None) -> None:
        """Serve with `handler` until the last client has gone."""
        Server(self.loop, self.listener, handler, on_idle=self.loop.stop, on_error=on_error)

    def call(self, *methods: str) -> list[tuple[str, Answer]]:
        """Call all methods at once; the answers, or code and sentence of the errors, in the order of arrival."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        client = Client(self.loop, sock)
        answers: list[tuple[str, Answer]] = []

        def start(method: str) -> None:
            def on_reply(payload: bytes | None, error: RpcError | None) -> None:
                answers.append((method, (error.code, error.message) if error is not None else payload or b""))
                if len(answers) == len(methods):
                    client.close()

            client.call("test.Task", method, method.encode(), on_reply)

        for method in methods:
            start(method)
        self.loop.run()
        return answers


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path / "s"))
    yield made
    made.listener.close()
    made.loop.close()


def test_deferred_reply_is_overtaken(bench: Bench) -> None:
    """A reply may be given long after its request, while later requests are answered."""
    waiting: list[Reply] = []

    def handler(_service: str, method: str, _payload: bytes, reply: Reply) -> None:
        if method == "Wait":
            waiting.append(reply)
        else:
            reply.send(b"killed")
            bench.loop.call_soon(lambda: waiting[0].send(b"ended"))

    bench.serve(handler)
    assert bench.call("Wait", "Kill") == [("Kill", b"killed"), ("Wait", b"ended")]


def test_failure_carries_code_and_sentence(bench: Bench) -> None:
    """A failed call has its code and sentence, even one that UTF-8 cannot hold."""
    bench.serve(lambda _s, _m, _p, reply: reply.fail(Code.NOT_FOUND, "no file \udcff"))
    assert bench.call("State") == [("State", (Code.NOT_FOUND, r"no file \udcff"))]


def test_a_request_is_answered_once(bench: Bench) -> None:
    """A second answer is a RuntimeError, a failure without a code a ValueError; neither reaches the client."""

    def handler(_service: str, _method: str, _payload: bytes, reply: Reply) -> None:
        with pytest.raises(ValueError, match="other than OK"):
            reply.fail(Code.OK, "fine")
        assert not reply.answered
        reply.send(b"first")
        assert reply.answered
        with pytest.raises(RuntimeError, match="has been answered"):
            reply.send(b"second")
        with pytest.raises(RuntimeError, match="has been answered"):
            reply.fail(Code.INTERNAL, "second")

    bench.serve(handler)
    assert bench.call("State", "Pids") == [("State", b"first"), ("Pids", b"first")]


def test_handler_exception_becomes_a_status(bench: Bench) -> None:
    """An exception from the handler fails that call as INTERNAL, is reported, and the next call is served."""
    reported: list[tuple[str, str]] = []

    def handler(_service: str, method: str, payload: bytes, reply: Reply) -> None:
        if method == "Kill":
            raise KeyError("x")
        if method == "Pause":
            raise RpcError(Code.UNIMPLEMENTED, "no Pause")
        reply.send(payload)
        if method == "Start":
            raise OSError("after the answer")

    bench.serve(handler, lambda method, error: reported.append((method, str(error))))
    assert bench.call("Kill", "Pause", "Start", "State") == [
        ("Kill", (Code.INTERNAL, "Kill failed: KeyError: 'x'")),
        ("Pause", (Code.UNIMPLEMENTED, "no Pause")),
        ("Start", b"Start"),
        ("State", b"State"),
    ]
    assert reported == [("Kill", "'x'"), ("Start", "after the answer")]


def test_handler_exception_without_a_listener(bench: Bench) -> None:
    """Without on_error an exception is still an answer."""

    def handler(_service: str, _method: str, _payload: bytes, _reply: Reply) -> None:
        raise ZeroDivisionError("oops")

    bench.serve(handler)
    assert bench.call("Stats") == [("Stats", (Code.INTERNAL, "Stats failed: ZeroDivisionError: oops"))]


def test_oversized_answer_becomes_a_status(bench: Bench) -> None:
    """An answer over 4 MiB is replaced by RESOURCE_EXHAUSTED."""
    bench.serve(lambda _s, _m, _p, reply: reply.send(bytes(MAX_PAYLOAD)))
    sentence = f"the answer has {MAX_PAYLOAD + 5} bytes; ttrpc carries {MAX_PAYLOAD}"
    assert bench.call("Stats") == [("Stats", (Code.RESOURCE_EXHAUSTED, sentence))]


def test_clients_come_one_after_the_other(bench: Bench) -> None:
    """A server serves the next client after the last one has gone."""
    bench.serve(lambda _s, _m, payload, reply: reply.send(payload))
    for _ in range(3):
        assert bench.call("State", "Pids") == [("State", b"State"), ("Pids", b"Pids")]

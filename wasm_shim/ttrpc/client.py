"""A ttrpc client: many calls at a time over one connection, each answered through a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasm_shim.ttrpc.channel import Channel
from wasm_shim.ttrpc.envelope import Code, Request, Response, RpcError
from wasm_shim.ttrpc.frames import MAX_PAYLOAD, REQUEST, RESPONSE, Frame, encode_frame
from wasm_shim.ttrpc.wire import DecodeError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wasm_shim.eventloop import EventLoop, Timer

    OnReply = Callable[[bytes | None, RpcError | None], None]

__all__ = ["Client", "RpcError"]


class _Call:
    """A call without an answer yet."""

    __slots__ = ("on_reply", "timer")

    def __init__(self, on_reply: OnReply) -> None:
        self.on_reply = on_reply
        self.timer: Timer | None = None

    def end(self, payload: bytes | None, error: RpcError | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.on_reply(payload, error)


class Client:
    """Calls methods over `sock`, connected, which it owns from now on.

    `on_close` is called once when the connection has ended, after every pending call has failed with UNAVAILABLE;
    when `close` was what ended it, too. All callbacks come from the loop, never from within `call` or `close`.
    """

    __slots__ = ("_calls", "_channel", "_loop", "_next_stream", "_on_close")

    def __init__(self, loop: EventLoop, sock: socket.socket, on_close: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._on_close = on_close
        self._calls: dict[int, _Call] = {}
        self._next_stream = 1
        self._channel = Channel(loop, sock, self._on_frame, self._closed)

    def call(self, service: str, method: str, payload: bytes, on_reply: OnReply, timeout: float | None = None) -> None:
        """Call a method with an encoded message; `on_reply(payload, None)` or `on_reply(None, error)` follows, once.

        After `timeout` seconds the error is DEADLINE_EXCEEDED; the server learns the limit with the request.
        """
        request = Request(service=service, method=method, payload=payload, timeout_nano=int((timeout or 0) * 1e9))
        encoded = request.encode()
        call = _Call(on_reply)
        if self._channel.closed:
            self._loop.call_soon(lambda: call.end(None, RpcError(Code.UNAVAILABLE, "the connection is closed")))
            return
        if len(encoded) > MAX_PAYLOAD:
            sentence = f"the request has {len(encoded)} bytes; ttrpc carries {MAX_PAYLOAD}"
            self._loop.call_soon(lambda: call.end(None, RpcError(Code.RESOURCE_EXHAUSTED, sentence)))
            return
        stream = self._next_stream
        self._next_stream += 2
        self._calls[stream] = call
        if timeout is not None:
            sentence = f"{method} was not answered within {timeout:g} s"
            call.timer = self._loop.call_later(timeout, lambda: self._expire(stream, sentence))
        self._channel.send(encode_frame(stream, REQUEST, encoded))

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by either side."""
        return self._channel.closed

    def close(self) -> None:
        """Close the connection; pending calls fail with UNAVAILABLE."""
        self._channel.close("the client closed the connection")

    def _expire(self, stream: int, sentence: str) -> None:
        self._calls.pop(stream).end(None, RpcError(Code.DEADLINE_EXCEEDED, sentence))

    def _closed(self, reason: str) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(None, RpcError(Code.UNAVAILABLE, reason))
        if self._on_close is not None:
            self._on_close()

    def _on_frame(self, frame: Frame) -> None:
        if frame.type != RESPONSE:
            return
        call = self._calls.pop(frame.stream, None)
        if call is None:
            # Its time had run out.
            return
        if frame.payload is None:
            call.end(None, RpcError(Code.RESOURCE_EXHAUSTED, f"the answer is longer than {MAX_PAYLOAD} bytes"))
            return
        try:
            response = Response.decode(frame.payload)
        except DecodeError as error:
            call.end(None, RpcError(Code.INTERNAL, f"the answer is malformed: {error}"))
            return
        if response.status is not None and response.status.code != Code.OK:
            call.end(None, RpcError(response.status.code, response.status.message))
        else:
            call.end(response.payload, None)

"""A ttrpc server: accepts connections and hands each request to a handler, which answers now or later."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wasm_shim.kernel.calls import peer_of
from wasm_shim.ttrpc.channel import Channel
from wasm_shim.ttrpc.envelope import Code, Request, Response, RpcError, failure
from wasm_shim.ttrpc.frames import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, Frame, encode_frame
from wasm_shim.ttrpc.wire import DecodeError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from wasm_shim.eventloop import EventLoop, Timer

    Handler = Callable[[str, str, bytes, "Reply"], None]

_BACKLOG = 1 << 20
_ACCEPT_PAUSE = 0.1


class Reply:
    """The one answer to one request; dropped without a word if the connection has gone by then."""

    __slots__ = ("_channel", "_stream")

    def __init__(self, channel: Channel, stream: int) -> None:
        self._channel: Channel | None = channel
        self._stream = stream

    @property
    def answered(self) -> bool:
        """Whether `send` or `fail` was called."""
        return self._channel is None

    @property
    def unheard(self) -> bool:
        """Whether who asked has hung up, and the answer is still missing."""
        return self._channel is not None and self._channel.abandoned

    def send(self, payload: bytes) -> None:
        """Answer with an encoded message; RuntimeError if there was an answer before."""
        self._answer(Response(payload=payload))

    def fail(self, code: int, message: str) -> None:
        """Answer with a google.rpc code and a sentence; RuntimeError if there was an answer before."""
        if code == Code.OK:
            raise ValueError("a failure needs a code other than OK")
        self._answer(failure(code, message))

    def _answer(self, response: Response) -> None:
        if self._channel is None:
            raise RuntimeError("this request has been answered")
        channel, self._channel = self._channel, None
        respond(channel, self._stream, response)


def respond(channel: Channel, stream: int, response: Response) -> None:
    """Send a response; one that does not fit in a frame becomes a RESOURCE_EXHAUSTED status."""
    payload = response.encode()
    if len(payload) > MAX_PAYLOAD:
        sentence = f"the answer has {len(payload)} bytes; ttrpc carries {MAX_PAYLOAD}"
        payload = failure(Code.RESOURCE_EXHAUSTED, sentence).encode()
    channel.send(encode_frame(stream, RESPONSE, payload))


class Server:
    """Serves every connection that `listener` (bound, listening, AF_UNIX) accepts, until `close`.

    `handler(service, method, payload, reply)` answers through `reply`, before or after it returns. An RpcError
    that it raises becomes the answer; any other exception becomes INTERNAL and goes to `on_error`, and the server
    lives. Peers whose uid (SO_PEERCRED) is not in `allowed_uids`, by default root and the own effective uid, are
    hung up on. `on_idle` is called whenever the last connection has ended, except while closing.
    """

    def __init__(  # noqa: PLR0913  # half of them are optional
        self,
        loop: EventLoop,
        listener: socket.socket,
        handler: Handler,
        *,
        allowed_uids: Collection[int] | None = None,
        on_idle: Callable[[], None] | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        listener.settimeout(0)
        self.loop = loop
        self.handler = handler
        self.on_error = on_error
        self._listener = listener
        self._allowed_uids = {0, os.geteuid()} if allowed_uids is None else allowed_uids
        self._on_idle = on_idle
        self._on_flushed: Callable[[], None] | None = None
        self._closing = False
        self._pause: Timer | None = None
        self._connections: set[_Connection] = set()
        self._listen()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def close(self, on_flushed: Callable[[], None] | None = None, timeout: float = 2.0) -> None:
        """Accept and read no more, write the answers given so far, close, then call `on_flushed` from the loop.

        A peer that has not taken its answers after `timeout` seconds loses them. Requests without an answer stay
        without one; the socket's path stays too, it belongs to who bound it. RuntimeError at a second call.
        """
        if self._closing:
            raise RuntimeError("the server is closing already")
        self._closing = True
        self._on_flushed = on_flushed
        if self._pause is not None:
            self._pause.cancel()
        self.loop.unwatch_read(self._listener.fileno())
        self._listener.close()
        if not self._connections:
            self.loop.call_soon(self._flushed)
            return
        self._pause = self.loop.call_later(timeout, self._abort)
        for connection in self._connections:
            connection.channel.finish()

    def ended(self, connection: _Connection) -> None:
        """Forget a connection that has been closed."""
        self._connections.discard(connection)
        if self._connections:
            return
        if self._closing:
            self._flushed()
        elif self._on_idle is not None:
            self._on_idle()

    def _listen(self) -> None:
        self._pause = None
        self.loop.watch_read(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptors or no memory: the connection stays in the queue, so the listener would stay readable.
            self.loop.unwatch_read(self._listener.fileno())
            self._pause = self.loop.call_later(_ACCEPT_PAUSE, self._listen)
            return
        if peer_of(sock)[1] in self._allowed_uids:
            self._connections.add(_Connection(self, sock))
        else:
            sock.close()

    def _abort(self) -> None:
        for connection in self._connections:
            connection.channel.close("the peer did not take its answers in time")

    def _flushed(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._on_flushed is not None:
            self._on_flushed()


class _Connection:
    """One peer's streams; refuses what ttrpc forbids, and goes on."""

    __slots__ = ("_last_stream", "_server", "channel")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._last_stream = 0
        self.channel = Channel(server.loop, sock, self._on_frame, self._on_close, _BACKLOG)

    def _on_close(self, _reason: str) -> None:
        self._server.ended(self)

    def _on_frame(self, frame: Frame) -> None:
        if frame.payload is None:
            sentence = f"the message is longer than the {MAX_PAYLOAD} bytes that ttrpc carries"
            self._refuse(frame, Code.RESOURCE_EXHAUSTED, sentence)
        elif frame.stream % 2 == 0:
            self._refuse(frame, Code.INVALID_ARGUMENT, "a client's stream id must be odd")
        elif frame.type == DATA:
            self._refuse(frame, Code.INVALID_ARGUMENT, "no method here takes a stream of messages")
        elif frame.type != REQUEST:
            # Left for later versions of the protocol, as containerd's server does.
            return
        elif frame.stream <= self._last_stream:
            self._refuse(frame, Code.INVALID_ARGUMENT, "stream ids must grow and are used once")
        else:
            self._last_stream = frame.stream
            self._serve(frame, frame.payload)

    def _refuse(self, frame: Frame, code: int, sentence: str) -> None:
        respond(self.channel, frame.stream, failure(code, sentence))

    def _serve(self, frame: Frame, payload: bytes) -> None:
        try:
            request = Request.decode(payload)
        except DecodeError as error:
            self._refuse(frame, Code.INVALID_ARGUMENT, f"the request is malformed: {error}")
            return
        reply = Reply(self.channel, frame.stream)
        failed: RpcError | None = None
        try:
            self._server.handler(request.service, request.method, request.payload, reply)
        except RpcError as error:
            failed = error
        except Exception as error:  # noqa: BLE001  # the process boundary: a fault costs one call, not all pods
            if self._server.on_error is not None:
                self._server.on_error(request.method, error)
            failed = RpcError(Code.INTERNAL, f"{request.method} failed: {type(error).__name__}: {error}")
        if failed is not None and not reply.answered:
            reply.fail(failed.code, failed.message)

"""A connected socket on the event loop that carries frames both ways and never blocks."""

from __future__ import annotations

import os
import socket
from select import poll
from typing import TYPE_CHECKING

from wasm_shim.ttrpc.frames import FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasm_shim.eventloop import EventLoop
    from wasm_shim.ttrpc.frames import Frame

_CHUNK = 64 << 10


class Channel:
    """Reads frames from `sock`, which it owns, and writes those given to `send`, buffering what does not fit yet.

    `on_frame` gets every frame. `on_close` gets the reason once, from the loop and never within another call.
    With `backlog`, nothing more is read while more than that many bytes wait to be written, so a peer that asks
    without reading the answers is held back; frames that were read already are still delivered.
    """

    __slots__ = (
        "_backlog",
        "_decoder",
        "_fd",
        "_finishing",
        "_loop",
        "_on_close",
        "_on_frame",
        "_out",
        "_reading",
        "_sock",
        "_writing",
        "closed",
    )

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        on_frame: Callable[[Frame], None],
        on_close: Callable[[str], None],
        backlog: int = 0,
    ) -> None:
        sock.settimeout(0)
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._on_frame = on_frame
        self._on_close = on_close
        self._backlog = backlog
        self._decoder = FrameDecoder()
        self._out = bytearray()
        self._reading = False
        self._writing = False
        self._finishing = False
        self.closed = False
        self._update_watches()

    @property
    def abandoned(self) -> bool:
        """Whether it is closed, or its peer has gone, also where what that left is still to be read."""
        if self.closed:
            return True
        poller = poll()
        poller.register(self._fd, 0)  # tells of a hang-up all the same (poll(2))
        return bool(poller.poll(0))

    def send(self, data: bytes) -> None:
        """Write `data` now or when the peer has room; dropped without a word once the channel is closed."""
        if self.closed:
            return
        self._out += data
        if self._writing:
            self._update_watches()
        else:
            self._write()

    def finish(self) -> None:
        """Read no more, and close when all that waits has been written."""
        self._finishing = True
        if not self.closed:
            self._update_watches()

    def close(self, reason: str) -> None:
        """Close at once; what waits to be written is lost. Harmless when closed already."""
        if self.closed:
            return
        self.closed = True
        self._loop.unwatch_read(self._fd)
        self._loop.unwatch_write(self._fd)
        self._sock.close()
        self._out.clear()
        self._loop.call_soon(lambda: self._on_close(reason))

    def _update_watches(self) -> None:
        if self._finishing and not self._out:
            self.close("the channel was finished")
            return
        reading = not self._finishing and not 0 < self._backlog < len(self._out)
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.watch_read(self._fd, self._read)
            else:
                self._loop.unwatch_read(self._fd)
        writing = bool(self._out)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.watch_write(self._fd, self._write)
            else:
                self._loop.unwatch_write(self._fd)

    def _write(self) -> None:
        try:
            # A shim may run with SIGPIPE's default action.
            sent = self._sock.send(self._out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(os.strerror(error.errno or 0))
            return
        del self._out[:sent]
        self._update_watches()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(os.strerror(error.errno or 0))
            return
        if not data:
            self.close("the peer closed the connection")
            return
        for frame in self._decoder.feed(data):
            self._on_frame(frame)
            if self.closed or self._finishing:
                return
        if self._decoder.error:
            self.close(self._decoder.error)

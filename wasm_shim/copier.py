"""Copy bytes from one descriptor to another on the event loop, with back-pressure and without blocking it."""

import os
import socket
import stat
from collections.abc import Callable

from wasm_shim.eventloop import EventLoop

_CHUNK = 64 << 10


class Copier:
    """Reads `source` until its end and writes everything to `sink`; both stay the caller's.

    A socket or pipe as `sink` must not block (`own_description` makes such a descriptor), a regular file may.
    `on_end` is called once, from the loop: when the source has ended and all is written, or when the sink takes
    no more; `failure` says why, as for a reader that has gone or a disk that is full.
    """

    def __init__(self, loop: EventLoop, source: int, sink: int, on_end: Callable[[], None]) -> None:
        self._loop, self._source, self._sink, self._on_end = loop, source, sink, on_end
        self.failure: OSError | None = None
        self._pending = b""
        self._ended = self._stopped = False
        self._source_polls = _polls(source)
        self._sink_is_socket = stat.S_ISSOCK(os.fstat(sink).st_mode)
        self._want_source()

    def stop(self) -> None:
        """Copy no more; `on_end` is not called."""
        self._stopped = True
        self._unwatch()

    def _want_source(self) -> None:
        if self._source_polls:
            self._loop.watch_read(self._source, self._read)
        else:
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        if self._ended:
            return
        try:
            self._pending = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side has closed says EIO
            self._pending = b""
        if not self._pending:
            self._finish()
            return
        self._write()

    def _write(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[self._write_some() :]
        except BlockingIOError:
            if self._source_polls:
                self._loop.unwatch_read(self._source)
            self._loop.watch_write(self._sink, self._write)
            return
        except OSError as error:
            self.failure = error
            self._finish()
            return
        self._loop.unwatch_write(self._sink)
        self._want_source()

    def _write_some(self) -> int:
        if self._sink_is_socket:
            with socket.socket(fileno=os.dup(self._sink)) as sink:
                return sink.send(self._pending, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._sink, self._pending)

    def _finish(self) -> None:
        self._unwatch()
        self._loop.call_soon(self._report)

    def _unwatch(self) -> None:
        self._ended = True
        if self._source_polls:
            self._loop.unwatch_read(self._source)
        self._loop.unwatch_write(self._sink)

    def _report(self) -> None:
        if not self._stopped:
            self._on_end()


def _polls(descriptor: int) -> bool:
    """Whether one can wait for it: files, directories, /dev/null and its kin are always ready."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def own_description(descriptor: int, flags: int) -> int:
    """A second descriptor of the same pipe or terminal that does not block.

    O_NONBLOCK belongs to the open file, which other processes share, so the file is opened anew. What cannot
    be (sockets, another user's terminal) or need not be (files) is duplicated as it is.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass  # not ours to open: the copy may block, as for any program that writes there
    return os.dup(descriptor)

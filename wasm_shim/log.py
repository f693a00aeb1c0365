"""The shim's log: lines that containerd reads from the FIFO `log` in the bundle and copies to its own log.

Logging never blocks and never fails: while containerd is away lines are kept in the FIFO, and dropped when it is full.
"""

import os
import stat
import time
from typing import Final

_ATOMIC: Final = 4096  # bytes: PIPE_BUF, up to which a line goes into a FIFO whole or not at all (pipe(7))
_ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


class Log:
    """Writes to the FIFO at `path`, and nowhere when there is none; `fields` stand at the end of every line."""

    def __init__(self, path: str, **fields: str) -> None:
        self._fields = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        self._fifo = _open_fifo(path)

    def info(self, text: str) -> None:
        """Something that is normal."""
        self._write("info", text)

    def warning(self, text: str) -> None:
        """Something that is not as it should be, and can be lived with."""
        self._write("warning", text)

    def error(self, text: str) -> None:
        """Something that went wrong."""
        self._write("error", text)

    def close(self) -> None:
        """Release the FIFO; later lines are dropped."""
        fifo, self._fifo = self._fifo, -1
        if fifo >= 0:
            os.close(fifo)

    def _write(self, level: str, text: str) -> None:
        if self._fifo < 0:
            return
        # The form of containerd's own lines.
        head = f'time="{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}" level={level} msg="'
        head_and_text = (head + _escaped(text)).encode(errors="backslashreplace")
        tail = f'"{self._fields}\n'.encode(errors="backslashreplace")
        try:
            os.write(self._fifo, _cut(head_and_text, _ATOMIC - len(tail)) + tail)
        except OSError:
            return  # full: containerd is away, or reads more slowly than we write


def _open_fifo(path: str) -> int:
    """A descriptor that writes and, for reading, keeps the FIFO from breaking while containerd restarts; or -1."""
    try:
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return -1
    if stat.S_ISFIFO(os.fstat(fifo).st_mode):
        return fifo
    os.close(fifo)
    return -1


def _quoted(value: str) -> str:
    plain = value.isascii() and all(character.isalnum() or character in "-._/@^+" for character in value)
    return value if value and plain else f'"{_escaped(value)}"'


def _escaped(text: str) -> str:
    """Without anything that would end the quotes or the line."""
    escaped = text.translate(_ESCAPES)
    if escaped.isprintable():
        return escaped
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)


def _cut(data: bytes, size: int) -> bytes:
    """At most `size` bytes, ending neither within a character nor within an escape."""
    if len(data) <= size:
        return data
    cut = data[: max(size - 3, 0)].decode(errors="ignore").rpartition("\\")
    kept = cut[0] if len(cut[2]) < len("U00000000") else "".join(cut)
    return kept.rstrip("\\").encode() + b"..."

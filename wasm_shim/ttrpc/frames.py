"""ttrpc frames: a ten-byte header and a payload; bytes in, frames out, without any I/O.

Header, big-endian: u32 payload length, u32 stream id, u8 type, u8 flags. Source: PROTOCOL.md of containerd/ttrpc.
"""

from __future__ import annotations

import struct

REQUEST, RESPONSE, DATA = 1, 2, 3
MAX_PAYLOAD = 4 << 20
"""Longest payload in bytes (PROTOCOL.md, "Message Frame")."""

_HEADER = struct.Struct(">IIBB")
# PROTOCOL.md: a frame's first byte is reserved and zero, so a longer "length" means that this is not ttrpc.
_NOT_TTRPC = 1 << 24


class Frame:
    """One frame; `payload` is None when it was over MAX_PAYLOAD and has been skipped."""

    __slots__ = ("flags", "payload", "stream", "type")

    def __init__(self, stream: int, type: int, flags: int, payload: bytes | None) -> None:
        self.stream = stream
        self.type = type
        self.flags = flags
        self.payload = payload


class FrameDecoder:
    """Turns a stream's bytes, cut anywhere, into frames.

    `error` is empty until the bytes cannot be ttrpc; from then on it says why, and nothing more is decoded.
    """

    __slots__ = ("_buffer", "_skip", "error")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self.error = ""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes; an oversized one is reported as soon as its header is there."""
        self._buffer += data
        frames: list[Frame] = []
        while not self.error and (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if self._skip:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
        if len(self._buffer) < _HEADER.size:
            return None
        length, stream, kind, flags = _HEADER.unpack_from(self._buffer)
        end = _HEADER.size + length
        if length >= _NOT_TTRPC:
            self.error = f"the peer does not speak ttrpc: it announced a frame of {length} bytes"
            self._buffer.clear()
            return None
        if length > MAX_PAYLOAD:
            del self._buffer[: _HEADER.size]
            self._skip = length
            return Frame(stream, kind, flags, None)
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return Frame(stream, kind, flags, payload)


def encode_frame(stream: int, type: int, payload: bytes, flags: int = 0) -> bytes:
    """One frame's bytes; ValueError when the payload is over MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame holds {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(len(payload), stream, type, flags) + payload

"""The messages that others are built from: google.protobuf's, and containerd's Mount."""

from __future__ import annotations

from wasm_shim.ttrpc import wire
from wasm_shim.ttrpc.protobuf import Message, bytes_, int32, int64, repeated, string


class Any(Message):
    """A message of a named type, unread."""

    type_url: str = string(1)
    value: bytes = bytes_(2)


class Timestamp(Message):
    """A moment: seconds since 1970 in UTC, and 0 to 999,999,999 nanoseconds after them."""

    seconds: int = int64(1)
    nanos: int = int32(2)


class Empty(Message):
    """The answer that says nothing but yes."""


class Mount(Message):
    """A mount as mount(8) takes it; for a rootfs, `target` is relative to it."""

    type: str = string(1)
    source: str = string(2)
    target: str = string(3)
    options: list[str] = repeated(4, wire.STRING)

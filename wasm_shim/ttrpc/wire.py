"""The smallest pieces of the protobuf wire format: varints, and how each scalar type is written.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

VARINT, FIXED64, LENGTH_PREFIXED, FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1


class DecodeError(ValueError):
    """Bytes that are no message of the expected type."""


class Kind:
    """How a type is written: its wire type, its default, and the way to the wire and back."""

    __slots__ = ("decode", "default", "encode", "wire")

    def __init__(self, wire: int, default: Any, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        self.wire, self.default, self.encode, self.decode = wire, default, encode, decode


def encode_varint(value: int) -> bytes:
    """A number from 0 to 2**64 - 1 in groups of seven bits, lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise DecodeError("the message ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value <= _MASK64:
            return value, position
    raise DecodeError("a number has more than 64 bits")


def decode_value(data: bytes, position: int, wire: int) -> tuple[int | bytes, int]:
    """The value of a field with wire type `wire` at `position`, undecoded, and where it ends."""
    if wire == VARINT:
        return decode_varint(data, position)
    if wire == LENGTH_PREFIXED:
        length, position = decode_varint(data, position)
    elif wire in (FIXED64, FIXED32):
        length = 8 if wire == FIXED64 else 4
    else:
        raise DecodeError(f"wire type {wire} is no part of proto3")
    if length > len(data) - position:
        raise DecodeError(f"the message ends within a field of {length} bytes")
    return data[position : position + length], position + length


def _integer(low: int, bits: int) -> Kind:
    def encode(value: int) -> int:
        if not low <= value < low + (1 << bits):
            raise ValueError(f"{value} is not between {low} and {low + (1 << bits) - 1}")
        return value & _MASK64

    def decode(raw: int) -> int:
        # A wider number loses its upper bits, as in every protobuf implementation.
        return (raw - low) % (1 << bits) + low

    return Kind(VARINT, 0, encode, decode)


def _decode_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a string is not valid UTF-8") from error


STRING = Kind(LENGTH_PREFIXED, "", str.encode, _decode_text)
BYTES = Kind(LENGTH_PREFIXED, b"", bytes, bytes)
BOOL = Kind(VARINT, False, int, bool)
UINT32 = _integer(0, 32)
UINT64 = _integer(0, 64)
INT32 = _integer(-(1 << 31), 32)
INT64 = _integer(-(1 << 63), 64)

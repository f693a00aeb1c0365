"""The protobuf wire format (proto3), for message classes that declare their fields by number.

    class Mount(Message):
        type: str = string(1)
        options: list[str] = repeated(4, wire.STRING)

It stands in for google.protobuf in forked processes, where that would cost each pod half a megabyte. The rules are
those of protobuf.dev/programming-guides/encoding; the tests hold it against google.protobuf.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self, TypeVar, cast, dataclass_transform

from wasm_shim.ttrpc import wire
from wasm_shim.ttrpc.wire import DecodeError, Kind, encode_varint

MOST_FIELDS: Final = 1 << 16
"""Fields that one message may have, those of the messages within it included: 4 MiB hold 30 times as many, which would
keep a process that serves others for many seconds."""


class _Allowance:
    """How many fields may still come."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_FIELDS

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise DecodeError(f"it has more than {MOST_FIELDS} fields")


class Field:
    """One declared field of a message class."""

    __slots__ = ("kind", "name", "number", "repeated")

    def __init__(self, number: int, kind: Kind, *, repeated: bool = False) -> None:
        self.number, self.kind, self.repeated = number, kind, repeated
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def default(self) -> Any:
        """The value of an absent field; a new list where it is repeated."""
        return [] if self.repeated else self.kind.default

    def encode(self, value: Any) -> bytes:
        """The field's bytes with its tag; none for the default, which proto3 leaves out."""
        if not self.repeated:
            return self._tagged(self.kind.encode(value)) if value != self.kind.default else b""
        items = [self.kind.encode(item) for item in value]
        if items and self.kind.wire == wire.VARINT:
            return self._tagged(b"".join(map(encode_varint, items)))
        return b"".join(map(self._tagged, items))

    def merge(self, target: Message, raw: int | bytes, allowance: _Allowance) -> None:
        """Put a value from the wire into `target`; one of an unexpected wire type is skipped, as if unknown."""
        if isinstance(raw, int) == (self.kind.wire == wire.VARINT):
            self._merge_one(target, raw, allowance)
        elif self.repeated and isinstance(raw, bytes):
            position = 0
            while position < len(raw):
                allowance.take()
                item, position = wire.decode_varint(raw, position)
                self._merge_one(target, item, allowance)

    def _tagged(self, raw: int | bytes) -> bytes:
        if isinstance(raw, int):
            return encode_varint(self.number << 3 | wire.VARINT) + encode_varint(raw)
        return encode_varint(self.number << 3 | wire.LENGTH_PREFIXED) + encode_varint(len(raw)) + raw

    def _merge_one(self, target: Message, raw: Any, allowance: _Allowance) -> None:
        present = getattr(target, self.name)
        if isinstance(self.kind, _Nested):
            value = present if isinstance(present, Message) else self.kind.of()
            value.merge(raw, allowance)
        else:
            value = self.kind.decode(raw)
        if self.repeated:
            present.append(value)
        else:
            setattr(target, self.name, value)


# No field_specifiers: type checkers then take what `string(1)` returns for a default, so no argument is required.
@dataclass_transform(kw_only_default=True)
class Message:
    """Base of all messages: keyword arguments, equality, and the way to bytes and back."""

    _fields: ClassVar[dict[int, Field]] = {}

    def __init_subclass__(cls) -> None:
        cls._fields = {item.number: item for item in vars(cls).values() if isinstance(item, Field)}

    def __init__(self, **values: Any) -> None:
        for item in self._fields.values():
            setattr(self, item.name, values.pop(item.name) if item.name in values else item.default())
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # a message can change

    def __repr__(self) -> str:
        items = [(item.name, getattr(self, item.name), item.default()) for item in self._fields.values()]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value, no in items if value != no)})"

    def encode(self) -> bytes:
        """The message on the wire; ValueError for a number or a text that its field cannot hold."""
        return b"".join([item.encode(getattr(self, item.name)) for item in self._fields.values()])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message in `data`; unknown fields are skipped, DecodeError says what is malformed."""
        message = cls()
        message.merge(data)
        return message

    def merge(self, data: bytes, allowance: _Allowance | None = None) -> None:
        """Read `data` over what is here: scalars are replaced, lists grow, nested messages merge."""
        allowance, position = allowance or _Allowance(), 0
        while position < len(data):
            allowance.take()
            tag, position = wire.decode_varint(data, position)
            if not 8 <= tag < 1 << 32:
                raise DecodeError(f"{tag} is no tag: it has no valid field number")
            raw, position = wire.decode_value(data, position, tag & 7)
            item = self._fields.get(tag >> 3)
            # Fixed-width values belong to no type that we declare.
            if item is not None and tag & 7 in (wire.VARINT, wire.LENGTH_PREFIXED):
                item.merge(self, raw, allowance)


class _Nested(Kind):
    """A message as a field's type."""

    __slots__ = ("of",)

    def __init__(self, of: type[Message]) -> None:
        super().__init__(wire.LENGTH_PREFIXED, None, of.encode, of.decode)
        self.of = of


M = TypeVar("M", bound=Message)


def message(number: int, of: type[M]) -> M | None:
    """Declare a field with a nested message; None when absent."""
    return cast("M | None", Field(number, _Nested(of)))


def repeated(number: int, of: Kind | type[Message]) -> list[Any]:
    """Declare a repeated field of a scalar kind such as `wire.STRING`, or of messages."""
    return cast("list[Any]", Field(number, of if isinstance(of, Kind) else _Nested(of), repeated=True))


def string(number: int) -> str:
    """Declare a `string` field."""
    return cast("str", Field(number, wire.STRING))


def bytes_(number: int) -> bytes:
    """Declare a `bytes` field."""
    return cast("bytes", Field(number, wire.BYTES))


def bool_(number: int) -> bool:
    """Declare a `bool` field."""
    return cast("bool", Field(number, wire.BOOL))


def uint32(number: int) -> int:
    """Declare a `uint32` field."""
    return cast("int", Field(number, wire.UINT32))


def uint64(number: int) -> int:
    """Declare a `uint64` field."""
    return cast("int", Field(number, wire.UINT64))


def int32(number: int) -> int:
    """Declare a `int32` field."""
    return cast("int", Field(number, wire.INT32))


def int64(number: int) -> int:
    """Declare a `int64` field."""
    return cast("int", Field(number, wire.INT64))

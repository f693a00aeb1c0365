"""Our protobuf codec, rule by rule, against google.protobuf where it has a message of the shape."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf import any_pb2, descriptor_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.ttrpc import wire
from wasm_shim.ttrpc.protobuf import (
    MOST_FIELDS,
    Message,
    bool_,
    bytes_,
    int32,
    int64,
    message,
    repeated,
    string,
    uint32,
    uint64,
)
from wasm_shim.ttrpc.wire import DecodeError


class Sample(Message):
    """One field of every kind."""

    text: str = string(1)
    raw: bytes = bytes_(2)
    flag: bool = bool_(3)
    small: int = uint32(4)
    large: int = uint64(5)
    signed: int = int32(6)
    wide: int = int64(7)
    names: list[str] = repeated(17, wire.STRING)
    numbers: list[int] = repeated(18, wire.UINT32)


class Parent(Message):
    """A nested message, alone and repeated."""

    child: Sample | None = message(1, Sample)
    children: list[Sample] = repeated(2, Sample)


class Location(Message):
    """Google's SourceCodeInfo.Location, whose numbers are packed."""

    path: list[int] = repeated(1, wire.INT32)
    span: list[int] = repeated(2, wire.INT32)
    leading_comments: str = string(3)


class File(Message):
    """Some of Google's FileDescriptorProto, whose numbers are not packed."""

    name: str = string(1)
    public_dependency: list[int] = repeated(10, wire.INT32)


class UInt64Value(Message):
    value: int = uint64(1)


class Int32Value(Message):
    value: int = int32(1)


class BoolValue(Message):
    value: bool = bool_(1)


I32 = st.integers(-(1 << 31), (1 << 31) - 1)
SAMPLES = st.builds(
    Sample,
    text=st.text(),
    raw=st.binary(),
    flag=st.booleans(),
    small=st.integers(0, (1 << 32) - 1),
    large=st.integers(0, (1 << 64) - 1),
    signed=I32,
    wide=st.integers(-(1 << 63), (1 << 63) - 1),
    names=st.lists(st.text()),
    numbers=st.lists(st.integers(0, (1 << 32) - 1)),
)


@given(st.builds(Parent, child=st.none() | SAMPLES, children=st.lists(SAMPLES)))
def test_every_kind_survives_the_wire(parent: Parent) -> None:
    """What was encoded is decoded again, nested and repeated."""
    assert Parent.decode(parent.encode()) == parent


@given(st.lists(I32), st.lists(I32), st.text())
def test_packed_numbers_match_google(path: list[int], span: list[int], text: str) -> None:
    """Repeated numbers are written packed, byte for byte as google.protobuf writes them."""
    theirs = descriptor_pb2.SourceCodeInfo.Location(path=path, span=span)
    if text:
        theirs.leading_comments = text
    ours = Location(path=path, span=span, leading_comments=text)
    assert ours.encode() == theirs.SerializeToString()
    assert Location.decode(theirs.SerializeToString()) == ours


@given(st.lists(I32))
def test_reads_unpacked_numbers(numbers: list[int]) -> None:
    """Repeated numbers are read one by one too, as proto2 writes them."""
    theirs = descriptor_pb2.FileDescriptorProto(name="a", public_dependency=numbers)
    assert File.decode(theirs.SerializeToString()) == File(name="a", public_dependency=numbers)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_match_google(number: int) -> None:
    """Any 64-bit number is written and read as google.protobuf does, narrow types losing the upper bits."""
    encoded = wrappers_pb2.UInt64Value(value=number).SerializeToString()
    assert UInt64Value(value=number).encode() == encoded
    assert UInt64Value.decode(encoded).value == number
    assert Int32Value.decode(encoded).value == wrappers_pb2.Int32Value.FromString(encoded).value
    assert BoolValue.decode(encoded).value == wrappers_pb2.BoolValue.FromString(encoded).value


@given(st.binary())
def test_random_bytes_raise_nothing_but_decode_errors(data: bytes) -> None:
    """Whatever arrives is either a message or a DecodeError, for a message with fields of every kind."""
    for cls in (Sample, Parent):
        with contextlib.suppress(DecodeError):
            cls.decode(data)


def test_defaults_are_not_written() -> None:
    """A message of defaults is empty on the wire."""
    assert Sample().encode() == b""
    assert Sample(text="", raw=b"", flag=False, small=0, names=[]).encode() == b""


def test_an_empty_nested_message_is_present() -> None:
    """A nested message of defaults differs from none."""
    assert Parent(child=Sample()).encode() == b"\x0a\x00"
    assert Parent.decode(b"\x0a\x00").child == Sample()
    assert Parent.decode(b"").child is None


def test_last_scalar_wins() -> None:
    """Of a scalar written twice the last one counts."""
    assert Sample.decode(Sample(text="one").encode() + Sample(text="two").encode()).text == "two"


def test_nested_messages_merge() -> None:
    """A nested message written in two parts is put together."""
    parts = Parent(child=Sample(text="a", names=["x"])).encode() + Parent(child=Sample(small=7, names=["y"])).encode()
    assert Parent.decode(parts).child == Sample(text="a", small=7, names=["x", "y"])


def test_unknown_fields_are_skipped() -> None:
    """Fields of every wire type that we do not know are passed over."""
    unknown = b"\xa0\x06\x01" + b"\xa1\x06" + bytes(8) + b"\xa2\x06\x02hi" + b"\xa5\x06" + bytes(4)
    assert Sample.decode(unknown + Sample(text="a").encode() + unknown) == Sample(text="a")


@pytest.mark.parametrize("data", [b"\x08\x01", b"\x0d" + bytes(4), b"\x22\x01\x01", b"\x19" + bytes(8)])
def test_unexpected_wire_type_is_skipped(data: bytes) -> None:
    """A known field with a wire type that is not its own counts as unknown, as in google.protobuf."""
    assert Sample.decode(data) == Sample()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x08", "ends within a number"),
        (b"\x0a\x05abc", "ends within a field of 5 bytes"),
        (b"\x09abc", "ends within a field of 8 bytes"),
        (b"\x0d", "ends within a field of 4 bytes"),
        (b"\x20" + b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x20" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x0a\x01\xff", "not valid UTF-8"),
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\x00\x00", "no valid field number"),
        (b"\x92\x01\x01\x80", "ends within a number"),
        (b"\x20\x01" * (MOST_FIELDS + 1), f"more than {MOST_FIELDS} fields"),
        (b"\x78\x01" * (MOST_FIELDS + 1), f"more than {MOST_FIELDS} fields"),
    ],
)
def test_malformed_bytes_are_named(data: bytes, sentence: str) -> None:
    """Each way to be malformed raises a DecodeError that says which."""
    with pytest.raises(DecodeError, match=sentence):
        Sample.decode(data)


@pytest.mark.parametrize(
    "sample",
    [Sample(small=-1), Sample(small=1 << 32), Sample(large=1 << 64), Sample(signed=1 << 31), Sample(text="\udcff")],
)
def test_values_that_do_not_fit_are_refused(sample: Sample) -> None:
    """A number out of its type's range or a text that UTF-8 cannot hold raises ValueError instead of lying."""
    with pytest.raises(ValueError, match=r"is not between|surrogates not allowed"):
        sample.encode()


def test_unknown_argument_is_refused() -> None:
    """A misspelt field is a TypeError."""
    with pytest.raises(TypeError, match="Sample has no field txt"):
        Sample(txt="a")  # type: ignore[call-arg]


def test_messages_share_no_lists() -> None:
    """Each message has its own list for a repeated field."""
    one, other = Sample(), Sample()
    one.names.append("a")
    assert other.names == []


def test_equality_is_by_type_and_fields() -> None:
    """Messages are equal when type and all fields are, and cannot be hashed, because they can change."""
    assert Int32Value(value=1) != UInt64Value(value=1)
    assert Int32Value(value=1) != Int32Value(value=2)
    assert Int32Value(value=1) == Int32Value(value=1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Int32Value())


def test_repr_shows_what_is_set() -> None:
    """The representation leaves defaults out."""
    assert repr(Parent(child=Sample(text="a", small=0))) == "Parent(child=Sample(text='a'))"


def test_google_reads_our_bytes_field() -> None:
    """Bytes that are no text pass unharmed."""
    encoded = Sample(text="u", raw=b"\xff\x00").encode()
    theirs = any_pb2.Any.FromString(encoded)
    assert (theirs.type_url, theirs.value) == ("u", b"\xff\x00")


def test_fields_within_fields_count() -> None:
    """Those of all messages within a message, and packed numbers, share one allowance."""
    inner = b"\x20\x01" * 1000
    child = b"\x12" + wire.encode_varint(len(inner)) + inner
    assert len(Parent.decode(child * 60).children) == 60
    with pytest.raises(DecodeError, match="more than"):
        Parent.decode(child * 70)
    packed = b"\x0a" + wire.encode_varint(MOST_FIELDS) + bytes(MOST_FIELDS)
    with pytest.raises(DecodeError, match="more than"):
        Location.decode(packed)

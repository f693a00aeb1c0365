"""Decompression with a bound: every way to write gzip, damage, and bombs."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci.errors import InvalidContent, OciError, UnsupportedArtifact
from oci.inflate import inflated


def in_pieces(data: bytes, size: int = 100) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, size: int = 100) -> bytes:
    return b"".join(inflated(in_pieces(data, size)))


@pytest.mark.parametrize("size", [1, 3, 1000, 1 << 20])
def test_reads_gzip_and_what_is_none(size: int) -> None:
    text = b"hello " * 5000
    assert read(gzip.compress(text), size) == text
    assert read(text, size) == text
    assert read(b"") == b""
    assert read(b"\x1f") == b"\x1f"


def test_reads_several_members_and_padding() -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two" * 10_000) + bytes(1000)
    for size in (1, 7, 100_000):
        assert read(data, size) == b"one" + b"two" * 10_000


def test_hands_out_pieces_of_bounded_size() -> None:
    data = gzip.compress(bytes(50 << 20))
    assert max(len(piece) for piece in inflated(iter([data]))) <= 1 << 20


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gzip.compress(b"hello" * 1000)[:-1], "gzip that is cut off"),
        (gzip.compress(b"hello" * 1000)[:10], "gzip that is cut off"),
        (gzip.compress(b"hello") + b"garbage", "no proper gzip"),
        (gzip.compress(b"hello")[:-8] + bytes(8), "no proper gzip"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 50, "no proper gzip"),
    ],
)
def test_rejects_damage(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidContent, match=expected):
        read(data)


def test_rejects_zstd_with_a_remedy() -> None:
    with pytest.raises(UnsupportedArtifact, match="zstd, which cannot be read here; compress it with gzip"):
        read(b"\x28\xb5\x2f\xfd" + bytes(50), 1)


def bomb(size: int) -> Iterator[bytes]:
    """Zeros without end, a thousand times smaller than they are."""
    engine = zlib.compressobj(9, wbits=31)
    for _ in range(size >> 20):
        yield engine.compress(bytes(1 << 20))
    yield engine.flush()


def test_stops_at_a_bomb_soon() -> None:
    sizes: list[int] = []
    with pytest.raises(InvalidContent, match="swells to more than 100 times its size"):
        sizes.extend(map(len, inflated(bomb(1 << 30))))
    assert sum(sizes) < 100 << 20


def test_stops_at_many_members() -> None:
    member = gzip.compress(b"")
    with pytest.raises(InvalidContent, match="more than 200000 gzip members"):
        read(member * 200_001, 10_000)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 500))
def test_reads_what_gzip_writes(parts: list[bytes], size: int) -> None:
    assert read(b"".join(map(gzip.compress, parts)), size) == b"".join(parts)


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(1, 100))
def test_damage_raises_nothing_but_our_errors(tail: bytes, size: int) -> None:
    for beginning in (b"", b"\x1f\x8b\x08", gzip.compress(b"whole")):
        with suppress(OciError):
            read(beginning + tail, size)

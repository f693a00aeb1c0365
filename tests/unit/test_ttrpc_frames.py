"""ttrpc frames, whole, in pieces and malformed."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.ttrpc.frames import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, Frame, FrameDecoder, encode_frame

FRAMES = st.lists(
    st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 255), st.binary(max_size=50), st.integers(0, 255))
)


def parts(frames: list[Frame]) -> list[tuple[int, int, bytes | None, int]]:
    return [(frame.stream, frame.type, frame.payload, frame.flags) for frame in frames]


def test_header_layout() -> None:
    """Length, stream id, type and flags, big-endian, then the payload."""
    assert encode_frame(0x01020305, DATA, b"hey", flags=4) == bytes.fromhex("00000003 01020305 03 04") + b"hey"
    assert (REQUEST, RESPONSE, DATA) == (1, 2, 3)


@given(FRAMES, st.lists(st.integers(1, 30), min_size=1))
def test_frames_survive_any_cutting(frames: list[tuple[int, int, bytes, int]], cuts: list[int]) -> None:
    """The same frames come out, fed whole, byte by byte or in pieces of any size."""
    stream = b"".join(encode_frame(*frame) for frame in frames)
    for sizes in ([len(stream) + 1], [1], cuts):
        decoder, position = FrameDecoder(), 0
        seen: list[Frame] = []
        for size in cycle(sizes):
            seen += decoder.feed(stream[position : position + size])
            position += size
            if position >= len(stream):
                break
        assert parts(seen) == frames
        assert decoder.error == ""


def test_trailing_bytes_wait() -> None:
    """What follows a frame is kept until it is a frame itself."""
    first, second = encode_frame(1, REQUEST, b"one"), encode_frame(3, REQUEST, b"two")
    decoder = FrameDecoder()
    assert parts(decoder.feed(first + second[:-1])) == [(1, REQUEST, b"one", 0)]
    assert parts(decoder.feed(second[-1:])) == [(3, REQUEST, b"two", 0)]


def test_largest_payload_passes() -> None:
    """A payload of exactly the maximum is carried."""
    frames = FrameDecoder().feed(encode_frame(1, REQUEST, bytes(MAX_PAYLOAD)))
    assert [len(frame.payload or b"") for frame in frames] == [MAX_PAYLOAD]


@pytest.mark.parametrize("piece", [1 << 16, MAX_PAYLOAD + 1000])
def test_oversized_frame_is_reported_and_skipped(piece: int) -> None:
    """A frame over the maximum comes out without payload, and the next one as if nothing had been."""
    size = MAX_PAYLOAD + 1
    stream = size.to_bytes(4, "big") + encode_frame(5, REQUEST, b"")[4:] + bytes(size) + encode_frame(7, REQUEST, b"x")
    decoder, seen = FrameDecoder(), []
    for position in range(0, len(stream), piece):
        seen += decoder.feed(stream[position : position + piece])
    assert parts(seen) == [(5, REQUEST, None, 0), (7, REQUEST, b"x", 0)]


def test_garbage_ends_decoding() -> None:
    """Bytes of another protocol are named, after the frames before them, and nothing is decoded any more."""
    decoder = FrameDecoder()
    assert parts(decoder.feed(encode_frame(1, REQUEST, b"") + b"GET / HTTP/1.1\r\n")) == [(1, REQUEST, b"", 0)]
    assert "does not speak ttrpc" in decoder.error
    assert decoder.feed(encode_frame(3, REQUEST, b"")) == []


@given(st.lists(st.binary()))
def test_random_bytes_raise_nothing(chunks: list[bytes]) -> None:
    """Whatever arrives, the decoder raises nothing."""
    decoder = FrameDecoder()
    for chunk in chunks:
        decoder.feed(chunk)


def test_refuses_to_write_an_oversized_frame() -> None:
    """A payload over the maximum is not written."""
    with pytest.raises(ValueError, match="a frame holds 4194304 bytes, not 4194305"):
        encode_frame(1, RESPONSE, bytes(MAX_PAYLOAD + 1))

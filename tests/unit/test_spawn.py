"""The zygote's requests and answers, bytes in and bytes out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.errors import InvalidArgument
from wasm_shim.spawn import (
    LIMIT,
    CommandRequest,
    SpawnRequest,
    decode_request,
    encode_answer,
    encode_output,
    encode_request,
    request_size,
)

# Paths are bytes: those that are no UTF-8 are surrogates in Python's text.
PATHS = st.binary(max_size=30).map(lambda data: "/" + data.replace(b"\0", b"").decode(errors="surrogateescape"))
TEXTS = PATHS.map(lambda path: path[1:])
REQUESTS = st.builds(SpawnRequest, address=PATHS, directory=PATHS, remove=st.booleans(), programs=PATHS, hold=PATHS)
COMMANDS = st.builds(
    CommandRequest,
    arguments=st.lists(TEXTS, max_size=5).map(tuple),
    directory=PATHS,
    environment=st.dictionaries(TEXTS.filter(lambda name: name and "=" not in name), TEXTS, max_size=5),
)
COMMAND = CommandRequest(("-id", "a", "start"), "/bundle", {"WASM_SHIM_HOLD": "x:/y", "TTRPC_ADDRESS": ""})
REQUEST = SpawnRequest("/run/1", "/state/1", remove=True, programs="/cache", hold="")


@given(REQUESTS | COMMANDS)
def test_request_survives(request_: SpawnRequest | CommandRequest) -> None:
    """What is decoded is what was encoded, and the length in front is that of the whole."""
    encoded = encode_request(request_)
    assert request_size(encoded) == request_size(encoded[:4]) == len(encoded)
    assert decode_request(encoded) == request_


def test_size_is_unknown_at_first() -> None:
    """The size of a request is known after four bytes."""
    assert [request_size(encode_request(REQUEST)[:end]) for end in range(4)] == [0] * 4


def test_rejects_every_cut() -> None:
    """A request that was cut at any byte is refused, also between two fields; so is one with something behind it."""
    for request_ in (REQUEST, COMMAND):
        whole = encode_request(request_)
        for damaged in [*(whole[:end] for end in range(len(whole))), whole + b"\0", whole + bytes(4)]:
            with pytest.raises(InvalidArgument, match="damaged"):
                decode_request(damaged)


@pytest.mark.parametrize("request_", [REQUEST, COMMAND], ids=["pod", "command"])
def test_rejects_every_cut_with_a_length_that_fits(request_: SpawnRequest | CommandRequest) -> None:
    """Nor does a length that agrees with the cut make it whole."""
    body = encode_request(request_)[4:]
    for end in range(len(body)):
        with pytest.raises(InvalidArgument, match="damaged"):
            decode_request(end.to_bytes(4, "big") + body[:end])


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    """Whatever arrives is a request or InvalidArgument, with the right length in front and without."""
    for data in (body, len(body).to_bytes(4, "big") + body):
        with contextlib.suppress(InvalidArgument):
            decode_request(data)


@pytest.mark.parametrize("length", [LIMIT, (1 << 32) - 1])
def test_rejects_oversize(length: int) -> None:
    """A request that would be too long is refused by its first four bytes, before it is read."""
    with pytest.raises(InvalidArgument, match=f"a request of {length + 4} bytes is too long"):
        request_size(length.to_bytes(4, "big"))
    assert request_size((LIMIT - 4).to_bytes(4, "big")) == LIMIT


def fields(*texts: bytes) -> bytes:
    """A request of these fields."""
    body = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "texts",
    [
        (b"",),
        (b"other", b"/"),
        (b"command",),
        (b"command", b"/", b""),
        (b"command", b"/", b"", b"", b""),
        (b"command", b"/", b"no end", b""),
        (b"command", b"/", b"", b"NO_EQUALS\0"),
        (b"command", b"/", b"", b"=no name\0"),
        (b"command", b"relative", b"", b""),
        (b"command", b"/a\0b", b"", b""),
        (b"command", b"", b"", b""),
    ],
)
def test_rejects_wrong_fields(texts: tuple[bytes, ...]) -> None:
    """A request of another kind, with too many or too few fields or with odd ones is refused."""
    with pytest.raises(InvalidArgument, match="a request to the zygote"):
        decode_request(fields(*texts))


def test_hold_of_a_command() -> None:
    """A test holds a command's process by a variable of its environment."""
    assert COMMAND.hold == "x:/y"
    assert CommandRequest((), "/", {}).hold == ""


def test_too_long_a_command() -> None:
    """What is too long is refused where it is made."""
    with pytest.raises(InvalidArgument, match="too long"):
        encode_request(CommandRequest(("x" * LIMIT,), "/", {}))


def test_output_is_any_bytes() -> None:
    """What a command prints follows its mark unchanged."""
    assert encode_output(b"\0\n-") == b"+\0\n-"


def test_answers_are_one_line() -> None:
    """Success is + and the address, failure is - and a sentence; a sentence of several lines becomes one."""
    assert encode_answer("/run/1", "") == b"+/run/1\n"
    assert encode_answer("", "it\nbroke  twice;\ttry") == b"-it broke twice; try\n"


def test_answer_with_a_name_that_is_no_text() -> None:
    """A path that is no UTF-8 is answered as the bytes that it is."""
    assert encode_answer("/run/\udcff", "") == b"+/run/\xff\n"
    assert encode_answer("", "no \udcff") == b"-no \xff\n"

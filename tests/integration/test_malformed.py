"""Malformed and hostile requests to a pod shim as containerd starts it: a clear status, and the shim lives."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.service_bench import METHODS
from tests.integration.hostile import SERVICE, Bundle, Wire, bundle, call, examples, frame
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.frames import MAX_PAYLOAD
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.wire import encode_varint

pytestmark = pytest.mark.root

REQUESTS: Final[dict[str, type[Message]]] = {
    **{method: kind for method, kind in METHODS.items() if method != "Shutdown"},  # after which nobody would be left
    "Exec": messages.ExecProcessRequest,
    "Checkpoint": messages.CheckpointTaskRequest,
}
SECONDS: Final = 3.0  # that the worst request may keep the shim from others, on a busy machine
MEMORY: Final = 96 << 20  # bytes that hostile peers may make it use for a time


@pytest.fixture(scope="module")
def container(guest: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle(guest("kit_p1.wasm"), tmp_path_factory.mktemp("malformed")) as container:
        yield container


# Frames

ASKED: Final = call("State", messages.StateRequest(id="nobody").encode())
uint32 = st.integers(0, (1 << 32) - 1)
payloads = st.one_of(
    st.just(ASKED),
    st.binary(max_size=300),
    st.builds(call, st.sampled_from([*REQUESTS, "Shut", ""]), st.binary(max_size=50), st.text(max_size=4)),
    st.builds(lambda data, cut: data[:cut], st.just(ASKED), st.integers(0, len(ASKED))),
)
lengths = st.one_of(st.none(), st.none(), uint32, st.sampled_from([0, MAX_PAYLOAD, MAX_PAYLOAD + 1, (1 << 24) - 1]))
frames = st.builds(
    frame,
    st.one_of(st.integers(0, 9), uint32),
    payloads,
    st.sampled_from([1, 1, 1, 0, 2, 3, 4, 255]),
    st.integers(0, 255),
    lengths,
)


@examples(250)
@given(sent=st.lists(frames, max_size=6).map(b"".join), cut=st.integers(0, 2000), ends=st.booleans())
def test_any_frames(container: Bundle, sent: bytes, cut: int, *, ends: bool) -> None:
    """Whatever comes is answered with a status, or ended; a peer that goes without its answers is no matter."""
    with Wire(container.pod) as wire:
        wire.send(sent[: len(sent) - cut] if cut < len(sent) else sent)
        if ends:
            list(wire.answers())
    container.pod.settle()
    assert container.left() == []


def test_frames_cut_anywhere(container: Bundle) -> None:
    """A peer that stops within a frame is waited for, while all others are served, until it goes or goes on."""
    whole = frame(1, ASKED)
    wires = [Wire(container.pod) for _ in whole]
    for size, wire in enumerate(wires):
        wire.send(whole[:size])
    container.pod.settle()
    for size, wire in enumerate(wires):
        if size % 2:
            wire.send(whole[size:])
            answered = wire.answer()
            assert answered is not None
            assert (answered[0], answered[1].status and answered[1].status.code) == (1, Code.NOT_FOUND)
        wire.close()
    container.pod.settle()
    assert container.left() == []


def test_the_longest_frames(container: Bundle) -> None:
    """The longest message is served, a longer one is refused without being kept, and what cannot be ttrpc is ended."""
    before = container.pod.memory()
    filler = MAX_PAYLOAD - len(call("State", messages.StateRequest(id="x" * (MAX_PAYLOAD >> 1)).encode()))
    longest = call("State", messages.StateRequest(id="x" * ((MAX_PAYLOAD >> 1) + filler)).encode())
    assert len(longest) == MAX_PAYLOAD
    with Wire(container.pod) as wire:
        wire.send(frame(1, longest) + frame(3, bytes(MAX_PAYLOAD + 1)) + frame(5, ASKED))
        codes = [response.status.code for _, response in wire.answers() if response.status]
        assert codes == [Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND]
    with Wire(container.pod) as wire:
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert list(wire.answers()) == []
    container.pod.settle()
    assert container.pod.memory() - before < MEMORY


def test_a_peer_that_never_reads(container: Bundle) -> None:
    """It is read from no more, so what waits for it is bounded, and others are served."""
    before = container.pod.memory()
    wires = [Wire(container.pod) for _ in range(4)]
    many = b"".join(frame(1 + 2 * number, call("State", b"\n\x64" + b"y" * 100)) for number in range(20000))
    for wire in wires:
        assert wire.fill(many) < len(many)
    container.pod.settle()
    assert container.pod.memory() - before < MEMORY
    for wire in wires:
        wire.close()
    container.pod.settle()
    assert container.left() == []


def test_many_connections(container: Bundle) -> None:
    """Two hundred at once, each in the middle of something."""
    wires = [Wire(container.pod) for _ in range(200)]
    for part in (slice(0, 5), slice(5, 12), slice(12, None)):
        for wire in wires:
            wire.send(frame(1, ASKED)[part])
    for wire in wires:
        assert wire.answer()
        wire.close()
    container.pod.settle()
    assert container.left() == []


# Messages

varints = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1)).map(encode_varint)
broken_varints = st.sampled_from([b"\xff" * 9, b"\xff" * 12, b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80"])
texts = st.one_of(
    st.sampled_from([b"", b"one", b"nobody", b"../x", b"a/b", b"\0", b"\n", b"\xff\xfe", b"\xed\xa0\x80", b"n" * 5000]),
    st.text(max_size=4).map(str.encode),
    st.binary(max_size=30),
)


def field(number: int, wire: int, value: bytes) -> bytes:
    """A field; its wire type may have nothing to do with the value."""
    return encode_varint(number << 3 | wire) + value


def nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Fields as the value of a field."""
    return st.lists(inner, max_size=4).map(b"".join).map(lambda data: encode_varint(len(data)) + data).flatmap(
        lambda data: st.builds(field, st.integers(1, 12), st.just(2), st.just(data))
    )


prefixed = texts.map(lambda data: encode_varint(len(data)) + data)
plain = st.one_of(
    st.builds(field, st.integers(1, 12), st.just(2), prefixed),
    st.builds(field, st.integers(1, 12), st.just(0), varints),
    st.builds(field, st.integers(0, 1 << 30), st.integers(0, 7), st.one_of(varints, broken_varints, prefixed)),
)
fields = st.lists(st.recursive(plain, nested, max_leaves=12), max_size=8).map(b"".join)


@examples(250)
@given(method=st.sampled_from(list(REQUESTS)), named=st.booleans(), payload=fields, cut=st.integers(0, 200))
def test_any_message(container: Bundle, method: str, *, named: bool, payload: bytes, cut: int) -> None:
    """Every method gets bytes that are no message, or not what it expects, also behind a good beginning."""
    payload = (REQUESTS[method](id="nobody").encode() if named else b"") + payload
    for service in messages.TASK_SERVICES:
        container.pod.outcome(method, payload[: len(payload) - cut] if cut < len(payload) else payload, service)
    container.pod.settle()
    assert container.left() == []


@pytest.mark.parametrize("method", REQUESTS)
def test_wrong_wire_types(container: Bundle, method: str) -> None:
    """Each field in each wire type, with values of all sizes, is skipped or refused."""
    values = (b"\0", b"\xff" * 9 + b"\x01", b"\x7f", b"\x04\xff\xff\xff\xff", b"\x03abc", bytes(8), b"\xff" * 10)
    for number in (*range(14), 1 << 28):
        for wire in range(8):
            for value in values:
                container.pod.outcome(method, b"\n\x06nobody" + field(number, wire, value))
    assert container.left() == []


HOSTILE: Final[dict[str, tuple[str, bytes]]] = {
    "a flag two million times": ("Create", b"\x20\x01" * (MAX_PAYLOAD // 2 - 100)),
    "empty mounts": ("Create", b"\x1a\0" * (MAX_PAYLOAD // 2 - 100)),
    "empty options": ("Create", field(3, 2, encode_varint(4 << 19) + b"\x22\0" * (1 << 20))),
    "unknown fields": ("State", b"\x78\x01" * (MAX_PAYLOAD // 2 - 100)),
    "metadata": ("Update", b"\x1a\0" * (MAX_PAYLOAD // 2 - 100)),
    "a long id": ("Create", messages.CreateTaskRequest(id="i" * (MAX_PAYLOAD - 200), bundle="/b").encode()),
    "a long path": ("Create", messages.CreateTaskRequest(id="a", bundle="/" * (MAX_PAYLOAD - 200)).encode()),
}


@pytest.mark.parametrize(("method", "payload"), HOSTILE.values(), ids=HOSTILE)
def test_time_and_memory(container: Bundle, method: str, payload: bytes) -> None:
    """The worst that fits into a message keeps the shim for a moment, and it forgets it."""
    before, began = container.pod.memory(), time.monotonic()
    assert container.pod.outcome(method, payload) != Code.OK
    assert time.monotonic() - began < SECONDS
    container.pod.settle()
    assert container.pod.memory() - before < MEMORY


def test_other_services(container: Bundle) -> None:
    """Names that nobody serves, of any size and with any characters."""
    names = ((SERVICE, ""), ("", ""), ("x" * 100000, "y" * 100000), ("a\nb", "c\0d"), (SERVICE, "create"))
    for service, method in names:
        assert container.pod.outcome(method, b"", service) == Code.UNIMPLEMENTED

"""The Task service and requests that nobody would send: each is answered with a status, or waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.contracts.service_bench import METHODS, Service
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.ttrpc.well_known import Mount

if TYPE_CHECKING:
    from wasm_shim.ttrpc.protobuf import Message

REFUSALS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION,
    Code.UNIMPLEMENTED,
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)
STATUSES = ("created", "running", "paused", "stopped")


@pytest.fixture
def service() -> Service:
    return Service()


@EVERY_METHOD
@settings(max_examples=50)
@given(payload=st.binary(max_size=40))
@example(payload=b"\x0a\x05ab")
@example(payload=b"\x0a\x01\xff")
def test_any_bytes(method: str, payload: bytes) -> None:
    """Bytes of any kind are answered or wait, and nothing ever comes out of handle."""
    service = Service()
    service.create(id="one")
    reply = service.raw(method, payload)
    if reply.failure:
        code, message = reply.failure
        assert code in REFUSALS
        assert message


TEXTS = st.text(max_size=5) | st.just("nul\0")
TYPES = [messages.RunOptions.TYPE_URL, messages.RuncOptions.TYPE_URL, messages.RuntimeOptions.TYPE_URL, "", "other/x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["memory", "cpu", ""]), inner),
    max_leaves=5,
)
PACKED = st.builds(
    AnyMessage,
    type_url=st.sampled_from(TYPES),
    value=st.binary(max_size=9) | JSON.map(lambda value: json.dumps(value).encode()),
)
NUMBERS = st.sampled_from([0, 9, 15, 64, 65, 65535, 65536, (1 << 32) - 1])
MOUNTS = st.lists(
    st.builds(Mount, type=TEXTS, source=TEXTS, target=TEXTS, options=st.lists(TEXTS, max_size=2)), max_size=2
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["one", "two", ""]) | TEXTS,
    "exec_id": st.sampled_from(["", "", "x"]),
    "bundle": st.just("/b") | TEXTS,
    "stderr": st.just("") | TEXTS,
    "checkpoint": st.just("") | TEXTS,
    "signal": NUMBERS,
    "width": NUMBERS,
    "all": st.booleans(),
    "rootfs": MOUNTS,
    "options": st.none() | PACKED,
    "resources": st.none() | PACKED,
}


def requests(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Requests whose fields hold what nobody would send, often for the task that is there."""
    known = {name: strategy for name, strategy in FIELDS.items() if name in kind.__annotations__}
    return st.builds(kind, **known).map(lambda made: made.encode())


@EVERY_METHOD
@settings(max_examples=50)
@given(data=st.data(), status=st.sampled_from(STATUSES))
def test_any_values(method: str, data: st.DataObject, status: str) -> None:
    """Well-formed requests with any values are answered or wait, whatever the task's status."""
    service = Service()
    service.create()
    if status != "created":
        service.ask("Start", id="one")
    if status == "paused":
        service.ask("Pause", id="one")
        service.until(lambda: service.runner.processes["one"].frozen)
    if status == "stopped":
        service.runner.processes["one"].end(0)
    reply = service.raw(method, data.draw(requests(METHODS[method])))
    if reply.failure:
        assert reply.failure[0] in REFUSALS


@EVERY_METHOD
def test_rejects_malformed_requests(service: Service, method: str) -> None:
    """A request that cannot be read is INVALID_ARGUMENT and named."""
    assert service.raw(method, b"\x0a\xff").failure is not None
    code, message = service.raw(method, b"\x0a\xff").failure or (0, "")
    assert code == Code.INVALID_ARGUMENT
    assert message.startswith(f"cannot read the request of {method}: ")


@pytest.mark.parametrize(
    "fields", [{"id": "one\0"}, {"bundle": "/b\0"}, {"stdout": "\0"}, {"rootfs": [Mount(options=["a", "b\0"])]}]
)
def test_rejects_texts_with_a_nul(service: Service, fields: dict[str, Any]) -> None:
    """No path has one, and the kernel would read only what is before it."""
    code, message = service.ask("Create", **({"id": "one", "bundle": "/b"} | fields)).failure or (0, "")
    assert (code, "NUL" in message) == (Code.INVALID_ARGUMENT, True)
    assert service.manager.empty

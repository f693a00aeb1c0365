"""Every message that we exchange with containerd, held against what protoc makes of proto/."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, empty_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError as GoogleDecodeError
from google.protobuf.message import Message as GoogleMessage
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from wasm_shim.api import (
    events_pb2,
    forward_pb2,
    process_pb2,
    run_options_pb2,
    runc_options_pb2,
    runtime_options_pb2,
    shared_pb2,
    task_pb2,
    ttrpc_pb2,
)
from wasm_shim.ttrpc import envelope, events, well_known
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.wire import DecodeError

ROOT = Path(__file__).parents[2]
GENERATED = (events_pb2, forward_pb2, process_pb2, run_options_pb2, shared_pb2, task_pb2, ttrpc_pb2)
DESCRIPTORS: dict[str, Descriptor] = {
    name: descriptor for module in GENERATED for name, descriptor in module.DESCRIPTOR.message_types_by_name.items()
} | {cls.DESCRIPTOR.name: cls.DESCRIPTOR for cls in (any_pb2.Any, empty_pb2.Empty, timestamp_pb2.Timestamp)}
# Two that are both called Options.
for name, module in (("RuncOptions", runc_options_pb2), ("RuntimeOptions", runtime_options_pb2)):
    DESCRIPTORS[name] = module.DESCRIPTOR.message_types_by_name["Options"]
NAMES = {descriptor.full_name: name for name, descriptor in DESCRIPTORS.items()}
OURS: dict[str, type[Message]] = {
    name: value
    for module in (messages, events, well_known, envelope)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Message) and value not in (Message, events.Event)
}
RANGES = {
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
}
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=20),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    **{kind: st.sampled_from([0, 1, low, high]) | st.integers(low, high) for kind, (low, high) in RANGES.items()},
}


def ours_for(descriptor: Descriptor) -> type[Message]:
    """Our class for a message; the entries of a map are KeyValues."""
    return OURS["KeyValue" if descriptor.GetOptions().map_entry else NAMES[descriptor.full_name]]


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values for a field as our classes hold them."""
    one = built(field.message_type) if field.message_type else SCALARS[field.type]
    if not field.is_repeated:
        return st.none() | one if field.message_type else one
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return st.lists(one, max_size=3, unique_by=(lambda item: item.key) if is_map else id)


def built(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of our class for `descriptor`."""
    return st.builds(ours_for(descriptor), **{field.name: values(field) for field in descriptor.fields})


def plain(theirs: Any) -> Message:
    """A google.protobuf message as one of ours, field by field."""
    fields: dict[str, Any] = {}
    for field in theirs.DESCRIPTOR.fields:
        value = getattr(theirs, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = [envelope.KeyValue(key=key, value=value[key]) for key in value]
        elif field.is_repeated:
            value = [plain(item) if field.message_type else item for item in value]
        elif field.message_type:
            value = plain(value) if theirs.HasField(field.name) else None
        fields[field.name] = value
    return ours_for(theirs.DESCRIPTOR)(**fields)


def normal(message: Message) -> Message:
    """With the entries of a map in order, which the wire does not keep."""
    if isinstance(message, messages.UpdateTaskRequest):
        last = {item.key: item for item in message.annotations}
        message.annotations = sorted(last.values(), key=lambda item: item.key)
    return message


# For each of some fifty messages, so fewer examples than usual do.
FEW = settings(max_examples=25)
EVERY_MESSAGE = pytest.mark.parametrize("name", sorted(DESCRIPTORS))


def google(name: str) -> type[GoogleMessage]:
    return GetMessageClass(DESCRIPTORS[name])


def test_both_sides_declare_the_same_messages() -> None:
    """No message is ours alone or in proto/ alone."""
    assert set(OURS) == set(DESCRIPTORS)


@EVERY_MESSAGE
@FEW
@given(st.data())
def test_google_reads_what_we_write(name: str, data: st.DataObject) -> None:
    """google.protobuf finds in our bytes exactly what we put in."""
    message = data.draw(built(DESCRIPTORS[name]))
    assert normal(plain(google(name).FromString(message.encode()))) == normal(message)


@EVERY_MESSAGE
@FEW
@given(st.data())
def test_we_read_what_google_writes(name: str, data: st.DataObject) -> None:
    """We find in google.protobuf's bytes what it was given."""
    theirs = google(name).FromString(data.draw(built(DESCRIPTORS[name])).encode())
    assert normal(OURS[name].decode(theirs.SerializeToString())) == normal(plain(theirs))


@EVERY_MESSAGE
@FEW
@given(st.data())
def test_damaged_messages_mean_the_same_to_both(name: str, data: st.DataObject) -> None:
    """Random bytes and damaged messages raise DecodeError or nothing, and what we accept google accepts alike."""
    encoded = bytearray(data.draw(built(DESCRIPTORS[name])).encode())
    for position in data.draw(st.lists(st.integers(0, max(len(encoded) - 1, 0)), max_size=3)):
        encoded[position : position + 1] = data.draw(st.binary(max_size=2))
    damaged = bytes(encoded) + data.draw(st.binary(max_size=3))
    try:
        ours = OURS[name].decode(damaged)
    except DecodeError:
        return
    try:
        theirs = google(name).FromString(damaged)
    except GoogleDecodeError:
        pytest.fail(f"we read {ours} where google.protobuf reads nothing")
    assert normal(ours) == normal(plain(theirs))


@EVERY_MESSAGE
@FEW
@given(data=st.binary())
def test_random_bytes_raise_nothing_else(name: str, data: bytes) -> None:
    """Random bytes are a message or a DecodeError."""
    with contextlib.suppress(DecodeError):
        OURS[name].decode(data)


@pytest.mark.parametrize("ours", [messages.Status, events.ExitReason])
def test_enums_have_containerds_numbers(ours: type[messages.Status] | type[events.ExitReason]) -> None:
    """Our enums and those in proto/ name the same numbers."""
    theirs = process_pb2.DESCRIPTOR.enum_types_by_name[ours.__name__]
    assert {item.name: item.value for item in ours} == {item.name: item.number for item in theirs.values}


def test_service_names() -> None:
    """The services that we serve and call are called as in proto/."""
    assert task_pb2.DESCRIPTOR.services_by_name["Task"].full_name in messages.TASK_SERVICES
    assert forward_pb2.DESCRIPTOR.services_by_name["Events"].full_name == events.EVENTS_SERVICE


def test_events_are_packed_under_their_full_name() -> None:
    """An event's type URL is its protobuf name, and each has a topic of its own."""
    kinds = events.Event.__subclasses__()
    for kind in kinds:
        assert kind(container_id="c").pack().type_url == DESCRIPTORS[kind.__name__].full_name
        assert kind.TOPIC.startswith("/tasks/")
    assert len({kind.TOPIC for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", [messages.RuncOptions, messages.RuntimeOptions])
def test_options_have_containerds_names(kind: type[messages.RuncOptions] | type[messages.RuntimeOptions]) -> None:
    """containerd packs options under their full protobuf name, which is how we know them."""
    assert DESCRIPTORS[kind.__name__].full_name == kind.TYPE_URL


def test_google_unpacks_our_options() -> None:
    """The type URL of RunOptions is one that google.protobuf unpacks."""
    packed = well_known.Any(type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(invoke="f()").encode())
    theirs = run_options_pb2.RunOptions()
    assert any_pb2.Any.FromString(packed.encode()).Unpack(theirs)
    assert theirs.invoke == "f()"


def test_imports_stay_small() -> None:
    """What every pod's processes load brings in nothing that is known to be heavy."""
    loads = "import sys, wasm_shim.ttrpc.task, wasm_shim.ttrpc.client, wasm_shim.ttrpc.server; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-S", "-c", loads], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"asyncio", "dataclasses", "google", "grpc", "inspect", "logging", "pathlib"}
    assert heavy.isdisjoint(run.stdout.split())

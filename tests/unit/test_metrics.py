"""The messages that Stats answers, held against what protoc makes of proto/."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from wasm_shim.api import metrics_v1_pb2, metrics_v2_pb2
from wasm_shim.container.cgroup import v1_metrics, v2_metrics
from wasm_shim.ttrpc import metrics
from wasm_shim.ttrpc.protobuf import Message

DESCRIPTORS: dict[str, Descriptor] = {
    f"{prefix}{name}" if name != "PidsStat" else name: descriptor
    for prefix, module in (("V1", metrics_v1_pb2), ("V2", metrics_v2_pb2))
    for name, descriptor in module.DESCRIPTOR.message_types_by_name.items()
}
OURS: dict[str, type[Message]] = {
    name: value
    for name, value in vars(metrics).items()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
}
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=10),
    FieldDescriptor.TYPE_UINT64: st.sampled_from([0, 1, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1),
}
EVERY_MESSAGE = pytest.mark.parametrize("name", sorted(DESCRIPTORS))
FEW = settings(max_examples=25)


def ours_for(descriptor: Descriptor) -> type[Message]:
    prefix = "V1" if descriptor.file.package.endswith(".v1") else "V2"
    return OURS[descriptor.name if descriptor.name == "PidsStat" else f"{prefix}{descriptor.name}"]


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = built(field.message_type) if field.message_type else SCALARS[field.type]
    if field.is_repeated:
        return st.lists(one, max_size=3)
    return st.none() | one if field.message_type else one


def built(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    return st.builds(ours_for(descriptor), **{field.name: values(field) for field in descriptor.fields})


def plain(theirs: Any) -> Message:
    """A google.protobuf message as one of ours, field by field."""
    fields: dict[str, Any] = {}
    for field in theirs.DESCRIPTOR.fields:
        value = getattr(theirs, field.name)
        if field.is_repeated:
            value = [plain(item) if field.message_type else item for item in value]
        elif field.message_type:
            value = plain(value) if theirs.HasField(field.name) else None
        fields[field.name] = value
    return ours_for(theirs.DESCRIPTOR)(**fields)


def test_both_sides_declare_the_same_messages() -> None:
    assert set(OURS) == set(DESCRIPTORS)


@EVERY_MESSAGE
@FEW
@given(st.data())
def test_both_read_what_the_other_writes(name: str, data: st.DataObject) -> None:
    message = data.draw(built(DESCRIPTORS[name]))
    theirs = GetMessageClass(DESCRIPTORS[name]).FromString(message.encode())
    assert plain(theirs) == message
    assert OURS[name].decode(theirs.SerializeToString()) == message


def test_they_are_named_as_containerd_names_them() -> None:
    assert DESCRIPTORS["V1Metrics"].full_name == v1_metrics.TYPE_URL
    assert DESCRIPTORS["V2Metrics"].full_name == v2_metrics.TYPE_URL

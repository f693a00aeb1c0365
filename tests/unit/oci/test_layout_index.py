"""The index.json of layouts: any bytes are read or refused, and a layout does what a store in memory does."""

import tempfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci.content import Store
from oci.descriptor import Descriptor
from oci.errors import OciError
from oci.layout import Layout
from oci.layout_index import LayoutIndex
from oci.memory import MemoryStore
from tests.contracts.stores import put, put_artifact
from tests.unit.oci.test_manifest import JSON

DESCRIPTOR = Descriptor.of("a/b", b"")
ENTRY = DESCRIPTOR.to_json() | {"annotations": {"org.opencontainers.image.ref.name": "a"}}
FIELDS = st.fixed_dictionaries({}, optional={name: JSON | st.just(each) for name, each in ENTRY.items()})


@settings(max_examples=200)
@given(st.binary())
@example(b'{"manifests":null}')
def test_any_bytes_are_an_index_or_are_refused(raw: bytes) -> None:
    try:
        index = LayoutIndex.parse(raw)
        index.entries()
    except OciError:
        return
    assert LayoutIndex.parse(index.encode()) == index


@settings(max_examples=200)
@given(st.lists(FIELDS, max_size=3), st.sampled_from(["a", "b", str(DESCRIPTOR.digest)]))
def test_names_come_and_go_beside_any_entries(entries: list[object], name: str) -> None:
    try:
        index = LayoutIndex.parse(LayoutIndex({"manifests": entries}).encode())
        index.entries()
    except OciError:
        return
    tagged = index.tagged(name, DESCRIPTOR)
    assert tagged.find(name) == DESCRIPTOR
    untagged = tagged.untagged(name)
    assert untagged is not None
    assert untagged.find(name) is None
    assert untagged.untagged(name) is None


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("artifact"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("blob"), st.just(""), st.integers(0, 3)),
    st.tuples(st.just("untag"), NAMES, st.just(0)),
    st.tuples(st.just("collect"), st.just(""), st.just(0)),
)


def outcome(store: Store, what: str, name: str, number: int) -> object:
    """What a store answers."""
    try:
        match what:
            case "artifact":
                return put_artifact(store, b"shared", bytes([number]), name=name).descriptor
            case "blob":
                return put(store, bytes([number]))
            case "untag":
                store.untag(name)
                return None
            case _:
                return store.collect()
    except OciError as error:
        return type(error)


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=12))
def test_a_layout_does_what_memory_does(steps: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        layout, memory = Layout.create(f"{directory}/layout"), MemoryStore()
        for step in steps:
            assert outcome(layout, *step) == outcome(memory, *step)
            assert layout.tags() == memory.tags()
        assert layout.collect() == memory.collect()

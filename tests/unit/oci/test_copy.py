"""Copying between stores: what goes in which order, what is left out, what is told, and sources that break."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oci.content import Source, Store
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.errors import InvalidContent, NotFound, Unavailable
from oci.graph import fetch
from oci.layout import Layout
from oci.manifest import Index
from oci.memory import MemoryStore
from tests.contracts.scripted import ScriptedStore, breaks_after, whole
from tests.contracts.stores import LONG, contents, put, put_artifact, put_index


def index_in(store: MemoryStore) -> Index:
    """An index of two artifacts that share a layer and a config."""
    one = put_artifact(store, b"one", b"shared", b"shared")
    return put_index(store, one, put_index(store, put_artifact(store, b"two", b"shared")), name="index")


def test_takes_everything_children_first_each_once() -> None:
    source, target = MemoryStore(), ScriptedStore()
    index = index_in(source)
    assert copy(source, "index", target, "new", parallel=2) == source.resolve("index")
    assert target.resolve("new").digest == index.descriptor.digest
    assert target.blobs() == source.blobs()
    written = [descriptor.digest for descriptor in target.writes]
    assert len(written) == len(set(written)) == target.written_before_tag == 8
    assert written[-1] == index.descriptor.digest


def test_goes_by_digest_and_without_a_name() -> None:
    source, target = MemoryStore(), MemoryStore()
    index = index_in(source)
    copy(source, str(index.descriptor.digest), target, None)
    assert target.blobs() == source.blobs()
    assert target.tags() == []


def test_an_artifact_may_be_without_layers() -> None:
    source, target = MemoryStore(), MemoryStore()
    put_artifact(source, name="empty")
    copy(source, "empty", target, "empty")
    assert target.blobs() == source.blobs()


def test_leaves_out_what_is_there() -> None:
    source, target = ScriptedStore(), ScriptedStore()
    new, old = put_artifact(source, b"new", b"old", name="a").layers
    put(target, b"old")
    target.writes.clear()
    copy(source, "a", target, "a")
    assert (source.offsets(new), source.offsets(old)) == ([0], [])
    assert len(target.writes) == 3
    target.writes.clear()
    copy(source, "a", target, "b")
    assert target.writes == []


def test_lets_the_target_mount_what_it_can() -> None:
    class Mounting(ScriptedStore):
        def mount(self, descriptor: Descriptor, source: Source) -> bool:
            if descriptor.size != 7:
                return False
            MemoryStore.write(self, descriptor, source.read(descriptor))
            return True

    source, target = MemoryStore(), Mounting()
    mounted, read = put_artifact(source, b"mounted", b"read", name="a").layers
    copy(source, "a", target, "a")
    assert target.blobs() == source.blobs()
    assert mounted not in target.writes
    assert read in target.writes


def test_takes_the_selected_manifest_of_an_index() -> None:
    source, target = MemoryStore(), MemoryStore()
    index_in(source)
    wanted = copy(source, "index", target, "one", select=lambda index: index.manifests[-1])
    assert [child.size for child in fetch(target, wanted).children] == [2, 3, 6]
    assert target.resolve("one").digest == wanted.digest
    assert len(target.blobs()) == 4
    assert copy(target, "one", MemoryStore(), None, select=lambda index: index.manifests[0]).digest == wanted.digest


def test_what_selecting_raises_comes_out() -> None:
    def none(_index: Index) -> Descriptor:
        raise NotFound("nothing for this platform")

    source, target = MemoryStore(), MemoryStore()
    index_in(source)
    with pytest.raises(NotFound, match="nothing for this platform"):
        copy(source, "index", target, "one", select=none)
    assert target.blobs() == {}


def test_tells_how_far_it_is() -> None:
    source, target = ScriptedStore(breaks_after(500_000)), MemoryStore()
    manifest = put_artifact(source, LONG, b"x", b"there", name="a")
    put(target, b"there")
    told: dict[Descriptor, list[int]] = {}
    copy(source, "a", target, "a", progress=lambda what, done, _size: told.setdefault(what, []).append(done))
    assert {what: done[-1] for what, done in told.items()} == {
        what: what.size for what in (*manifest.children, manifest.descriptor)
    }
    assert all(done == sorted(done) for done in told.values())
    assert len(told[manifest.layers[0]]) == 3


def test_what_progress_raises_comes_out() -> None:
    def interrupted(_what: Descriptor, _done: int, _size: int) -> None:
        raise KeyboardInterrupt

    source, target = MemoryStore(), MemoryStore()
    put_artifact(source, b"x", name="a")
    with pytest.raises(KeyboardInterrupt):
        copy(source, "a", target, "a", progress=interrupted)
    assert target.tags() == []


@pytest.mark.parametrize("parallel", [1, 3])
def test_copies_so_many_blobs_at_once(parallel: int) -> None:
    meet = threading.Barrier(parallel, timeout=30)
    threads: set[int] = set()

    def together(data: bytes) -> Iterator[bytes]:
        threads.add(threading.get_ident())
        meet.wait()
        yield data

    source = ScriptedStore(together)
    put_artifact(source, *(bytes([number]) for number in range(6)), name="a")
    copy(source, "a", MemoryStore(), "a", parallel=parallel)
    assert len(threads) == parallel


# Sources that break


@pytest.mark.parametrize("make", [lambda path: MemoryStore(), Layout.create], ids=["memory", "layout"])
def test_a_source_that_breaks_at_ten_offsets_is_read_on(tmp_path: Path, make: Callable[[Path], Store]) -> None:
    source, target = ScriptedStore(breaks_after(300_000)), make(tmp_path / "layout")
    data = bytes(range(256)) * 12_000
    layer = put_artifact(source, data, name="a").layers[0]
    copy(source, "a", target, "a")
    assert contents(target, layer) == data
    assert source.offsets(layer) == list(range(0, len(data), 300_000))
    assert len(source.offsets(layer)) == 11


def test_a_source_without_an_answer_is_asked_once() -> None:
    """It has had patience by itself."""

    def refuses(_data: bytes) -> Iterator[bytes]:
        raise Unavailable("connection refused; is it running?")

    source, target = ScriptedStore(refuses), MemoryStore()
    layer = put_artifact(source, b"program", name="a").layers[0]
    with pytest.raises(Unavailable, match="connection refused"):
        copy(source, "a", target, "a")
    assert source.offsets(layer) == [0]
    assert target.tags() == []


def test_a_source_that_hardly_sends_anything_is_given_up() -> None:
    source = ScriptedStore(breaks_after(1))
    layer = put_artifact(source, b"program", name="a").layers[0]
    with pytest.raises(Unavailable, match="the connection is lost"):
        copy(source, "a", MemoryStore(), "a")
    assert source.offsets(layer) == [0, 1, 2, 3, 4, 5]


def test_after_an_interruption_the_next_copy_reads_on(tmp_path: Path) -> None:
    def interrupted(_what: Descriptor, done: int, _size: int) -> None:
        if done == 2000:
            raise KeyboardInterrupt

    source, target = ScriptedStore(breaks_after(1000)), Layout.create(tmp_path / "layout")
    layer = put_artifact(source, LONG, name="a").layers[0]
    with pytest.raises(KeyboardInterrupt):
        copy(source, "a", target, "a", progress=interrupted)
    source.delivery = whole
    copy(source, "a", target, "a")
    assert source.offsets(layer) == [0, 1000, 1000]
    assert contents(target, layer) == LONG


def test_one_failure_stops_the_others() -> None:
    begun, stopped = threading.Event(), threading.Event()

    def endless(data: bytes) -> Iterator[bytes]:
        if data == b"lie":
            begun.wait(30)
            yield b"LIE"
            return
        try:
            while True:
                begun.set()
                yield b""
        finally:
            stopped.set()

    source, target = ScriptedStore(endless), MemoryStore()
    put_artifact(source, b"lie", b"never comes", b"third", b"fourth", name="a")
    with pytest.raises(InvalidContent, match="damaged or replaced"):
        copy(source, "a", target, "a", parallel=2)
    assert stopped.is_set()
    assert target.tags() == []
    assert len(target.blobs()) == 1

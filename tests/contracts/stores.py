"""What every store must do, as tests: a subclass gives the fixture `target`, or `store` if it is on this machine."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import TypeVar

import pytest

from oci.content import CHUNK, Content, Store, Target, read_all, verified
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidContent, InvalidReference, NotFound, OciError, Unavailable
from oci.manifest import Index, Manifest, new_index, new_manifest, parse_manifest
from oci.media_types import OCI_MANIFEST, WASM_LAYER
from oci.memory import MemoryStore

CONFIG = "application/vnd.example.config+json"
LONG = bytes(range(256)) * (CHUNK // 100)  # two chunks and a half
ABSENT = Descriptor.of(WASM_LAYER, b"nobody has this")

Parent = TypeVar("Parent", Manifest, Index)


def put(target: Target, data: bytes, media_type: str = WASM_LAYER) -> Descriptor:
    """Write a blob."""
    descriptor = Descriptor.of(media_type, data)
    target.write(descriptor, [data])
    return descriptor


def put_artifact(target: Target, *layers: bytes, name: str = "", config: bytes = b"{}") -> Manifest:
    """Write an artifact of these layers, and give it a name."""
    manifest = new_manifest(put(target, config, CONFIG), [put(target, layer) for layer in layers])
    return put_parent(target, manifest, name)


def put_index(target: Target, *children: Manifest | Index, name: str = "") -> Index:
    """Write an index of what is in the target."""
    return put_parent(target, new_index(child.descriptor for child in children), name)


def put_parent(target: Target, parent: Parent, name: str) -> Parent:
    """Write a manifest or an index whose children are there."""
    target.write(parent.descriptor, [parent.raw])
    if name:
        target.tag(name, parent.descriptor)
    return parent


def contents(target: Target, descriptor: Descriptor) -> bytes:
    """All bytes, verified."""
    return b"".join(verified(target.read(descriptor), descriptor))


def breaking(data: bytes, after: int) -> Iterator[bytes]:
    """Chunks that end in a lost connection."""
    yield data[:after]
    raise Unavailable("the connection is lost; try again")


class TargetContract:
    """Any target."""

    @pytest.mark.parametrize("data", [b"", b"x", bytes(CHUNK), LONG], ids=["empty", "a byte", "a chunk", "chunks"])
    def test_what_was_written_can_be_read(self, target: Target, data: bytes) -> None:
        descriptor = Descriptor.of(WASM_LAYER, data)
        assert not target.has(descriptor)
        target.write(descriptor, [data[:1], data[1:CHUNK], b"", data[CHUNK:]])
        assert target.has(descriptor)
        assert contents(target, descriptor) == data
        assert all(0 < len(chunk) <= CHUNK for chunk in target.read(descriptor))

    @pytest.mark.parametrize("offset", [1, CHUNK, CHUNK + 1, len(LONG) - 1, len(LONG)])
    def test_reading_begins_at_an_offset(self, target: Target, offset: int) -> None:
        assert b"".join(target.read(put(target, LONG), offset)) == LONG[offset:]

    def test_writing_again_changes_nothing(self, target: Target) -> None:
        put(target, LONG)
        assert contents(target, put(target, LONG)) == LONG

    def test_what_is_missing_is_not_found(self, target: Target) -> None:
        put_artifact(target, b"program", name="here")
        assert not target.has(ABSENT)
        with pytest.raises(NotFound):
            contents(target, ABSENT)
        for name in ("absent", str(ABSENT.digest)):
            with pytest.raises(NotFound):
                target.resolve(name)
        with pytest.raises(NotFound):
            target.tag("absent", Descriptor(OCI_MANIFEST, ABSENT.digest, ABSENT.size))

    def test_content_of_another_size_is_not_here(self, target: Target) -> None:
        here = put(target, b"program")
        assert not target.has(Descriptor(here.media_type, here.digest, here.size + 1))

    @pytest.mark.parametrize(
        "chunks",
        [
            lambda: [b"progrum"],
            lambda: [b"progra"],
            lambda: [b"program", b"s"],
            list,
            lambda: repeat(b"program"),  # endless
            lambda: Content(lambda offset: iter([b"progrum"[offset:]])),
        ],
        ids=["other", "short", "long", "nothing", "endless", "other, resumable"],
    )
    def test_what_is_not_as_described_is_refused(
        self, target: Target, chunks: Callable[[], Content | list[bytes]]
    ) -> None:
        descriptor = Descriptor.of(WASM_LAYER, b"program")
        with pytest.raises(InvalidContent):
            target.write(descriptor, chunks())
        assert not target.has(descriptor)
        assert contents(target, put(target, b"program")) == b"program"

    def test_after_a_broken_source_the_next_try_completes(self, target: Target) -> None:
        descriptor = Descriptor.of(WASM_LAYER, LONG)
        for chunks in (breaking(LONG, CHUNK), Content(lambda offset: breaking(LONG[offset:], CHUNK))):
            with pytest.raises(Unavailable):
                target.write(descriptor, chunks)
            assert not target.has(descriptor)
        target.write(descriptor, Content(lambda offset: iter([LONG[offset:]])))
        assert contents(target, descriptor) == LONG

    def test_two_write_one_blob_at_once(self, target: Target) -> None:
        descriptor = Descriptor.of(WASM_LAYER, LONG)
        meet = threading.Barrier(2, timeout=30)
        failures: list[OciError] = []

        def write() -> None:
            meet.wait()
            try:
                target.write(descriptor, [LONG[:CHUNK], LONG[CHUNK:]])
            except OciError as error:
                failures.append(error)

        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert contents(target, descriptor) == LONG

    def test_a_manifest_is_found_by_tag_and_by_digest(self, target: Target) -> None:
        manifest = put_artifact(target, b"program", name="v1")
        for name in ("v1", str(manifest.descriptor.digest)):
            found = target.resolve(name)
            assert (found.media_type, found.digest, found.size) == (
                OCI_MANIFEST, manifest.descriptor.digest, len(manifest.raw),
            )  # fmt: skip
            assert parse_manifest(read_all(target, found, 1 << 20), found.media_type) == manifest

    def test_the_bytes_of_a_manifest_are_kept(self, target: Target) -> None:
        raw = put_artifact(target, b"program").raw.replace(b'":', b'" :\n ')
        manifest = parse_manifest(raw)
        assert isinstance(manifest, Manifest)
        put_parent(target, manifest, "spaced")
        assert read_all(target, target.resolve("spaced"), 1 << 20) == raw

    def test_a_tag_moves(self, target: Target) -> None:
        first, second = put_artifact(target, b"first", name="v1"), put_artifact(target, b"second", name="v1")
        assert target.resolve("v1").digest == second.descriptor.digest
        assert target.resolve(str(first.descriptor.digest)).digest == first.descriptor.digest

    def test_several_tags_lead_to_one_manifest(self, target: Target) -> None:
        manifest = put_artifact(target, b"program", name="v1")
        target.tag("v2", manifest.descriptor)
        assert target.resolve("v1").digest == target.resolve("v2").digest == manifest.descriptor.digest

    def test_an_index_leads_to_manifests(self, target: Target) -> None:
        one, two = put_artifact(target, b"one"), put_artifact(target, b"two", config=b"{ }")
        index = put_index(target, one, two, name="both")
        found = target.resolve("both")
        assert (found.media_type, found.digest) == (index.descriptor.media_type, index.descriptor.digest)
        assert read_all(target, found, 1 << 20) == index.raw

    def test_a_manifest_without_its_content_is_refused(self, target: Target) -> None:
        manifest = new_manifest(put(target, b"{}", CONFIG), [ABSENT])
        with pytest.raises(NotFound):
            target.write(manifest.descriptor, [manifest.raw])
        assert not target.has(manifest.descriptor)

    def test_what_only_claims_to_be_a_manifest_is_refused(self, target: Target) -> None:
        raw = b'{"schemaVersion":2}'
        with pytest.raises(InvalidContent):
            target.write(Descriptor.of(OCI_MANIFEST, raw), [raw])

    @pytest.mark.parametrize(
        "name",
        ["", "two\nlines", "\x1b[2J", f"sha256:{'0' * 64}", "v" * 2000],
        ids=["empty", "lines", "escape", "digest", "long"],
    )
    def test_some_names_cannot_be(self, target: Target, name: str) -> None:
        manifest = put_artifact(target, b"program")
        with pytest.raises(InvalidReference):
            target.tag(name, manifest.descriptor)

    def test_an_artifact_goes_there_and_back(self, target: Target) -> None:
        here, back = MemoryStore(), MemoryStore()
        index = put_index(here, put_artifact(here, LONG, b"", b"x"), put_artifact(here, b"y"), name="from")
        copy(here, "from", target, "there")
        copy(target, "there", back, "back")
        assert back.resolve("back").digest == index.descriptor.digest
        assert back.blobs() == here.blobs()

    def test_a_writer_may_write(self, target: Target) -> None:
        with target.writing(), target.writing():
            put_artifact(target, b"program", name="v1")
        assert target.has(target.resolve("v1"))

    def test_a_store_may_have_content_mounted_or_not(self, target: Target) -> None:
        assert target.mount(ABSENT, MemoryStore()) is False


class StoreContract(TargetContract):
    """A target on this machine."""

    @pytest.fixture
    def target(self, store: Store) -> Store:
        return store

    def test_names_are_listed(self, store: Store) -> None:
        one = put_artifact(store, b"one", name="localhost:5000/hello:1")
        two = put_artifact(store, b"two", name="b")
        store.tag("a", two.descriptor)
        assert [(name, descriptor.digest) for name, descriptor in store.tags()] == [
            ("a", two.descriptor.digest), ("b", two.descriptor.digest),
            ("localhost:5000/hello:1", one.descriptor.digest),
        ]  # fmt: skip

    def test_a_name_can_be_forgotten(self, store: Store) -> None:
        manifest = put_artifact(store, b"one", name="a")
        store.tag("b", manifest.descriptor)
        store.untag("a")
        assert [name for name, _ in store.tags()] == ["b"]
        with pytest.raises(NotFound):
            store.resolve("a")
        with pytest.raises(NotFound):
            store.untag("a")

    def test_its_own_digest_is_a_name_of_content_that_has_no_other(self, store: Store) -> None:
        manifest = put_artifact(store, b"one")
        digest = str(manifest.descriptor.digest)
        store.tag(digest, manifest.descriptor)
        assert [(name, descriptor.digest) for name, descriptor in store.tags()] == [
            (digest, manifest.descriptor.digest)
        ]
        assert store.collect() == []
        store.untag(digest)
        assert manifest.descriptor.digest in {gone.digest for gone in store.collect()}

    def test_what_no_name_leads_to_is_collected(self, store: Store) -> None:
        kept = put_index(store, put_index(store, put_artifact(store, b"kept", b"shared")), name="kept")
        gone = put_artifact(store, b"gone", b"shared", name="gone")
        loose = put(store, b"loose")
        store.untag("gone")
        removed = {each.digest: each.size for each in store.collect()}
        assert removed == {
            loose.digest: 5, gone.layers[0].digest: 4, gone.descriptor.digest: gone.descriptor.size,
        }  # fmt: skip
        assert store.collect() == []
        copy(store, "kept", MemoryStore(), None)
        assert store.resolve("kept").digest == kept.descriptor.digest
        assert not store.has(loose)

    def test_what_is_a_blob_here_and_a_manifest_there_keeps_its_content(self, store: Store) -> None:
        inner = put_artifact(store, b"program", name="a")
        put_artifact(store, inner.raw, name="b")
        assert store.collect() == []

    def test_a_manifest_that_is_too_large_is_not_read(self, store: Store) -> None:
        def never() -> Iterator[bytes]:
            yield pytest.fail("it was read")

        with pytest.raises(InvalidContent, match="a manifest of 100000000 bytes"):
            store.write(Descriptor(OCI_MANIFEST, ABSENT.digest, 100_000_000), never())

    def test_digests_of_both_kinds_are_kept(self, store: Store) -> None:
        descriptor = Descriptor(WASM_LAYER, Digest("sha512", hashlib.sha512(LONG).hexdigest()), len(LONG))
        store.write(descriptor, [LONG])
        assert contents(store, descriptor) == LONG
        assert [gone.digest for gone in store.collect()] == [descriptor.digest]

"""Sources that lie, overwhelm or move: one clear line each, and the target is as it was."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci.content import CHUNK, Store
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidContent, NotFound, OciError, UnsupportedArtifact
from oci.layout import Layout
from oci.manifest import encode, new_index, new_manifest
from oci.media_types import DOCKER_SCHEMA_1, OCI_INDEX, OCI_MANIFEST, WASM_LAYER
from oci.memory import MemoryStore
from tests.contracts.scripted import ScriptedStore
from tests.contracts.stores import ABSENT, CONFIG, contents, put, put_artifact, put_index

MIB = 1 << 20


class HostileStore(MemoryStore):
    """Takes anything in, under any digest."""

    def plant(self, data: bytes, media_type: str, as_digest: Digest | None = None) -> Descriptor:
        """Content whose digest may be a lie."""
        descriptor = Descriptor(media_type, as_digest or Digest.of(data), len(data))
        self._blobs[descriptor.digest] = data
        return descriptor

    def name(self, descriptor: Descriptor) -> None:
        """What the test asks for."""
        self._names["evil"] = descriptor

    def plant_manifest(self, **fields: Any) -> None:
        """A manifest that nobody checks."""
        config = self.plant(b"{}", CONFIG).to_json()
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
        self.name(self.plant(json.dumps(document | fields).encode(), OCI_MANIFEST))


@pytest.fixture(params=["memory", "layout"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """With something good in it."""
    store: Store = MemoryStore() if request.param == "memory" else Layout.create(tmp_path / "layout")
    put_artifact(store, b"good", name="good")
    return store


def refused(source: MemoryStore, target: Store, error: type[OciError] = InvalidContent) -> str:
    """Copy; why it was refused. The target has no new name, and nothing new once it is collected."""
    with pytest.raises(error) as caught:
        copy(source, "evil", target, "evil")
    assert [name for name, _ in target.tags()] == ["good"]
    target.collect()
    before = MemoryStore()
    copy(target, "good", before, None)
    assert target.collect() == []
    if isinstance(target, MemoryStore):
        assert target.blobs() == before.blobs()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("planted", "because"),
    [(b"progrum", "damaged or replaced"), (b"progra", "ends 1 bytes before"), (b"programs", "longer than the 7 bytes")],
)
def test_a_layer_that_is_another(target: Store, planted: bytes, because: str) -> None:
    source = HostileStore()
    put_artifact(source, b"program", name="evil")
    source.plant(planted, WASM_LAYER, Digest.of(b"program"))
    assert because in refused(source, target)


@pytest.mark.parametrize("planted", [b"{}", b"", bytes(1000)])
def test_a_manifest_that_is_another(target: Store, planted: bytes) -> None:
    source = HostileStore()
    manifest = put_artifact(source, b"program", name="evil")
    source.plant(planted, OCI_MANIFEST, manifest.descriptor.digest)
    assert str(manifest.descriptor.digest) in refused(source, target)


@pytest.mark.parametrize("digest", ["sha256:../x", "sha256:/etc/passwd", "../../x", "sha256:" + "0" * 63 + "/"])
def test_a_digest_that_is_a_path(target: Store, digest: str) -> None:
    source = HostileStore()
    source.plant_manifest(layers=[{"mediaType": WASM_LAYER, "digest": digest, "size": 1}])
    assert "is no digest" in refused(source, target)


def test_a_manifest_of_100_megabytes_is_not_read(target: Store) -> None:
    source = ScriptedStore()
    put_artifact(source, b"program", name="evil")
    source._names["evil"] = Descriptor(OCI_MANIFEST, ABSENT.digest, 100_000_000)
    assert "has 100000000 bytes; more than 4194304 are not read" in refused(source, target)
    assert source.reads == []


def test_a_manifest_without_end_is_read_to_its_size_only(target: Store) -> None:
    class Endless(HostileStore):
        def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
            while True:
                yield bytes(CHUNK)

    source = Endless()
    put_artifact(source, b"program", name="evil")
    assert "longer than" in refused(source, target)


def test_a_layer_without_end_is_read_to_its_size_only(target: Store) -> None:
    def endless(_data: bytes) -> Iterator[bytes]:
        while True:
            yield bytes(CHUNK)

    source = ScriptedStore(endless)
    put_artifact(source, bytes(3 * MIB), name="evil")
    assert "longer than" in refused(source, target)


def test_many_layers(target: Store) -> None:
    source = HostileStore()
    entry = {"mediaType": WASM_LAYER, "digest": f"sha256:{'0' * 64}", "size": 1}
    source.plant_manifest(layers=[0] * 100_000)
    assert "a manifest of 100000 layers; more than 1000 are not read" in refused(source, target)
    source.plant_manifest(layers=[entry] * 100_000)
    assert "more than 4194304 are not read" in refused(source, target)


def test_many_manifests_with_many_layers(target: Store) -> None:
    source = HostileStore()
    config = source.plant(b"{}", CONFIG)
    manifests = []
    for number in range(25):
        layers = [Descriptor(WASM_LAYER, Digest.of(f"{number}/{each}".encode()), 5) for each in range(1000)]
        manifest = new_manifest(config, layers)
        manifests.append(source.plant(manifest.raw, OCI_MANIFEST))
    index = new_index(manifests)
    source.name(source.plant(index.raw, OCI_INDEX))
    assert "more than 20000 parts" in refused(source, target)


def test_many_large_manifests(target: Store) -> None:
    source = HostileStore()
    config = source.plant(b"{}", CONFIG)
    manifests = [
        source.plant(new_manifest(config, [], annotations={"a": str(number) + "x" * 3_900_000}).raw, OCI_MANIFEST)
        for number in range(5)
    ]
    source.name(source.plant(new_index(manifests).raw, OCI_INDEX))
    assert "16777216 bytes of manifests" in refused(source, target)


def test_deep_indexes(target: Store) -> None:
    source = MemoryStore()
    parent = put_index(source, put_artifact(source, b"program"))
    for _ in range(30):
        parent = put_index(source, parent)
    source.tag("evil", parent.descriptor)
    assert "more than 8 deep" in refused(source, target)
    with pytest.raises(InvalidContent, match="more than 8 deep"):
        copy(source, "evil", target, "evil", select=lambda index: index.manifests[0])


def test_some_depth_is_borne(target: Store) -> None:
    source = MemoryStore()
    parent = put_index(source, put_artifact(source, b"program"))
    for _ in range(6):
        parent = put_index(source, parent)
    source.tag("deep", parent.descriptor)
    copy(source, "deep", target, "deep")
    assert target.collect() == []


def test_an_index_that_pretends_to_hold_itself(target: Store) -> None:
    """A real cycle would be a broken hash; a false one shows at the second look."""
    source = HostileStore()
    digest = Digest.of(b"itself")
    size = len(encode({"schemaVersion": 2, "manifests": [Descriptor(OCI_INDEX, digest, 100).to_json()]}))
    document = {"schemaVersion": 2, "manifests": [Descriptor(OCI_INDEX, digest, size).to_json()]}
    source.name(source.plant(encode(document), OCI_INDEX, digest))
    assert "damaged or replaced" in refused(source, target)


def test_one_digest_with_two_sizes(target: Store) -> None:
    source = HostileStore()
    layer = put(source, b"program")
    source.plant_manifest(layers=[layer.to_json(), layer.to_json() | {"size": 8}])
    assert "ends 1 bytes before" in refused(source, target)


def test_json_that_hurts(target: Store) -> None:
    for raw, because in (
        (b"[" * 4_000_000, "nested too deeply"),
        (b'{"a":' * 800_000, "nested too deeply"),
        (b'{"schemaVersion":' + b"9" * 4_000_000 + b"}", "no proper JSON"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "occurs twice"),
        (b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}", "schema version None"),
    ):
        source = HostileStore()
        source.name(source.plant(raw, OCI_MANIFEST))
        assert because in refused(source, target)


def test_what_is_no_manifest(target: Store) -> None:
    source = HostileStore()
    source.name(source.plant(b"program", WASM_LAYER))
    assert "no proper JSON" in refused(source, target)
    source.plant_manifest(mediaType="text/html")
    assert "one of both is wrong" in refused(source, target)
    source.name(source.plant(b'{"schemaVersion":1}', DOCKER_SCHEMA_1[0]))
    assert "schema 1" in refused(source, target, UnsupportedArtifact)


def test_a_missing_child(target: Store) -> None:
    source = HostileStore()
    good = put(source, b"program")
    source.plant_manifest(layers=[good.to_json(), ABSENT.to_json()])
    assert str(ABSENT.digest) in refused(source, target, NotFound)
    absent = Descriptor(OCI_MANIFEST, ABSENT.digest, 100)
    source.name(source.plant(new_index([absent]).raw, OCI_INDEX))
    assert str(ABSENT.digest) in refused(source, target, NotFound)


def test_a_tag_that_moves_meanwhile(target: Store) -> None:
    """What was resolved is copied whole."""

    def moving(data: bytes) -> Iterator[bytes]:
        put_artifact(source, b"second", name="tag")
        yield data

    source = ScriptedStore(moving)
    first = put_artifact(source, b"first", name="tag")
    assert copy(source, "tag", target, "tag").digest == first.descriptor.digest
    assert contents(target, first.layers[0]) == b"first"
    assert source.resolve("tag").digest != target.resolve("tag").digest == first.descriptor.digest

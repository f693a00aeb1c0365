"""A repository of a real docker-registry keeps the contract of a store, and does what only registries do."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from oci.content import Content, Target
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.errors import NotFound
from oci.media_types import WASM_LAYER
from oci.memory import MemoryStore
from oci.reference import Reference
from oci.registry.store import Registry
from tests.contracts.stores import LONG, TargetContract, contents, put, put_artifact
from tests.registry.server import RegistryServer
from tests.registry.stores import repository

_NUMBERS = count()


@pytest.fixture
def registry(plain_registry: RegistryServer) -> Iterator[Registry]:
    """A new repository."""
    with repository(plain_registry.host, f"store/{next(_NUMBERS)}") as registry:
        yield registry


class _Watched(Registry):
    """The same repository; notes what is read."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(Reference(registry.registry, registry.repository, "any"), lambda _: None)
        self.read_types: set[str] = set()

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        self.read_types.add(descriptor.media_type)
        return super().read(descriptor, offset)


class TestRegistryContract(TargetContract):
    """What every store must do."""

    @pytest.fixture
    def target(self, registry: Registry) -> Target:
        return registry


def test_tags_are_listed(registry: Registry) -> None:
    manifest = put_artifact(registry, b"program", name="v2")
    registry.tag("v1", manifest.descriptor)
    assert registry.tags() == ["v1", "v2"]


def test_tags_of_no_repository_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match=f"there is no {registry.registry}/{registry.repository} "):
        registry.tags()


def test_delete_removes_a_manifest_and_its_tags(registry: Registry) -> None:
    manifest = put_artifact(registry, b"program", name="v1")
    registry.delete(manifest.descriptor)
    with pytest.raises(NotFound):
        registry.resolve("v1")
    with pytest.raises(NotFound):
        registry.delete(manifest.descriptor)


def test_a_blob_is_mounted_from_another_repository(registry: Registry, plain_registry: RegistryServer) -> None:
    blob = put(registry, LONG)
    with repository(plain_registry.host, f"{registry.repository}/other") as other:
        assert other.mount(blob, registry)
        assert contents(other, blob) == LONG


def test_a_copy_within_a_registry_moves_no_blobs(registry: Registry, plain_registry: RegistryServer) -> None:
    manifest = put_artifact(registry, LONG, name="v1")
    with _Watched(registry) as source, repository(plain_registry.host, f"{registry.repository}/other") as other:
        assert copy(source, "v1", other, "v1").digest == manifest.descriptor.digest
    assert source.read_types == {manifest.descriptor.media_type}


@pytest.mark.parametrize("missing", ["blob", "repository", "manifest"])
def test_what_is_not_there_is_not_mounted(registry: Registry, plain_registry: RegistryServer, missing: str) -> None:
    manifest = put_artifact(registry, b"program")
    with repository(plain_registry.host, "store/nowhere") as nowhere:
        match missing:
            case "blob":
                assert not nowhere.mount(Descriptor.of(WASM_LAYER, b"nothing"), registry)
            case "repository":
                assert not registry.mount(Descriptor.of(WASM_LAYER, b"nothing"), nowhere)
            case _:
                assert not nowhere.mount(manifest.descriptor, registry)


def test_an_upload_opened_for_a_mount_in_vain_is_used(registry: Registry, plain_registry: RegistryServer) -> None:
    with repository(plain_registry.host, "store/nowhere") as nowhere:
        assert not registry.mount(Descriptor.of(WASM_LAYER, LONG), nowhere)
    put(registry, LONG)
    uploads = plain_registry.data / "docker/registry/v2/repositories" / registry.repository / "_uploads"
    assert list(uploads.glob("*")) == []


def test_a_blob_that_can_be_had_again_is_sent_from_its_begin(registry: Registry) -> None:
    descriptor = Descriptor.of(WASM_LAYER, LONG)
    registry.write(descriptor, Content(lambda offset: iter([LONG[offset:]])))
    assert contents(registry, descriptor) == LONG


def test_two_push_and_two_pull_one_reference_at_once(plain_registry: RegistryServer) -> None:
    source = MemoryStore()
    manifest = put_artifact(source, LONG, bytes(3_000_000), name="v1")
    host = plain_registry.host
    _at_once(lambda: _push(source, host), lambda: _push(source, host))
    targets = MemoryStore(), MemoryStore()
    _at_once(*(lambda target=target: _pull(host, target) for target in targets))
    assert all(target.resolve("v1").digest == manifest.descriptor.digest for target in targets)
    assert all(contents(target, layer) for target in targets for layer in manifest.layers)


def test_the_api_of_oras_goes_our_way(registry: Registry) -> None:
    """What of oras-py is called on the client uses the request that we made of it."""
    put_artifact(registry, b"program", name="v1")
    client = registry.client
    assert client.get_tags(f"{registry.registry}/{registry.repository}") == ["v1"]


def _push(source: MemoryStore, host: str) -> None:
    with repository(host, "store/crowd") as registry:
        copy(source, "v1", registry, "v1")


def _pull(host: str, target: MemoryStore) -> None:
    with repository(host, "store/crowd") as registry:
        copy(registry, "v1", target, "v1")


def _at_once(*actions: Callable[[], None]) -> None:
    """Do all of this in threads that begin together, and raise what one of them raised."""
    meet = threading.Barrier(len(actions), timeout=30)

    def act(action: Callable[[], None]) -> None:
        meet.wait()
        action()

    with ThreadPoolExecutor(len(actions)) as pool:
        for done in [pool.submit(act, action) for action in actions]:
            done.result()

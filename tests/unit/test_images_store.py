"""Which image a person means."""

from pathlib import Path

import pytest

from oci.descriptor import Descriptor
from oci.errors import InvalidReference, NotFound
from oci.layout import Layout
from oci.reference import Reference
from tests.contracts.stores import put_artifact
from wasm_shim.errors import PermissionDenied
from wasm_shim.images.store import find, find_one, key, open_store, short_id


@pytest.fixture
def store(tmp_path: Path) -> Layout:
    """An empty one."""
    return open_store(str(tmp_path / "images"))


def put(store: Layout, name: str, program: bytes = b"program") -> Descriptor:
    """An image under a name."""
    return put_artifact(store, program, name=key(Reference.parse(name))).descriptor


def names(store: Layout, text: str) -> list[str]:
    """What is found."""
    return [found.name for found in find(store, text)]


def test_the_store_is_private(store: Layout) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o700
    store.path.chmod(0o755)
    with pytest.raises(PermissionDenied, match="its mode is not 0700; set XDG_DATA_HOME"):
        open_store(str(store.path))


@pytest.mark.parametrize("text", ["hello", "hello:latest", "library/hello", "docker.io/library/hello:latest"])
def test_names_are_found_as_docker_shortens_them(store: Layout, text: str) -> None:
    put(store, "hello")
    assert names(store, text) == ["docker.io/library/hello:latest"]


def test_a_digest_is_found_in_its_repository_only(store: Layout) -> None:
    descriptor = put(store, "localhost:5000/a:1")
    put(store, "localhost:5000/ab:1")
    assert names(store, f"localhost:5000/a@{descriptor.digest}") == ["localhost:5000/a:1"]
    assert names(store, f"localhost:5000/a:other@{descriptor.digest}") == ["localhost:5000/a:1"]
    assert names(store, f"localhost:5000/b@{descriptor.digest}") == []


def test_an_id_finds_all_names_of_one_image(store: Layout) -> None:
    descriptor = put(store, "a")
    put(store, "b")
    put(store, "c", b"another")
    both = ["docker.io/library/a:latest", "docker.io/library/b:latest"]
    for text in (short_id(descriptor), descriptor.digest.hex, str(descriptor.digest)):
        assert names(store, text) == both
    assert names(store, short_id(descriptor)[:-1]) == []


def test_a_name_wins_over_an_id(store: Layout) -> None:
    descriptor = put(store, "a")
    put(store, short_id(descriptor), b"another")
    assert names(store, short_id(descriptor)) == [f"docker.io/library/{short_id(descriptor)}:latest"]


def test_what_is_not_there_or_no_name(store: Layout) -> None:
    with pytest.raises(NotFound, match="there is no image a here; wasm-shim images lists them"):
        find_one(store, "a")
    for text in ("A", "", "a b", "http://a/b", "0" * 64):
        with pytest.raises(InvalidReference):
            find(store, text)


def test_a_tag_beside_a_digest_does_not_count() -> None:
    digest = f"sha256:{'0' * 64}"
    assert key(Reference.parse(f"a/b:1@{digest}")) == f"docker.io/a/b@{digest}"

"""Pushes and pulls that are killed leave nothing wrong, and the next one completes; large ones take little memory."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.layout import Layout
from oci.manifest import new_manifest
from oci.media_types import WASM_CONFIG, WASM_LAYER
from tests.contracts.stores import contents, put, put_artifact, put_parent
from tests.registry.artifact import BLOB, LAYER, LAYER_DESCRIPTOR, MANIFEST, except_for, good
from tests.registry.child import run, stopped_at
from tests.registry.scripted import Asked, Scripted
from tests.registry.server import RegistryServer
from tests.registry.stores import repository

_NUMBERS = count()
MIB = 1 << 20
LARGE = 1024 * MIB
MOST_MEMORY = 64 << 10  # KiB


@pytest.mark.parametrize("at", [262_200, 280_000, len(LAYER) - 1])
def test_a_killed_pull_is_resumed(bad_server: Scripted, tmp_path: Path, at: int) -> None:
    offsets: list[str | None] = []

    def answer(asked: Asked) -> Iterable[bytes]:
        offsets.append(asked.headers.get("range"))
        head, body = good(asked)
        return bad_server.drip([head + body[:at], body[at:]], 60) if len(offsets) == 1 else [head, body]

    bad_server.answer = except_for(BLOB, answer)
    reference = f"{bad_server.host}/killed:v1"
    with stopped_at("pull", reference, tmp_path / "layout", at):
        assert not Layout(tmp_path / "layout").has(LAYER_DESCRIPTOR)
    run("pull", reference, tmp_path / "layout")
    layout = Layout(tmp_path / "layout")
    assert layout.resolve("v1").digest == MANIFEST.descriptor.digest
    assert contents(layout, LAYER_DESCRIPTOR) == LAYER
    first, second = offsets
    assert first is None
    assert second is not None
    assert 0 < int(second[len("bytes=") : -1]) <= at


@pytest.mark.parametrize("at", [1, 2 * MIB, 5 * MIB])
def test_a_killed_push_is_repeated(plain_registry: RegistryServer, tmp_path: Path, at: int) -> None:
    layout = Layout.create(tmp_path / "layout")
    data = os.urandom(5 * MIB)
    manifest = put_artifact(layout, data, name="v1")
    name = f"killed/{next(_NUMBERS)}"
    with repository(plain_registry.host, name) as registry:
        with stopped_at("push", f"{plain_registry.host}/{name}:v1", layout.path, at):
            assert not registry.has(manifest.descriptor)
        copy(layout, "v1", registry, "v1")
        assert contents(registry, manifest.layers[0]) == data


@pytest.fixture
def large(tmp_path: Path) -> Layout:
    """A layout with an artifact of one large layer."""
    layout = Layout.create(tmp_path / "large")
    block = os.urandom(MIB)

    def blocks() -> Iterator[bytes]:
        return (block for _ in range(LARGE // MIB))

    hashed = hashlib.sha256()
    for piece in blocks():
        hashed.update(piece)
    layer = Descriptor(WASM_LAYER, Digest("sha256", hashed.hexdigest()), LARGE)
    layout.write(layer, blocks())
    put_parent(layout, new_manifest(put(layout, b"{}", WASM_CONFIG), [layer]), "v1")
    return layout


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_gibibyte_takes_little_memory(plain_registry: RegistryServer, large: Layout, tmp_path: Path) -> None:
    reference = f"{plain_registry.host}/killed/large:v1"
    assert run("push", reference, large.path) <= MOST_MEMORY
    assert run("pull", reference, tmp_path / "pulled") <= MOST_MEMORY
    assert Layout(tmp_path / "pulled").resolve("v1").digest == large.resolve("v1").digest

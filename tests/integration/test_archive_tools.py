"""Archives that we save are taken by containerd and skopeo, and theirs by us, with the same digests."""

from pathlib import Path

import pytest

from oci.archive import load, save
from oci.copy import copy
from oci.descriptor import Descriptor, Platform
from oci.layout import Layout
from oci.manifest import Manifest, new_index, new_manifest
from oci.media_types import OCI_CONFIG, WASM_CONFIG, WASM_LAYER
from oci.memory import MemoryStore
from tests.containerd.daemon import Daemon
from tests.contracts.stores import put, put_parent
from tests.registry.tools import Tool

ARTIFACT, IMAGE, INDEX = "localhost:5000/archive:artifact", "localhost:5000/archive:image", "ghcr.io/a/archive:index"
CONFIG = b'{"architecture":"wasm","config":{"Cmd":["/a"]},"os":"wasip1","rootfs":{"diff_ids":[],"type":"layers"}}'

only_skopeo = pytest.mark.parametrize("tool", ["skopeo"], indirect=True)


def artifact(store: MemoryStore, name: str, config_type: str, config: bytes) -> Manifest:
    """A small Wasm artifact."""
    layer = put(store, b"\0asm\1\0\0\0" + name.encode(), WASM_LAYER)
    return put_parent(store, new_manifest(put(store, config, config_type), [layer]), name)


@pytest.fixture
def store() -> MemoryStore:
    """The CNCF form, runwasi's, and an index that says what it is for."""
    store = MemoryStore()
    artifact(store, ARTIFACT, WASM_CONFIG, CONFIG)
    image = artifact(store, IMAGE, OCI_CONFIG, CONFIG + b" ").descriptor
    entry = Descriptor(image.media_type, image.digest, image.size, platform=Platform("wasm", "wasip1"))
    put_parent(store, new_index([entry]), INDEX)
    return store


def saved(store: MemoryStore, path: Path, *names: str) -> Path:
    """An archive in a file."""
    with path.open("wb") as out:
        save(store, names, out)
    return path


@pytest.mark.root
def test_containerd_imports_and_exports(containerd: Daemon, store: MemoryStore, tmp_path: Path) -> None:
    archive = saved(store, tmp_path / "ours.tar", ARTIFACT, IMAGE)
    oldest = containerd.release.name == "1.6"
    old = ["--no-unpack"] if oldest else []  # 1.6.20 takes every layer for a tar
    local = [] if oldest else ["--local"]  # without it 2.1 may end before it has written all of the file
    containerd.run("image", "import", *old, str(archive))
    listed = [line.split() for line in containerd.run("image", "list").stdout.splitlines()]
    digests = {words[0]: words[2] for words in listed}
    for name in (ARTIFACT, IMAGE):
        assert digests[name] == str(store.resolve(name).digest)
        theirs = tmp_path / "theirs.tar"
        containerd.run("image", "export", *local, "--all-platforms", str(theirs), name)
        back = MemoryStore()
        with theirs.open("rb") as stream:
            assert load(stream, back) == [name]
        assert back.resolve(name) == store.resolve(name)
        copy(back, name, MemoryStore(), None)


@only_skopeo
def test_skopeo_copies_from_and_to_archives_and_layouts(tool: Tool, store: MemoryStore, tmp_path: Path) -> None:
    archive = saved(store, tmp_path / "ours.tar", ARTIFACT, IMAGE, INDEX)
    for name, tag in ((ARTIFACT, "artifact"), (IMAGE, "image"), (INDEX, "index")):
        theirs, layout = tmp_path / f"{tag}.tar", tmp_path / tag
        tool.run("--insecure-policy", "copy", "--all", f"oci-archive:{archive}:{tag}", f"oci-archive:{theirs}:{name}")
        tool.run("--insecure-policy", "copy", "--all", f"oci-archive:{theirs}:{name}", f"oci:{layout}:{name}")
        back = MemoryStore()
        with theirs.open("rb") as stream:
            assert load(stream, back) == [name]
        assert back.resolve(name) == store.resolve(name)
        assert copy(Layout(layout), name, MemoryStore(), None) == store.resolve(name)

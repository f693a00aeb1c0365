"""Disks that refuse: another's directory, a full file system, one that can only be read."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci.content import Content
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.errors import StorageError
from oci.layout import Layout
from oci.media_types import WASM_LAYER
from oci.memory import MemoryStore
from tests.conftest import ORDINARY_UID
from tests.contracts.stores import CONFIG, LONG, put, put_artifact
from tests.unit.oci.children import in_children

BLOB = Descriptor.of(WASM_LAYER, LONG)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that other users can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.root
def test_another_s_layout_can_be_read_and_not_written(shared: Path) -> None:
    layout = Layout.create(shared / "layout")
    manifest = put_artifact(layout, b"program", name="a")

    def read() -> None:
        other = Layout(layout.path)
        assert other.resolve("a").digest == manifest.descriptor.digest
        assert other.has(manifest.layers[0])
        copy(other, "a", MemoryStore(), None, parallel=1)

    assert in_children(read, uid=ORDINARY_UID) == [""]
    for refused in (
        lambda: copy(layout, "a", Layout(layout.path), "b"),
        lambda: Layout(layout.path).write(BLOB, [LONG]),
        lambda: Layout(layout.path).tag("b", manifest.descriptor),
        lambda: Layout(layout.path).untag("a"),
        lambda: Layout(layout.path).collect(),
        lambda: Layout.create(shared / "new"),
    ):
        (said,) = in_children(refused, uid=ORDINARY_UID)
        assert said.startswith("StorageError: ")
        assert "Permission denied; become its owner, or choose another place" in said
    assert [name for name, _ in layout.tags()] == ["a"]


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[None]:
    """A small file system of its own."""
    directory.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"nothing can be mounted here: {mounting.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.root
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=512k"):
        layout = Layout.create(tmp_path / "small" / "layout")
        kept = put_artifact(layout, b"small", name="kept")
        store = MemoryStore()
        put_artifact(store, b"fits", LONG, name="large")
        with pytest.raises(StorageError, match="No space left on device; free some space and try again"):
            copy(store, "large", layout, "large")
        with pytest.raises(StorageError):
            layout.write(BLOB, Content(lambda offset: iter([LONG[offset:]])))
        assert list((layout.path / ".partial").iterdir()) == []
        assert [name for name, _ in layout.tags()] == ["kept"]
        assert [gone.size for gone in layout.collect()] == [len(b"fits")]
        copy(layout, "kept", MemoryStore(), None)
        filler = bytes(600_000)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "small" / "filler").write_bytes(filler)
        with pytest.raises(StorageError):
            layout.tag("a" * 1000, kept.descriptor)
        (tmp_path / "small" / "filler").unlink()
        assert [name for name, _ in layout.tags()] == ["kept"]
        layout.tag("more", kept.descriptor)


@pytest.mark.root
def test_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m"):
        layout = Layout.create(tmp_path / "disk" / "layout")
        manifest = put_artifact(layout, b"program", name="a")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        copy(layout, "a", MemoryStore(), None)
        assert layout.has(manifest.layers[0])
        assert not layout.has(Descriptor.of(CONFIG, b"absent"))
        with pytest.raises(StorageError, match="Read-only file system; choose another place"):
            put(layout, b"new")

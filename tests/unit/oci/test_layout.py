"""The layout on disk keeps the contract of stores; what it makes of directories, other tools' entries and damage."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from oci.descriptor import Descriptor, Platform
from oci.errors import InvalidContent, NotFound, StorageError, UnsupportedArtifact
from oci.layout import Layout
from oci.manifest import Manifest
from tests.contracts.stores import ABSENT, StoreContract, contents, put, put_artifact


class TestLayout(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Layout:
        return Layout.create(tmp_path / "layout")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty layout."""
    return Layout.create(tmp_path / "layout")


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def files(directory: Path) -> set[str]:
    """The paths of all files below."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


# Directories


def test_is_made_as_the_specification_says(layout: Layout) -> None:
    manifest = put_artifact(layout, b"program", name="localhost:5000/hello:1")
    assert json.loads((layout.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((layout.path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": manifest.descriptor.media_type,
                "digest": str(manifest.descriptor.digest),
                "size": len(manifest.raw),
                "annotations": {"org.opencontainers.image.ref.name": "localhost:5000/hello:1"},
            }
        ],
    }
    assert layout.blob(manifest.descriptor.digest).read_bytes() == manifest.raw
    assert list((layout.path / ".partial").iterdir()) == []


@pytest.mark.parametrize(("umask", "directories"), [(0, 0o755), (0o022, 0o755), (0o077, 0o700)])
def test_others_may_read_it_where_the_umask_lets_them(tmp_path: Path, umask: int, directories: int) -> None:
    """And nobody else may ever write; unfinished blobs are nobody's business."""
    before = os.umask(umask)
    try:
        layout = Layout.create(tmp_path / "a" / "b")
        manifest = put_artifact(layout, b"program", name="a")
    finally:
        os.umask(before)
    blob = layout.blob(manifest.descriptor.digest)
    assert {mode(path) for path in (layout.path, blob.parent, blob.parent.parent)} == {directories}
    assert {mode(path) for path in (blob, layout.path / "index.json", layout.path / "oci-layout")} == {0o644}
    assert mode(layout.path / ".partial") == 0o700


def test_a_private_directory_stays_private(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir(0o700)
    assert mode(Layout.create(tmp_path / "images").path) == 0o700


def test_making_it_again_changes_nothing(layout: Layout) -> None:
    put_artifact(layout, b"program", name="a")
    assert [name for name, _ in Layout.create(layout.path).tags()] == ["a"]
    assert [name for name, _ in Layout(str(layout.path)).tags()] == ["a"]


def test_what_a_killed_maker_left_is_completed(layout: Layout) -> None:
    put_artifact(layout, b"program", name="a")
    (layout.path / "oci-layout").unlink()
    with pytest.raises(NotFound):
        Layout(layout.path)
    assert [name for name, _ in Layout.create(layout.path).tags()] == ["a"]


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StorageError, match=r"is no OCI layout and holds 'thesis.tex'; choose an empty directory"):
        Layout.create(tmp_path)
    assert files(tmp_path) == {"thesis.tex"}


def test_what_is_no_layout_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(NotFound, match="is no OCI layout; it has no file oci-layout"):
            Layout(path)
    with pytest.raises(StorageError):
        Layout.create(tmp_path / "file")


def test_a_layout_of_another_version_is_refused(layout: Layout) -> None:
    (layout.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(UnsupportedArtifact, match=r"a layout of version '2.0.0'; 1.0.0 can be read"):
        Layout(layout.path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"imageLayoutVersion":1,"imageLayoutVersion":1}'])
def test_a_damaged_mark_is_told(layout: Layout, damage: bytes) -> None:
    (layout.path / "oci-layout").write_bytes(damage)
    with pytest.raises(InvalidContent):
        Layout(layout.path)


# index.json


def entry(manifest: Manifest, **annotations: str) -> dict[str, Any]:
    """One of index.json as another tool may write it."""
    names = {key.replace("_", "."): value for key, value in annotations.items()}
    return {**manifest.descriptor.to_json(), "annotations": names, "urls": ["https://example.com/x"]}


def write_index(layout: Layout, *entries: Any) -> None:
    """As another tool does, without a media type."""
    (layout.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries, "other": 1}))


def test_names_of_other_tools_are_understood(layout: Layout) -> None:
    one, two, three = (put_artifact(layout, data) for data in (b"one", b"two", b"three"))
    write_index(
        layout,
        entry(one, org_opencontainers_image_ref_name="1.0", other="kept"),
        entry(two, io_containerd_image_name="docker.io/library/x:1", org_opencontainers_image_ref_name="1"),
        entry(three),
    )
    assert [name for name, _ in layout.tags()] == sorted(["1.0", "docker.io/library/x:1", str(three.descriptor.digest)])
    assert layout.resolve("1.0").annotations == {"other": "kept"}
    assert layout.resolve("1").digest == layout.resolve("docker.io/library/x:1").digest == two.descriptor.digest
    assert layout.collect() == []


def test_entries_of_other_tools_are_kept(layout: Layout) -> None:
    one, two = put_artifact(layout, b"one"), put_artifact(layout, b"two")
    foreign = entry(one, org_opencontainers_image_ref_name="1.0")
    write_index(layout, foreign, entry(two))
    layout.tag("new", two.descriptor)
    layout.untag(str(two.descriptor.digest))
    document = json.loads((layout.path / "index.json").read_bytes())
    assert document["manifests"][0] == foreign
    assert document["other"] == 1
    assert [name for name, _ in layout.tags()] == ["1.0", "new"]


@pytest.mark.parametrize("text", ['{"manifests":null}', "{}"])
def test_an_index_may_be_empty(layout: Layout, text: str) -> None:
    manifest = put_artifact(layout, b"program")
    (layout.path / "index.json").write_text(text)
    assert layout.tags() == []
    layout.tag("a", manifest.descriptor)
    assert layout.resolve("a").digest == manifest.descriptor.digest


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b'{"manifests":{}}', b'{"manifests":[1]}', b'{"manifests":[{}]}',
        b'{"manifests":[{"mediaType":"a/b","digest":"sha256:../x","size":1}]}',
        b'{"manifests":[{"annotations":1}]}', b'{"manifests":[{"annotations":{"a":1}}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_index_is_told_and_nothing_is_collected(layout: Layout, damage: bytes) -> None:
    put_artifact(layout, b"program", name="a")
    (layout.path / "index.json").write_bytes(damage)
    before = files(layout.path)
    for use in (layout.tags, layout.collect):
        with pytest.raises(InvalidContent):
            use()
    assert files(layout.path) == before


def test_a_missing_index_is_told(layout: Layout) -> None:
    (layout.path / "index.json").unlink()
    with pytest.raises(InvalidContent, match=r"has no index.json; it is damaged"):
        layout.tags()


def test_only_the_name_stands_beside_what_it_leads_to(layout: Layout) -> None:
    """Not the platform and the annotations that an index had for it."""
    manifest = put_artifact(layout, b"program").descriptor
    platform, annotations = Platform("wasm", "wasip1"), {"io.containerd.image.name": "other"}
    layout.tag("a", Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations, platform, "x/y"))
    assert layout.tags() == [("a", manifest)]
    assert layout.resolve("a") == manifest


# Damaged blobs


def test_a_damaged_blob_is_noticed_when_it_is_read(layout: Layout) -> None:
    blob = put(layout, b"program")
    layout.blob(blob.digest).write_bytes(b"progrum")
    with pytest.raises(InvalidContent, match="were damaged or replaced"):
        contents(layout, blob)


def test_a_truncated_blob_is_written_anew(layout: Layout) -> None:
    blob = put(layout, b"program")
    layout.blob(blob.digest).write_bytes(b"")
    assert not layout.has(blob)
    assert contents(layout, put(layout, b"program")) == b"program"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_blob(layout: Layout, make: Any) -> None:
    make(layout.blob(ABSENT.digest))
    assert not layout.has(ABSENT)
    with pytest.raises(InvalidContent, match="is no regular file"):
        contents(layout, ABSENT)


def test_a_damaged_manifest_leads_nowhere(layout: Layout) -> None:
    """So a new pull of it can complete: what it named goes, and it goes when its name does."""
    manifest = put_artifact(layout, b"program", name="a")
    layout.blob(manifest.descriptor.digest).write_bytes(b"x" * len(manifest.raw))
    with pytest.raises(NotFound, match="no manifest that can be read"):
        layout.resolve(str(manifest.descriptor.digest))
    assert {gone.digest for gone in layout.collect()} == {child.digest for child in manifest.children}
    layout.untag("a")
    assert [gone.digest for gone in layout.collect()] == [manifest.descriptor.digest]


def test_a_digest_leads_to_manifests_only(layout: Layout) -> None:
    blob, huge = put(layout, b"program"), put(layout, bytes(5 << 20))
    for descriptor in (blob, huge):
        with pytest.raises(NotFound, match="no manifest that can be read"):
            layout.resolve(str(descriptor.digest))


def test_foreign_files_are_not_collected(layout: Layout) -> None:
    path = layout.path / "blobs" / "sha256" / "README"
    path.touch()
    put(layout, b"loose")
    assert len(layout.collect()) == 1
    assert path.exists()

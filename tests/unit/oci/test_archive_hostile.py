"""Archives that are damaged, incomplete or made to do harm: one clear line each, and the store is as it was."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci.archive import load, save
from oci.descriptor import Descriptor
from oci.errors import InvalidContent, InvalidReference, OciError, UnsupportedArtifact
from oci.layout import Layout
from oci.manifest import MAX_MANIFEST
from oci.media_types import OCI_MANIFEST
from oci.memory import MemoryStore
from tests.contracts.stores import ABSENT, put_artifact
from tests.unit.oci.tars import archive, member

NAME = "localhost:5000/hello:1"


def good() -> bytes:
    """A good archive."""
    store = MemoryStore()
    put_artifact(store, b"program", name=NAME)
    out = io.BytesIO()
    save(store, [NAME], out)
    return out.getvalue()


GOOD = good()


def files() -> dict[str, bytes]:
    """The files of the good archive."""
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        return {info.name: cast("BinaryIO", tar.extractfile(info)).read() for info in tar}


def packed(**changes: bytes | None) -> bytes:
    """The good archive with some files changed or left out; two underscores stand for what no name can have."""
    changed = files() | {name.replace("__", "."): data for name, data in changes.items()}
    return archive(*(member(name, data) for name, data in changed.items() if data is not None))


def listing(*entries: object) -> bytes:
    """An archive whose index.json lists something else."""
    return packed(index__json=json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def blob_path(data: bytes) -> str:
    """Where a blob of the good archive lies."""
    return next(name for name, each in files().items() if each == data)


@pytest.fixture
def target(tmp_path: Path) -> Layout:
    """A layout with something good in it."""
    layout = Layout.create(tmp_path / "layout")
    put_artifact(layout, b"good", name="good", config=b"other")
    return layout


def state(layout: Layout) -> list[tuple[str, bytes]]:
    """All files."""
    paths = (path for path in layout.path.rglob("*") if path.is_file())
    return sorted((path.relative_to(layout.path).as_posix(), path.read_bytes()) for path in paths)


def refused(data: bytes, target: Layout, error: type[OciError] = InvalidContent) -> str:
    """Why an archive is refused, by a layout and by memory; neither has changed then."""
    before = state(target)
    memory = MemoryStore()
    with pytest.raises(error):
        load(io.BytesIO(data), memory)
    with pytest.raises(error) as caught:
        load(io.BytesIO(data), target)
    assert state(target) == before
    assert memory.blobs() == {}
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hard link"), (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"), (tarfile.FIFOTYPE, "FIFO"), (b"Z", "an entry of type 'Z'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x", "blobs/sha256/" + "0" * 64, "index.json"])
def test_things_that_are_no_files(target: Layout, kind: bytes, named: str, name: str) -> None:
    data = archive(member(name, kind=kind, link="/etc/passwd"), *(member(*each) for each in files().items()))
    assert f"an archive with '{name}' ({named}); an OCI archive has files only" in refused(data, target)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "blobs/../../x", "blobs/sha256/../../../x", "./../x", "x/..", "/", "//x", ".//x"]
)
def test_paths_that_lead_out(target: Layout, name: str) -> None:
    data = archive(*(member(*each) for each in files().items()), member(name, b"x"))
    assert "which leads out of it" in refused(data, target)


@pytest.mark.parametrize("path", ["blobs/sha256/x", "blobs/x", "blobs/md5/" + "0" * 32, "blobs/sha256/a/" + "0" * 64])
def test_blobs_that_are_no_digests(target: Layout, path: str) -> None:
    data = archive(member(path, b"x"), *(member(*each) for each in files().items()))
    assert "among its blobs, which is no digest" in refused(data, target)


def test_blobs_under_other_digests(target: Layout) -> None:
    for path, data in files().items():
        if path.startswith("blobs/"):
            assert "damaged or replaced" in refused(packed(**{path: data[:-1] + b"!"}), target)
            assert path.removeprefix("blobs/sha256/") in refused(packed(**{path: data + b" "}), target)


def test_a_missing_part(target: Layout) -> None:
    assert "it has no index.json" in refused(packed(index__json=None), target)
    assert "is incomplete: it lacks sha256:" in refused(packed(**{blob_path(b"program"): None}), target)
    manifest = next(data for data in files().values() if b"layers" in data)
    assert "is incomplete: sha256:" in refused(packed(**{blob_path(manifest): None}), target)
    assert load(io.BytesIO(packed(**{"oci-layout": None})), target) == [NAME]  # nobody needs it


def test_two_indexes(target: Layout) -> None:
    data = archive(*(member(*each) for each in (*files().items(), ("index.json", b"{}"))))
    assert "two files index.json" in refused(data, target)


def test_an_index_that_lists_something_else(target: Layout) -> None:
    absent = Descriptor(OCI_MANIFEST, ABSENT.digest, 100).to_json()
    manifest = json.loads(files()["index.json"])["manifests"][0]
    twice = manifest | {"digest": str(ABSENT.digest)}
    blob = Descriptor.of(OCI_MANIFEST, b"program").to_json()
    for entries, because in (
        ([], "an archive of 0 artifacts"),
        ([manifest, twice], "2 artifacts with 1 names"),
        ([manifest | {"annotations": {"a": str(number)}} for number in range(2000)], "an archive of 2000 artifacts"),
        ([absent], "is incomplete: "),
        ([blob], "is no proper JSON"),
        ([manifest | {"mediaType": "application/x"}], "one of both is wrong"),
        ([manifest | {"mediaType": "application/vnd.oci.image.index.v1+json"}], "one of both is wrong"),
        ([manifest | {"digest": "sha256:../x"}], "is no digest"),
        ([manifest | {"size": 1}], "longer than the 1 bytes"),
        ([manifest | {"size": 100_000_000}], "100000000 bytes; more than 4194304 are not read"),
        ([1], "no list of objects"),
    ):
        assert because in refused(listing(*entries), target)
    assert "no JSON object" in refused(packed(index__json=b"[]"), target)
    assert "nested too deeply" in refused(packed(index__json=b"[" * 1_000_000), target)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "x" * 2000, f"sha256:{'0' * 64}"])
def test_names_that_cannot_be(target: Layout, name: str) -> None:
    manifest = json.loads(files()["index.json"])["manifests"][0]
    bad = manifest | {"annotations": {"org.opencontainers.image.ref.name": name}}
    assert "cannot be a name" in refused(listing(manifest, bad), target, InvalidReference)


def test_large_things_that_are_read_into_memory(target: Layout) -> None:
    large = bytes(MAX_MANIFEST + 1)
    assert "index.json of 4194305 bytes; more than" in refused(packed(index__json=large), target)
    attributes = tarfile.TarInfo("x")
    attributes.pax_headers = {"comment": "x" * (2 << 20)}
    assert "extended headers" in refused(archive((attributes, b""), *(member(*e) for e in files().items())), target)


def test_many_things(target: Layout) -> None:
    empty = member("x")[0].tobuf()
    assert "more than 25000 entries" in refused(empty * 25_001, target)


def test_bombs(target: Layout) -> None:
    zeros = member("ignored")[0]
    zeros.size = 120 << 20
    bomb = gzip.compress(zeros.tobuf() + bytes(zeros.size) + GOOD)
    assert "an archive that swells to more than 100 times its size" in refused(bomb, target)


def test_kinds_of_others(target: Layout) -> None:
    old = {"manifest.json": b'[{"Config":"a.json","Layers":["a/layer.tar"]}]', "a.json": b"{}", "a/layer.tar": b"x"}
    data = archive(*(member(*each) for each in old.items()))
    assert "skopeo copy docker-archive:OLD.tar oci-archive:NEW.tar" in refused(data, target, UnsupportedArtifact)
    assert "an archive is compressed with zstd" in refused(
        b"\x28\xb5\x2f\xfd" + bytes(100), target, UnsupportedArtifact
    )
    assert "no archive" in refused(b"\0asm\1\0\0\0" + bytes(1000), target)
    assert "no archive" in refused(b"\x7fELF" * 1000, target)
    assert "no OCI archive" in refused(b"", target)
    assert "no OCI archive" in refused(bytes(10_240), target)
    assert "no OCI archive" in refused(archive(member("a.txt", b"x")), target)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_cut_anywhere(target: Layout, pack: type[bytes]) -> None:
    """Up to where the index ends; behind it only what marks the layout is missing."""
    whole = pack(GOOD)
    end = len(whole) if pack is not bytes else GOOD.index(b'"schemaVersion":2}', GOOD.index(b'"manifests"')) + 18
    for length in range(0, end, max(1, end // 40)):
        refused(whole[:length], target)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=16))
def test_any_damage_is_noticed_or_does_no_harm(at: int, damage: bytes) -> None:
    store = MemoryStore()
    data = GOOD[:at] + damage + GOOD[at + len(damage) :]
    try:
        names = load(io.BytesIO(data), store)
    except OciError:
        assert store.blobs() == {}
        return
    assert len(names) == 1
    assert store.collect() == []


@settings(max_examples=200)
@given(st.binary())
def test_any_bytes_are_an_archive_or_are_refused(data: bytes) -> None:
    store = MemoryStore()
    with pytest.raises(OciError):
        load(io.BytesIO(data), store)
    assert store.blobs() == {}

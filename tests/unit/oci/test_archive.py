"""OCI archives: what they look like, that they come back as they were, and those of other tools."""

import gzip
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from oci.archive import load, save
from oci.content import Store
from oci.copy import copy
from oci.descriptor import Descriptor, Platform
from oci.errors import InvalidContent, NotFound
from oci.layout import Layout
from oci.manifest import new_index
from oci.memory import MemoryStore
from tests.contracts.stores import LONG, put_artifact, put_index, put_parent
from tests.unit.oci.tars import archive, member

NAME = "localhost:5000/hello:1"
MARK = b'{"imageLayoutVersion":"1.0.0"}'


def saved(store: Store, *names: str) -> bytes:
    """The archive of these names."""
    out = io.BytesIO()
    save(store, names, out)
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """Its files."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: cast("BinaryIO", tar.extractfile(info)).read() for info in tar if info.isfile()}


def entries(data: bytes) -> list[dict[str, Any]]:
    """What its index.json lists."""
    manifests: list[dict[str, Any]] = json.loads(members(data)["index.json"])["manifests"]
    return manifests


def packed(files: dict[str, bytes]) -> bytes:
    """An archive of these files, in this order."""
    return archive(*(member(name, data) for name, data in files.items()))


@pytest.fixture
def source() -> MemoryStore:
    """Two artifacts, one of them an index."""
    store = MemoryStore()
    put_artifact(store, LONG, b"", name=NAME)
    put_index(store, put_artifact(store, b"one"), put_artifact(store, b"two"), name="ghcr.io/a/b:latest")
    return store


@pytest.fixture(params=["memory", "layout"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    return MemoryStore() if request.param == "memory" else Layout.create(tmp_path / "layout")


def test_comes_back_as_it_was(source: MemoryStore, target: Store) -> None:
    names = [name for name, _ in source.tags()]
    assert load(io.BytesIO(saved(source, *names)), target) == names
    assert target.tags() == source.tags()
    back = MemoryStore()
    for name in names:
        copy(target, name, back, name)
    assert back.blobs() == source.blobs()
    assert target.collect() == []


def test_is_a_layout_in_a_tar(source: MemoryStore) -> None:
    data = saved(source, NAME)
    manifest = source.resolve(NAME)
    files = members(data)
    assert files["oci-layout"] == MARK
    assert json.loads(files["index.json"]) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": manifest.media_type,
                "digest": str(manifest.digest),
                "size": manifest.size,
                "annotations": {
                    "io.containerd.image.name": NAME,
                    "org.opencontainers.image.ref.name": "1",
                },
            }
        ],
    }
    assert sorted(files) == list(files)
    assert len(files) == 4 + 2
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {(info.mtime, info.uid, info.uname, info.type) for info in tar} == {(0, 0, "", tarfile.REGTYPE)}


def test_the_same_content_gives_the_same_bytes(source: MemoryStore, tmp_path: Path) -> None:
    other = Layout.create(tmp_path / "layout")
    for name, _ in reversed(source.tags()):
        copy(source, name, other, name)
    data = saved(source, "ghcr.io/a/b:latest", NAME)
    assert saved(other, NAME, "ghcr.io/a/b:latest", NAME) == data


@pytest.mark.parametrize(
    ("name", "annotations"),
    [
        ("ghcr.io/a/b:1", {"io.containerd.image.name": "ghcr.io/a/b:1", "org.opencontainers.image.ref.name": "1"}),
        ("owner/b:1", {"io.containerd.image.name": "docker.io/owner/b:1", "org.opencontainers.image.ref.name": "1"}),
        ("ghcr.io/a/b@DIGEST", {"io.containerd.image.name": "ghcr.io/a/b@DIGEST"}),
        ("1.0", {"org.opencontainers.image.ref.name": "1.0"}),
        ("Not/A Reference", {"org.opencontainers.image.ref.name": "Not/A Reference"}),
    ],
)
def test_names_stand_where_other_tools_look(name: str, annotations: dict[str, str]) -> None:
    store = MemoryStore()
    digest = str(put_artifact(store, b"program", name="x").descriptor.digest)
    name = name.replace("DIGEST", digest)
    store.tag(name, store.resolve("x"))
    (entry,) = entries(saved(store, name))
    assert entry["annotations"] == {key: each.replace("DIGEST", digest) for key, each in annotations.items()}
    target = MemoryStore()
    assert load(io.BytesIO(saved(store, name)), target) == [
        annotations.get("io.containerd.image.name", name).replace("DIGEST", digest)
    ]


def test_content_without_a_name_goes_by_its_digest(source: MemoryStore, target: Store) -> None:
    digest = str(source.resolve(NAME).digest)
    data = saved(source, digest)
    assert "annotations" not in entries(data)[0]
    assert load(io.BytesIO(data), target) == [digest]
    assert target.collect() == []
    assert [name for name, _ in target.tags()] == [digest]


def test_a_platform_stands_in_an_index_and_never_beside_a_name() -> None:
    """containerd would leave the artifact out."""
    store = MemoryStore()
    manifest = put_artifact(store, b"program").descriptor
    entry = Descriptor(manifest.media_type, manifest.digest, manifest.size, platform=Platform("wasm", "wasip1"))
    put_parent(store, new_index([entry]), "index")
    copy(store, "index", store, "one", select=lambda index: index.manifests[0])
    data = saved(store, "index", "one")
    assert [sorted(each) for each in entries(data)] == [["annotations", "digest", "mediaType", "size"]] * 2


def test_what_is_not_there_cannot_be_saved(source: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        saved(source, NAME, "absent")
    layout = Layout.create(tmp_path / "layout")
    copy(source, NAME, layout, NAME)
    damaged = max(layout.path.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(bytes(len(LONG)))
    with pytest.raises(InvalidContent, match="damaged or replaced"):
        saved(layout, NAME)


def test_what_the_file_says_comes_out(source: MemoryStore) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        save(source, [NAME], full)


# Streams


def piped(write: Callable[[BinaryIO], Any]) -> Iterator[BinaryIO]:
    """The reading end of a pipe that another thread writes to."""
    reading, writing = os.pipe()
    failures: list[OSError] = []

    def work() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=0) as out:
                write(out)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with os.fdopen(reading, "rb") as stream:
        yield stream
    thread.join()
    assert failures == []


def test_goes_through_a_pipe_to_its_end(source: MemoryStore, target: Store) -> None:
    """What fills the last record is read, too: whoever writes it is not killed."""
    data = saved(source, NAME) + bytes(1 << 20)
    for stream in piped(lambda out: [out.write(data[at : at + 10_000]) for at in range(0, len(data), 10_000)]):
        assert load(stream, target) == [NAME]
    for stream in piped(lambda out: save(source, [NAME], out)):
        assert load(stream, target) == [NAME]


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:])])
def test_may_be_compressed(source: MemoryStore, target: Store, pack: Callable[[bytes], bytes]) -> None:
    assert load(io.BytesIO(pack(saved(source, NAME))), target) == [NAME]


# Archives of other tools


@pytest.mark.parametrize("backwards", [False, True])
def test_as_docker_25_writes_them(source: MemoryStore, target: Store, *, backwards: bool) -> None:
    """With what older Dockers need beside, and with directories."""
    files = members(saved(source, NAME)) | {"manifest.json": b"[{}]", "repositories": b"{}"}
    files |= {"ab/json": b"{}", "ab/VERSION": b"1.0"}
    named = [member("blobs", kind=tarfile.DIRTYPE), member("blobs/sha256", kind=tarfile.DIRTYPE)]
    named += [member(name, data) for name, data in sorted(files.items(), reverse=backwards)]
    assert load(io.BytesIO(archive(*named, form=tarfile.GNU_FORMAT)), target) == [NAME]
    assert target.collect() == []


def test_as_tar_makes_them_of_a_directory(source: MemoryStore, target: Store) -> None:
    files = {f"./{name}": data for name, data in members(saved(source, NAME)).items()}
    data = archive(member("./", kind=tarfile.DIRTYPE), *(member(name, each) for name, each in files.items()))
    assert load(io.BytesIO(data), target) == [NAME]


def test_as_skopeo_writes_them(source: MemoryStore, target: Store) -> None:
    """The name is what it was told after the last colon, or nothing."""
    files = members(saved(source, NAME))
    document = json.loads(files["index.json"])
    document["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1.0"}
    del document["mediaType"]
    assert load(io.BytesIO(packed(files | {"index.json": json.dumps(document).encode()})), target) == ["1.0"]


def test_what_nothing_leads_to_is_not_kept(source: MemoryStore, target: Store) -> None:
    files = members(saved(source, NAME, "ghcr.io/a/b:latest"))
    document = json.loads(files["index.json"])
    document["manifests"].pop(0)
    load(io.BytesIO(packed(files | {"index.json": json.dumps(document).encode()})), target)
    assert target.collect() == []
    here = MemoryStore()
    copy(target, NAME, here, NAME)
    assert len(here.blobs()) == 4

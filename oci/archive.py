"""OCI archives: tar files of an image layout, as `ctr image import`, skopeo, podman and Docker (from 25) take them.

Source: image-spec, image-layout.md; the annotations by which containerd and podman name what they import.
Both directions are streams: no archive is ever held in memory or needs to be seekable.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, Final, NamedTuple

from oci.content import CHUNK, Source, Store, check_name, verified
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidContent, InvalidReference, NotFound, OciError, UnsupportedArtifact, shown
from oci.graph import Graph, graph
from oci.inflate import inflated
from oci.layout_index import FULL_NAME, REF_NAME, LayoutIndex
from oci.manifest import MAX_MANIFEST, MAX_MANIFESTS
from oci.media_types import OCI_INDEX
from oci.reference import Reference
from oci.strict_json import Json, encode
from oci.tar import BLOCK, Entry, entries, header, trailer

__all__ = ["load", "save"]

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX, _MARK, _DOCKER = "index.json", "oci-layout", "manifest.json"
_UNKNOWN: Final = "application/octet-stream"  # a tar does not say what its blobs are, and stores do not ask
_MAX_ENTRIES: Final = 25_000
_AFTER_THE_END: Final = 16  # pieces; writers fill their last record up with zeros


def save(store: Source, names: Iterable[str], out: BinaryIO) -> None:
    """Write an archive of what these names lead to; the same content gives the same bytes.

    Raises what the store raises and what `out` raises; what was written until then is no archive.
    """
    roots = [(name, store.resolve(name)) for name in sorted(set(names))]
    found = graph(store, [root for _, root in roots])
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_entry(*root) for root in roots]}
    for path, size, chunks in _files(store, found, encode(index)):
        _write(out, header(path, size))
        for chunk in chunks:
            _write(out, chunk)
        _write(out, bytes(-size % BLOCK))
    _write(out, trailer(0))


def _entry(name: str, root: Descriptor) -> Json:
    """A name in index.json: containerd and podman take the full one, skopeo is asked for the tag.

    A platform must not stand here: containerd would leave a Wasm artifact out for it.
    """
    bare = Descriptor(root.media_type, root.digest, root.size).to_json()
    if name == str(root.digest):
        return bare
    annotations = {REF_NAME: name}
    with suppress(InvalidReference):
        if "/" in name:  # not the bare tag of a layout, which would be read as a repository on Docker Hub
            reference = Reference.parse(name)
            annotations = {FULL_NAME: str(reference)} | ({REF_NAME: reference.tag} if reference.tag else {})
    return bare | {"annotations": annotations}


def _files(store: Source, found: Graph, index: bytes) -> Iterator[tuple[str, int, Iterable[bytes]]]:
    """Paths, sorted, with sizes and contents."""
    files: dict[str, tuple[int, Iterable[bytes]]] = {_INDEX: (len(index), [index]), _MARK: (len(_LAYOUT), [_LAYOUT])}
    for descriptor in found.blobs.values():
        files[_path(descriptor.digest)] = descriptor.size, verified(store.read(descriptor), descriptor)
    for parent in found.parents.values():
        files[_path(parent.descriptor.digest)] = len(parent.raw), [parent.raw]
    for path in sorted(files):
        yield path, *files[path]


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _write(out: BinaryIO, data: bytes) -> None:
    """All of it; an unbuffered file takes a part."""
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def load(stream: BinaryIO, target: Store) -> list[str]:
    """Take in an archive, compressed with gzip or not; the names that it brought, content without one by its digest.

    Raises InvalidContent for what is damaged, incomplete or hostile, UnsupportedArtifact for other archives, and what
    `stream` and the target raise. Names are given last, all or none, and what no name leads to is removed again.
    """
    clean = False
    try:
        with target.writing():
            unpacked = _unpack(stream, target)
            named, found = _checked(unpacked, target)
            for name, descriptor in named.items():
                target.tag(name, descriptor)
            clean = unpacked.digests <= {digest for digest, _ in (*found.blobs, *found.parents)}
        return list(named)
    finally:
        if not clean:
            with suppress(OciError):
                target.collect()


class _Unpacked(NamedTuple):
    """What an archive held: its small files by path, and the blobs that the target has taken in."""

    documents: dict[str, bytes]
    digests: set[Digest]


def _unpack(stream: BinaryIO, target: Store) -> _Unpacked:
    unpacked = _Unpacked({}, set())
    chunks = inflated(iter(lambda: stream.read(CHUNK), b""), "an archive")
    for number, (entry, contents) in enumerate(entries(chunks)):
        if number >= _MAX_ENTRIES:
            raise InvalidContent(f"an archive of more than {_MAX_ENTRIES} entries; it is not read")
        path = _safe(entry)
        if path in {_INDEX, _MARK, _DOCKER}:
            _document(unpacked.documents, path, entry.size, contents)
        elif path.startswith("blobs/") and entry.kind == "file":
            descriptor = Descriptor(_UNKNOWN, _digest(path), entry.size)
            target.write(descriptor, contents)
            unpacked.digests.add(descriptor.digest)
    for _ in islice(chunks, _AFTER_THE_END):  # or the writer of a pipe would be killed
        pass
    return unpacked


def _safe(entry: Entry) -> str:
    """The path of an entry, without ./ before it. What could lead out of a directory is refused, though none is
    made of it: an archive with such things was made to do harm, or is no image."""
    path = entry.name.removeprefix("./")
    if entry.kind not in {"file", "directory"}:
        raise InvalidContent(f"an archive with {shown(path)} ({entry.kind}); an OCI archive has files only")
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidContent(f"an archive with the path {shown(path)}, which leads out of it; it is not read")
    return path


def _document(documents: dict[str, bytes], path: str, size: int, contents: Iterator[bytes]) -> None:
    if path in documents:
        raise InvalidContent(f"an archive with two files {path}; it is not clear which one is meant")
    if size > MAX_MANIFEST:
        raise InvalidContent(f"an archive with {path} of {size} bytes; more than {MAX_MANIFEST} are not read")
    documents[path] = b"".join(contents)


def _digest(path: str) -> Digest:
    try:
        _, algorithm, digits = path.split("/")
        return Digest(algorithm, digits)
    except (InvalidReference, ValueError):
        raise InvalidContent(f"an archive with {shown(path)} among its blobs, which is no digest") from None


def _checked(unpacked: _Unpacked, target: Store) -> tuple[dict[str, Descriptor], Graph]:
    """The names in an archive with what they lead to, all of which the target has."""
    documents = unpacked.documents
    if _INDEX not in documents:
        if _DOCKER in documents:
            raise UnsupportedArtifact(
                "an archive of Docker's old form; make it with Docker 25 or later, or convert it: "
                "skopeo copy docker-archive:OLD.tar oci-archive:NEW.tar"
            )
        raise InvalidContent("no OCI archive, or one that is cut off; it has no index.json")
    pairs = LayoutIndex.parse(documents[_INDEX]).entries()
    named = dict(pairs)
    if not 0 < len(pairs) <= MAX_MANIFESTS or len(named) < len(pairs):
        raise InvalidContent(f"an archive of {len(pairs)} artifacts with {len(named)} names; it cannot be read")
    for name, descriptor in named.items():
        check_name(name, descriptor)
    try:
        found = graph(target, named.values())
    except NotFound as error:
        raise InvalidContent(f"the archive is incomplete: {error}; save it with all its platforms") from None
    for descriptor in found.blobs.values():
        if not target.has(descriptor):
            raise InvalidContent(f"the archive is incomplete: it lacks {descriptor.digest}; save it again")
    return named, found

"""An OCI image layout on disk, for any number of artifacts and of processes at once.

    oci-layout, index.json   what the specification wants; index.json is replaced as a whole, so readers need no lock
    blobs/sha256/<hex>       content that was verified before it got this name
    .partial/<digest>        blobs on their way, each locked by its writer (see oci.partial)
    .partial/writer-…        one per writer at work, locked by it: its time tells what collecting must spare
    .lock                    held alone to change index.json or to collect, together with others to look a blob up

A writer that is killed frees its locks. What it leaves is taken up by the next writer of the same blob, or removed
by `collect`.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from oci.content import CHUNK, Removed, Source, check_name, read_all
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.disk import locked, refusals, replace
from oci.errors import InvalidContent, InvalidReference, NotFound, StorageError, UnsupportedArtifact, shown
from oci.garbage import oldest_writer, sweep, writer
from oci.graph import checked_parent, reachable
from oci.layout_index import MAX_INDEX, LayoutIndex
from oci.manifest import MAX_MANIFEST, parse_manifest
from oci.media_types import PARENTS
from oci.partial import receive
from oci.strict_json import encode, parse_object

__all__ = ["Layout"]

_VERSION: Final = "1.0.0"
_MARK: Final = "oci-layout"
_OURS: Final = frozenset({_MARK, "index.json", "blobs", ".partial", ".lock"})
_MODE: Final = 0o755  # others may read; whoever wants it private makes the directory before, with mode 0700
_PRIVATE: Final = 0o700
_UNKNOWN: Final = "application/octet-stream"


class Layout:
    """A store in a directory. Raises NotFound where there is none, StorageError where it cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._partial = self.path / ".partial"
        self._lock = self.path / ".lock"
        self._check_version()

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """The layout in this directory, made unless it is there. Raises StorageError, also for a directory that
        holds other things."""
        directory = Path(path).absolute()
        with refusals(directory):
            directory.mkdir(_MODE, parents=True, exist_ok=True)
            if not (directory / _MARK).exists():
                _make(directory)
        return cls(directory)

    def resolve(self, name: str) -> Descriptor:
        """What a name or the text of a digest leads to. Raises NotFound."""
        found = self._index().find(name)
        if found is not None:
            return found
        try:
            digest = Digest.parse(name)
        except InvalidReference:
            raise NotFound(f"{shown(name)} is not in {self.path}") from None
        return self._manifest(digest)

    def blob(self, digest: Digest) -> Path:
        """Where content lies if it is here; whoever opens the file verifies it."""
        return self.path / "blobs" / digest.algorithm / digest.hex

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on; removing the blob does not disturb who has begun. Raises NotFound."""
        path = self.blob(descriptor.digest)
        try:
            file = _open(path)
        except NotFound:
            raise NotFound(f"{descriptor.digest} is not in {self.path}") from None
        try:
            with refusals(path):
                os.lseek(file, offset, os.SEEK_SET)
            while piece := _piece(file, path):
                yield piece
        finally:
            os.close(file)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether this content is here, with its right size. A writer that asks relies on it: its time is now."""
        with refusals(self._lock), locked(self._lock, shared=True):
            present = self._has(descriptor)
            if present:
                with suppress(OSError):  # another's layout, or a read-only one
                    os.utime(self.blob(descriptor.digest))
            return present

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Take content in, unless it is here. Raises InvalidContent; NotFound when a manifest's content is not here.

        When reading breaks off, the beginning is kept for the next writer if the chunks are a Content.
        """
        if self.has(descriptor):
            return
        if descriptor.media_type in PARENTS:
            chunks = [checked_parent(self, descriptor, chunks)]
        blob, partial = self.blob(descriptor.digest), self._partial / str(descriptor.digest)
        with refusals(self.path):
            _directories(blob.parent.parent, blob.parent)
            self._partial.mkdir(_PRIVATE, exist_ok=True)
        receive(partial, blob, descriptor, chunks, lambda: self.has(descriptor))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held from the first `has` or `write` to the tag: what this writer relies on is not collected meanwhile."""
        with self._alone():
            leave = writer(self._partial)
        try:
            yield
        finally:
            leave()

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let a name lead to content that is here, whatever it led to before. Raises NotFound, InvalidReference."""
        check_name(name, descriptor)
        with self._alone():
            if not self._has(descriptor):
                raise NotFound(f"{descriptor.digest} is not in {self.path}; write it before it gets a name")
            self._replace_index(self._index().tagged(name, descriptor))

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """Never: a link would take bytes over that nobody has verified."""
        return False

    def tags(self) -> list[tuple[str, Descriptor]]:
        """All names, sorted, with what they lead to; content without a name stands under the text of its digest."""
        return self._index().entries()

    def untag(self, name: str) -> None:
        """Forget a name; `collect` frees the space. Raises NotFound."""
        with self._alone():
            index = self._index().untagged(name)
            if index is None:
                raise NotFound(f"{shown(name)} is not in {self.path}")
            self._replace_index(index)

    def collect(self) -> list[Removed]:
        """Remove what no name leads to, and what killed writers left.

        What writers at work have written or asked for is spared, and so is all that is not older than the first of
        them. Raises StorageError and InvalidContent before anything is removed.
        """
        with self._alone():
            before = oldest_writer(self._partial)
            kept = reachable(self, [descriptor for _, descriptor in self._index().entries()])
            return sweep(self.path / "blobs", self._partial, kept, before)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes index.json, collects, or looks a blob up meanwhile."""
        with refusals(self.path), locked(self._lock):
            self._partial.mkdir(_PRIVATE, exist_ok=True)
            yield

    def _has(self, descriptor: Descriptor) -> bool:
        try:
            status = self.blob(descriptor.digest).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size

    def _manifest(self, digest: Digest) -> Descriptor:
        """The descriptor of a manifest that no entry of index.json describes."""
        path = self.blob(digest)
        try:
            with refusals(path):
                size = path.stat().st_size
            return parse_manifest(read_all(self, Descriptor(_UNKNOWN, digest, size), MAX_MANIFEST)).descriptor
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound(f"{digest} is not in {self.path}") from None
            raise
        except (InvalidContent, UnsupportedArtifact) as error:
            raise NotFound(f"{digest} is in {self.path}, but as no manifest that can be read: {error}") from None

    def _index(self) -> LayoutIndex:
        try:
            return LayoutIndex.parse(_small(self.path / "index.json", MAX_INDEX))
        except NotFound:
            raise InvalidContent(f"{self.path} has no index.json; it is damaged") from None

    def _replace_index(self, index: LayoutIndex) -> None:
        replace(self.path / "index.json", index.encode(), self._partial / "index.json")

    def _check_version(self) -> None:
        try:
            document = parse_object(_small(self.path / _MARK, MAX_MANIFEST), _MARK)
        except NotFound:
            raise NotFound(f"{self.path} is no OCI layout; it has no file {_MARK}") from None
        version = document.get("imageLayoutVersion")
        if version != _VERSION:
            raise UnsupportedArtifact(f"{self.path} is a layout of version {shown(version)}; {_VERSION} can be read")


def _make(directory: Path) -> None:
    """A new layout; its mark comes last, so that a killed maker's work is no layout yet and can be gone on with."""
    others = {entry.name for entry in directory.iterdir()} - _OURS
    if others:
        raise StorageError(f"{directory} is no OCI layout and holds {shown(min(others))}; choose an empty directory")
    with locked(directory / ".lock"):
        (directory / ".partial").mkdir(_PRIVATE, exist_ok=True)
        _directories(directory / "blobs", directory / "blobs" / "sha256")
        for name, document in (("index.json", LayoutIndex.empty().document), (_MARK, {"imageLayoutVersion": _VERSION})):
            if not (directory / name).exists():
                replace(directory / name, encode(document), directory / ".partial" / name)


def _directories(*paths: Path) -> None:
    """Make them, each with a mode that the umask cannot widen."""
    for path in paths:
        path.mkdir(_MODE, exist_ok=True)


def _small(path: Path, limit: int) -> bytes:
    """All bytes of a file. Raises NotFound; InvalidContent when they are too many."""
    file = _open(path)
    with refusals(path), os.fdopen(file, "rb", buffering=0) as stream:
        pieces = []
        while limit >= 0 and (piece := stream.read(CHUNK)):
            pieces.append(piece)
            limit -= len(piece)
    if limit < 0:
        raise InvalidContent(f"{path} is larger than anything it could be; it is damaged")
    return b"".join(pieces)


def _open(path: Path) -> int:
    """A regular file, opened to be read. Raises NotFound; a FIFO would let its readers wait."""
    with refusals(path):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{path} is missing") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise InvalidContent(f"{path} is no regular file; the layout is damaged")
        return file


def _piece(file: int, path: Path) -> bytes:
    with refusals(path):
        return os.read(file, CHUNK)

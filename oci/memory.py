"""A store in memory: for tests, and for artifacts on their way from a packer to another store."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

from oci.content import CHUNK, Removed, Source, check_name, verified
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidContent, InvalidReference, NotFound, UnsupportedArtifact, shown
from oci.graph import checked_parent, reachable
from oci.manifest import parse_manifest
from oci.media_types import PARENTS

__all__ = ["MemoryStore"]


class MemoryStore:
    """A target for content that fits into memory."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._names: dict[str, Descriptor] = {}
        self._lock = Lock()

    def resolve(self, name: str) -> Descriptor:
        """What a name or the text of a digest leads to. Raises NotFound."""
        with self._lock:
            named = self._names.get(name)
        if named is not None:
            return named
        try:
            return parse_manifest(self._blobs[Digest.parse(name)]).descriptor
        except (InvalidReference, KeyError):
            raise NotFound(f"{shown(name)} is not in this store") from None
        except (InvalidContent, UnsupportedArtifact) as error:
            raise NotFound(f"{name} is here, but as no manifest that can be read: {error}") from None

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on. Raises NotFound."""
        data = self._blobs.get(descriptor.digest)
        if data is None:
            raise NotFound(f"{descriptor.digest} is not in this store")
        for at in range(offset, len(data), CHUNK):
            yield data[at : at + CHUNK]

    def has(self, descriptor: Descriptor) -> bool:
        """Whether this content is here."""
        data = self._blobs.get(descriptor.digest)
        return data is not None and len(data) == descriptor.size

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Take content in. Raises InvalidContent; NotFound when a manifest's content is not here."""
        if self.has(descriptor):
            return
        if descriptor.media_type in PARENTS:
            data = checked_parent(self, descriptor, chunks)
        else:
            data = b"".join(verified(chunks, descriptor))
        with self._lock:
            self._blobs[descriptor.digest] = data

    def writing(self) -> AbstractContextManager[None]:
        """Nothing to hold: who collects here also writes here."""
        return nullcontext()

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let a name lead to content that is here. Raises NotFound, InvalidReference."""
        check_name(name, descriptor)
        if not self.has(descriptor):
            raise NotFound(f"{descriptor.digest} is not in this store; write it before it gets a name")
        with self._lock:
            self._names[name] = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """Never: memory shares nothing with other stores."""
        return False

    def blobs(self) -> dict[Digest, bytes]:
        """All content."""
        with self._lock:
            return dict(self._blobs)

    def tags(self) -> list[tuple[str, Descriptor]]:
        """All names, sorted, and what they lead to."""
        with self._lock:
            return sorted(self._names.items(), key=lambda item: item[0])

    def untag(self, name: str) -> None:
        """Forget a name. Raises NotFound."""
        with self._lock:
            if self._names.pop(name, None) is None:
                raise NotFound(f"{shown(name)} is not in this store")

    def collect(self) -> list[Removed]:
        """Remove what no name leads to."""
        kept = reachable(self, [descriptor for _, descriptor in self.tags()])
        with self._lock:
            gone = self._blobs.keys() - kept
            return [Removed(digest, len(self._blobs.pop(digest))) for digest in sorted(gone)]

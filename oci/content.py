"""Stores of content: what one must offer to be copied from or to, and reading that trusts nothing.

A source hands out bytes as they come. Whoever uses them checks them: `verified` for streams, `read_all` for what is
small. A target checks all that it takes, so that nothing is ever in it under a wrong digest.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from oci.descriptor import Descriptor
from oci.digest import Digest, Verifier
from oci.errors import InvalidContent, InvalidReference, shown

__all__ = ["CHUNK", "Content", "Removed", "Source", "Store", "Target", "check_name", "close", "read_all", "verified"]

CHUNK: Final = 256 << 10  # bytes; no store hands out more at once. 1 MiB does not stay in caches: a third of the speed

_MAX_NAME: Final = 1024  # characters
_DIGESTS: Final = ("sha256:", "sha512:")


class Source(Protocol):
    """What can be copied from. Every method may raise Unavailable or StorageError; any thread may call it."""

    def resolve(self, name: str) -> Descriptor:
        """What a tag or the text of a digest names, a manifest or an index. Raises NotFound."""

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on, in pieces of at most CHUNK, not verified. Raises NotFound.

        The iterator may raise later: Unavailable when it makes sense to read on from the offset reached.
        """


class Target(Source, Protocol):
    """What can be copied to."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether this content is here, whole."""

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Take content in, unless it is here. Raises InvalidContent when it is not what the descriptor says.

        Other readers see all of it or nothing. What a manifest names must be here before it, else NotFound. Chunks
        that are a `Content` can be iterated again, and from an offset.
        """

    def writing(self) -> AbstractContextManager[object]:
        """Held from the first `has` or `write` to the tag: what this writer relies on is not collected meanwhile."""

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let a name lead to a manifest or an index that is here, whatever it led to before. Raises NotFound.

        Content without a name is tagged with its own digest. Raises InvalidReference for a name that cannot be one.
        """

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """Take content over from a source without its bytes passing through here; False where that cannot be."""


class Removed(NamedTuple):
    """A blob that is gone, and the bytes that it took."""

    digest: Digest
    size: int


class Store(Target, Protocol):
    """A target on this machine. It keeps manifests and blobs alike, whatever media type they come under."""

    def tags(self) -> list[tuple[str, Descriptor]]:
        """All names, sorted, with what they lead to; content without a name stands under the text of its digest."""

    def untag(self, name: str) -> None:
        """Forget a name. Raises NotFound."""

    def collect(self) -> list[Removed]:
        """Remove what no name leads to and no writer at work relies on."""


class Content(Iterable[bytes]):
    """The bytes of one descriptor, which can be had again and from any offset."""

    def __init__(self, read: Callable[[int], Iterator[bytes]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[bytes]:
        return self._read(0)

    def since(self, offset: int) -> Iterator[bytes]:
        """The bytes from an offset on: for a target that holds those before."""
        return self._read(offset)


def verified(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """The same chunks, unless there are too many bytes, too few or other ones: then InvalidContent, at the latest
    in place of the end."""
    verifier = Verifier(descriptor.digest, descriptor.size)
    try:
        for chunk in chunks:
            verifier.update(chunk)
            yield chunk
    finally:
        close(chunks)
    verifier.finish()


def read_all(source: Source, descriptor: Descriptor, limit: int) -> bytes:
    """All bytes of something small, verified. Raises InvalidContent for more than the limit, unread."""
    if descriptor.size > limit:
        raise InvalidContent(f"{descriptor.digest} has {descriptor.size} bytes; more than {limit} are not read here")
    return b"".join(verified(source.read(descriptor), descriptor))


def check_name(name: str, descriptor: Descriptor) -> None:
    """Raises InvalidReference for a name that content cannot get: another digest, or what no line of text can hold."""
    digest = str(descriptor.digest)
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise InvalidReference(f"{shown(name)} cannot be a name; write one such as ghcr.io/owner/name:tag")
    if name != digest and name.startswith(_DIGESTS):
        raise InvalidReference(f"{shown(name)} cannot be a name of {digest}; it looks like another digest")


def close(chunks: Iterable[bytes]) -> None:
    """Let go of what a stream holds (a file, a connection) now, if it is one."""
    closing = getattr(chunks, "close", None)
    if closing is not None:
        closing()

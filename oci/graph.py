"""What belongs to an artifact: the content that its manifest or index leads to.

Digests make cycles impossible, not depth or number: both are bounded, and so are the bytes of all manifests together,
since they are kept in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from oci.content import Source, Target, read_all, verified
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidContent, NotFound, UnsupportedArtifact
from oci.manifest import MAX_MANIFEST, Index, Manifest, parse_manifest
from oci.media_types import PARENTS

__all__ = ["Graph", "checked_parent", "fetch", "graph", "reachable"]

_MAX_DEPTH: Final = 8  # indexes in indexes
_MAX_CONTENTS: Final = 20_000
_MAX_BYTES: Final = 16 << 20  # of all manifests and indexes


@dataclass(slots=True)
class Graph:
    """Each content once: blobs, and manifests and indexes in an order in which children come first."""

    blobs: dict[tuple[Digest, int], Descriptor] = field(default_factory=dict)
    parents: dict[tuple[Digest, int], Manifest | Index] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, source: Source, descriptor: Descriptor, depth: int = 0) -> None:
        """Take in a manifest or an index and what it leads to."""
        key = _key(descriptor)
        if key in self.parents:
            return
        if depth > _MAX_DEPTH:
            raise InvalidContent(f"indexes in indexes, more than {_MAX_DEPTH} deep; the artifact was made to do harm")
        parent = fetch(source, descriptor)
        self._bytes += len(parent.raw)
        for child in parent.children:
            if isinstance(parent, Index) and child.media_type in PARENTS:
                self.add(source, child, depth + 1)
            else:
                self.blobs.setdefault(_key(child), child)
            self._check()
        self.parents[key] = parent

    def _check(self) -> None:
        count = len(self.blobs) + len(self.parents)
        if count > _MAX_CONTENTS or self._bytes > _MAX_BYTES:
            raise InvalidContent(
                f"an artifact of more than {_MAX_CONTENTS} parts, or {_MAX_BYTES} bytes of manifests; it is not read"
            )


def graph(source: Source, roots: Iterable[Descriptor]) -> Graph:
    """All content of these manifests and indexes.

    Raises InvalidContent for what is malformed or too large, NotFound for a missing manifest; blobs are not looked at.
    """
    found = Graph()
    for root in roots:
        found.add(source, root)
    return found


def fetch(source: Source, descriptor: Descriptor) -> Manifest | Index:
    """A manifest or an index, verified. Raises InvalidContent, before reading when it is too large."""
    return parse_manifest(read_all(source, descriptor, MAX_MANIFEST), descriptor.media_type)


def checked_parent(target: Target, descriptor: Descriptor, chunks: Iterable[bytes]) -> bytes:
    """The bytes of a manifest that a target takes in: well-formed, and what it names is there, else NotFound."""
    if descriptor.size > MAX_MANIFEST:
        raise InvalidContent(f"a manifest of {descriptor.size} bytes; more than {MAX_MANIFEST} are not read")
    raw = b"".join(verified(chunks, descriptor))
    for child in parse_manifest(raw, descriptor.media_type).children:
        if not target.has(child):
            raise NotFound(f"{descriptor.digest} names {child.digest}, which is missing; write it before")
    return raw


def reachable(source: Source, roots: Iterable[Descriptor]) -> set[Digest]:
    """The digests that collecting must spare. What is missing or damaged leads nowhere, for nobody can use it."""
    seen: set[tuple[Digest, bool]] = set()
    todo = list(roots)
    while todo:
        descriptor = todo.pop()
        key = descriptor.digest, descriptor.media_type in PARENTS
        if key not in seen:
            seen.add(key)
            todo.extend(_children(source, descriptor))
    return {digest for digest, _ in seen}


def _children(source: Source, descriptor: Descriptor) -> tuple[Descriptor, ...]:
    if descriptor.media_type not in PARENTS:
        return ()
    try:
        return fetch(source, descriptor).children
    except (InvalidContent, NotFound, UnsupportedArtifact):
        return ()


def _key(descriptor: Descriptor) -> tuple[Digest, int]:
    """A size that differs makes another content: one of both is a lie that must come out."""
    return descriptor.digest, descriptor.size

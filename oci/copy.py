"""Moving artifacts between stores: push, pull, save and load are all this.

A name is resolved once and everything after goes by digest, so a tag that moves meanwhile changes nothing. Content
goes before what names it, and the tag last: whoever looks at the target sees the whole artifact or none.
"""

from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import Final, TypeAlias

from oci.content import Content, Source, Target, close
from oci.descriptor import Descriptor
from oci.errors import InvalidContent, OciError, Unavailable
from oci.graph import fetch, graph
from oci.manifest import Index, Manifest
from oci.media_types import INDEXES
from oci.parallel import each

__all__ = ["Progress", "copy"]

Progress: TypeAlias = Callable[[Descriptor, int, int], None]

_MAX_DEPTH: Final = 8  # indexes in indexes
_PAUSES: Final = (0.0, 0.1, 0.3, 1.0, 2.0)  # seconds before reading on, while hardly anything comes
_GAIN: Final = 256 << 10  # bytes between two breaks that make a source worth unlimited patience


def copy(  # noqa: PLR0913 - the last three are keywords
    source: Source,
    name: str,
    target: Target,
    new_name: str | None,
    *,
    select: Callable[[Index], Descriptor] | None = None,
    progress: Progress | None = None,
    parallel: int = 4,
) -> Descriptor:
    """Copy what a name or the text of a digest leads to; the descriptor of what was copied.

    `select` says which manifest of an index is wanted; without it, all are. `progress` is told a content, how many
    of its bytes are there, and how many it has, by one thread at a time. `new_name` None leaves the copy without a
    name. Raises what the stores raise, and InvalidContent for what is malformed, too deep or too large.
    """
    root = source.resolve(name)
    if select is not None:
        root = _selected(source, root, select)
    found = graph(source, [root])
    with target.writing():
        transfer = _Transfer(source, target, progress)
        blobs = found.blobs.values()
        each(transfer.blob, blobs, min(parallel, len(blobs)), transfer.stop)
        for parent in found.parents.values():
            transfer.parent(parent)
        if new_name is not None:
            target.tag(new_name, root)
    return root


def _selected(source: Source, root: Descriptor, select: Callable[[Index], Descriptor]) -> Descriptor:
    for _ in range(_MAX_DEPTH):
        if root.media_type not in INDEXES:
            return root
        parent = fetch(source, root)
        if not isinstance(parent, Index):
            return root
        root = select(parent)
    raise InvalidContent(f"indexes in indexes, more than {_MAX_DEPTH} deep; the artifact was made to do harm")


class _Stopped(OciError):
    """Another thread has failed."""


class _Transfer:
    """The way of content from one store to the other."""

    def __init__(self, source: Source, target: Target, progress: Progress | None) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._lock = Lock()
        self.stop = Event()

    def blob(self, descriptor: Descriptor) -> None:
        """Bring a blob over, unless it is there or the target can get it by itself."""
        if not self._target.has(descriptor) and not self._target.mount(descriptor, self._source):
            self._target.write(descriptor, Content(lambda offset: self._chunks(descriptor, offset)))
        self._report(descriptor, descriptor.size)

    def parent(self, parent: Manifest | Index) -> None:
        """Write a manifest or an index, whose content is there."""
        if not self._target.has(parent.descriptor):
            self._target.write(parent.descriptor, [parent.raw])
        self._report(parent.descriptor, parent.descriptor.size)

    def _chunks(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """The bytes from an offset on. A source that breaks is read on from where it broke, with growing pauses.

        One that has not sent a byte yet was patient by itself.
        """
        reached = mark = offset
        pauses = iter(_PAUSES)
        while True:
            try:
                for chunk in self._unless_stopped(descriptor, reached):
                    reached += len(chunk)
                    self._report(descriptor, reached)
                    yield chunk
            except Unavailable:
                if reached - mark >= _GAIN:
                    mark, pauses = reached, iter(_PAUSES)
                pause = next(pauses, None)
                if pause is None or reached == offset:
                    raise
                self.stop.wait(pause)
            else:
                return

    def _unless_stopped(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        chunks = self._source.read(descriptor, offset)
        try:
            for chunk in chunks:
                if self.stop.is_set():
                    raise _Stopped("stopped, since another part failed")
                yield chunk
        finally:
            close(chunks)

    def _report(self, descriptor: Descriptor, done: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress(descriptor, done, descriptor.size)

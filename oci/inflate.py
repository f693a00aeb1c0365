"""Layers as they are before compression, with a bound on what a few bytes may become."""

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Final

from oci.content import CHUNK
from oci.errors import InvalidContent, UnsupportedArtifact

__all__ = ["inflated"]

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_FORMAT: Final = 31  # zlib's number for it
_SLICE: Final = 16 << 10  # bytes; what a member leaves over is copied, so it must not be much
_MAX_MEMBERS: Final = 200_000  # some tools write one per file

# Programs and file systems shrink to a third or a tenth; deflate can reach a thousandth.
_FREE: Final = 64 << 20  # bytes
_MAX_RATIO: Final = 100


def inflated(chunks: Iterator[bytes], what: str = "a layer") -> Iterator[bytes]:
    """The bytes of a layer, decompressed when they are gzip; what they are is told by them, not by a media type.

    Messages call it `what`.

    Raises InvalidContent for damaged gzip and for gzip that swells beyond reason, UnsupportedArtifact for zstd,
    which the Pythons that we support cannot read.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_ZSTD):
            break
    if head.startswith(_ZSTD):
        raise UnsupportedArtifact(f"{what} is compressed with zstd, which cannot be read here; compress it with gzip")
    rest = chain([head], chunks)
    yield from _gunzipped(rest, what) if head.startswith(_GZIP) else rest


def _gunzipped(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    taken = given = 0
    member = _Member(what)
    for piece in (chunk[at : at + _SLICE] for chunk in chunks for at in range(0, len(chunk), _SLICE)):
        taken += len(piece)
        for out in member.feed(piece):
            given += len(out)
            if given > _FREE + _MAX_RATIO * taken:
                raise InvalidContent(
                    f"{what} that swells to more than {_MAX_RATIO} times its size; it was made to do harm"
                )
            yield out
    member.finish()


class _Member:
    """The members of a gzip file, one after the other."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._zlib = zlib.decompressobj(_GZIP_FORMAT)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes become, in pieces of at most CHUNK."""
        while True:
            if not self._begun:
                data = data.lstrip(b"\0")  # padding after the last member
            if not data and not self._begun:
                return
            self._begun = True
            try:
                out = self._zlib.decompress(data, CHUNK)
            except zlib.error:
                raise InvalidContent(f"{self._what} that is no proper gzip; get it anew") from None
            if out:
                yield out
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:
                data = self._zlib.unused_data
                self._next()
            elif not data and len(out) < CHUNK:
                return

    def finish(self) -> None:
        """Say that this was all."""
        if self._begun:
            raise InvalidContent(f"{self._what} of gzip that is cut off; get it anew")

    def _next(self) -> None:
        self._count += 1
        if self._count > _MAX_MEMBERS:
            raise InvalidContent(f"{self._what} of more than {_MAX_MEMBERS} gzip members; it was made to do harm")
        self._zlib = zlib.decompressobj(_GZIP_FORMAT)
        self._begun = False

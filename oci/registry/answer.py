"""The bodies of answers: small ones read whole, large ones handed on as they come, none without bounds."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, NamedTuple

from requests import Response

from oci.errors import InvalidContent, Unavailable
from oci.registry.connection import bounded

__all__ = ["Answer", "read_small", "stream"]

_PIECE: Final = 256 << 10  # bytes
_PROGRESS: Final = 32 << 10  # bytes in the time of Patience.stall


class Answer(NamedTuple):
    """A whole answer; header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def read_small(response: Response, limit: int, seconds: float, *, cut: bool = False) -> Answer:
    """Read an answer whole. Raises InvalidContent for more bytes than the limit, unless it may be cut there."""
    body = bytearray()
    try:
        if not cut and _length(response) > limit:
            raise InvalidContent(f"the answer of {response.url} is longer than {limit} bytes; more is not read")
        with bounded(seconds, lambda: _shut(response)):
            while len(body) <= limit and (piece := response.raw.read1(_PIECE, decode_content=False)):
                body += piece
    finally:
        response.close()
    if len(body) > limit and not cut:
        raise InvalidContent(f"the answer of {response.url} is longer than {limit} bytes; more is not read")
    return Answer(response.status_code, response.headers, bytes(body[:limit]), response.url)


def stream(response: Response, limit: int, stall: float, host: str) -> Iterator[bytes]:
    """The body in pieces, at most one byte more than the limit. Raises Unavailable when it comes too slowly.

    Only the time in which we wait is counted, not that which the pieces' user takes.
    """
    spent, moved, left = 0.0, 0, limit + 1
    while left > 0:
        begin = time.monotonic()
        with _chunk_guard(response, stall):
            piece = response.raw.read1(min(_PIECE, left), decode_content=False)
        if not piece:
            return
        spent += time.monotonic() - begin
        moved += len(piece)
        left -= len(piece)
        if spent > stall:
            if moved < _PROGRESS:
                raise Unavailable(f"{host} sends next to nothing any more; try again later")
            spent, moved = 0.0, 0
        yield piece


def _length(response: Response) -> int:
    """What the answer says of its length; 0 where it says nothing."""
    value = response.headers.get("Content-Length", "")
    return int(value[:19]) if value.isascii() and value.isdigit() else 0


def _chunk_guard(response: Response, seconds: float) -> AbstractContextManager[None]:
    """A chunked body has lines between its chunks, and one of them may never end."""
    return bounded(seconds, lambda: _shut(response)) if response.raw.chunked else nullcontext()


def _shut(response: Response) -> None:
    raw: Any = response.raw
    with suppress(OSError, RuntimeError, ValueError):  # it ended just now
        raw.shutdown()

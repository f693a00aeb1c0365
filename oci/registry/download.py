"""One blob on its way from a registry: from any offset on, never more than its descriptor says."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from requests import Response

from oci.descriptor import Descriptor
from oci.errors import InvalidContent, OciError
from oci.registry.answer import read_small, stream
from oci.registry.client import Call, Client
from oci.registry.failures import FAILURES, broken, failure, refusal

__all__ = ["download"]

_RANGE: Final = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:(\d{1,19})|\*)", re.ASCII)
_MAX_ERROR: Final = 64 << 10  # bytes


def download(client: Client, call: Call, descriptor: Descriptor, offset: int, stall: float) -> Iterator[bytes]:
    """The bytes of a blob from an offset on.

    Raises Unavailable where the connection breaks, InvalidContent where there are more or fewer bytes than there
    should be (the digest is for others to check), and what a registry's refusal is.
    """
    if offset:
        call = replace(call, headers={**call.headers, "Range": f"bytes={offset}-"})
    response = client.open(call)
    try:
        if response.status_code not in (200, 206):
            answer = read_small(response, _MAX_ERROR, stall, cut=True)
            raise refusal(answer, f"{descriptor.digest} at {client.registry}", client.registry)
        begin = _begin(response, descriptor, offset)
        skipped = offset - begin
        for piece in _whole(response, descriptor, begin, stall, client.registry):
            if skipped < len(piece):
                yield piece[skipped:] if skipped else piece
            skipped = max(0, skipped - len(piece))
    finally:
        response.close()


def _begin(response: Response, descriptor: Descriptor, offset: int) -> int:
    """The offset at which the answer begins, which is 0 where a registry knows no ranges."""
    if response.status_code == 200:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not found or int(found[1]) > offset or int(found[2] or descriptor.size) != descriptor.size:
        raise InvalidContent(f"the registry answers with other bytes of {descriptor.digest} than it was asked for")
    return int(found[1])


def _whole(response: Response, descriptor: Descriptor, begin: int, stall: float, host: str) -> Iterator[bytes]:
    """The answer's bytes, which are those of the blob to its end."""
    expected = descriptor.size - begin
    said = response.headers.get("Content-Length")
    if said is not None and said != str(expected):
        raise _wrong_length(descriptor, "the registry has {} bytes of it", begin + int(said) if said.isdigit() else "?")
    received = 0
    try:
        for piece in stream(response, expected, stall, host):
            received += len(piece)
            if received > expected:
                raise _wrong_length(descriptor, "the registry sends more than {} bytes", descriptor.size)
            yield piece
    except FAILURES as error:
        raise failure(error, host) from None
    if received < expected:
        if not response.raw.chunked:
            raise broken(host)  # the end of the connection is all that says where such a body ends
        raise _wrong_length(descriptor, "the registry sends only {} bytes", begin + received)


def _wrong_length(descriptor: Descriptor, what: str, count: object) -> OciError:
    return InvalidContent(f"{descriptor.digest} should have {descriptor.size} bytes, but {what.format(count)}")

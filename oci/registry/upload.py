"""One blob on its way to a registry: opened with POST, sent with one PUT, checked while it passes.

Source: distribution-spec, "Pushing a blob monolithically", POST then PUT. The last piece is held back until all
before it, and it, have the right digest: what is wrong is never whole at the registry.
"""

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlencode, urlsplit

from oci.content import close
from oci.descriptor import Descriptor
from oci.digest import Digest, Verifier
from oci.errors import OciError
from oci.registry.address import follow
from oci.registry.answer import Answer
from oci.registry.client import Body, Call, Client
from oci.registry.failures import Broken, refusal
from oci.registry.received import check_digest
from oci.registry.retry import RETRIED, retry_after

__all__ = ["Upload"]

_PIECE: Final = 64 << 10  # bytes; each must be taken within Patience.connect
_TRIES: Final = 3
_ANSWER: Final = 60.0  # seconds, and more for large blobs:
_SLOWEST: Final = 8 << 20  # bytes a second at which a registry may check and store what it got
_AGAIN: Final = RETRIED | {404}  # a registry that was restarted has forgotten the upload


class Upload:
    """Sends blobs into one repository; `path` is that of its API, `what` what messages call it."""

    def __init__(self, client: Client, path: str, what: str, *, plain_http: bool) -> None:
        self._client = client
        self._path = path
        self._what = what
        self._plain_http = plain_http
        self._opened: dict[Digest, str] = {}

    def send(self, descriptor: Descriptor, chunks: Iterable[bytes], scopes: frozenset[str]) -> None:
        """Send a blob. Raises InvalidContent when it is not what the descriptor says.

        Where the connection breaks it is sent again, if the chunks can be had again.
        """
        attempts = self._client.attempts(1 if isinstance(chunks, Iterator) else _TRIES)
        while True:
            location = self._opened.pop(descriptor.digest, "") or self._start("", scopes)
            if not location:
                return
            body = _Passing(descriptor, chunks)
            try:
                answer = self._put(location, descriptor, body, scopes)
                if answer.status in (200, 201, 204):
                    check_digest(answer, descriptor.digest)
                    return
                error = refusal(answer, f"{descriptor.digest} in {self._what}", self._client.registry)
                again, asked = answer.status in _AGAIN, retry_after(answer.headers.get("Retry-After"))
            except OciError as failed:
                error, again, asked = failed, isinstance(failed, Broken) and not body.failed, None
            attempts.restart()
            if not (again and attempts.wait(asked)):
                raise error

    def mount(self, descriptor: Descriptor, origin: str, scopes: frozenset[str]) -> bool:
        """Let the registry take a blob from another repository; False if it wants the bytes.

        Then it has opened an upload, which `send` uses. Source: distribution-spec, "Mounting a blob from another
        repository".
        """
        query = urlencode({"mount": str(descriptor.digest), "from": origin})
        location = self._start(f"?{query}", scopes)
        if location:
            self._opened[descriptor.digest] = location
        return not location

    def _start(self, query: str, scopes: frozenset[str]) -> str:
        """Open an upload; where its bytes go, "" when the registry has the blob already."""
        url = f"{self._client.base}{self._path}/blobs/uploads/{query}"
        answer = self._client.ask(Call("POST", url, scopes, data=b""))
        if answer.status == 201:
            return ""
        location = answer.headers.get("Location")
        if answer.status != 202 or not location:
            raise refusal(answer, f"an upload to {self._what}", self._client.registry)
        return follow(answer.url, location, plain_http=self._plain_http)

    def _put(self, location: str, descriptor: Descriptor, body: "_Passing", scopes: frozenset[str]) -> Answer:
        separator = "&" if urlsplit(location).query else "?"
        url = f"{location}{separator}{urlencode({'digest': str(descriptor.digest)})}"
        patience = _ANSWER + descriptor.size / _SLOWEST
        headers = {"Content-Type": "application/octet-stream"}
        data = body if descriptor.size else b"".join(body)  # requests takes the length 0 for an unknown one
        return self._client.ask(Call("PUT", url, scopes, headers, data, patience=patience))


class _Passing(Body):
    """The bytes of a blob, in pieces that are sent at once."""

    def __init__(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        self._descriptor = descriptor
        self._chunks = chunks
        self.failed = False  # whether the chunks did, and not the registry

    def __len__(self) -> int:
        return self._descriptor.size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        verifier = Verifier(self._descriptor.digest, self._descriptor.size)
        held = b""
        try:
            for chunk in self._read():
                verifier.update(chunk)
                yield from _pieces(held)
                held = chunk
            verifier.finish()
        finally:
            close(self._chunks)
        yield from _pieces(held)

    def _read(self) -> Iterator[bytes]:
        """The chunks, with a note where they fail."""
        try:
            yield from self._chunks
        except OciError:
            self.failed = True
            raise


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for at in range(0, len(view), _PIECE):
        yield view[at : at + _PIECE]

"""A repository of a registry as a store: the distribution-spec's requests, nothing believed that is not checked."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Self

from oci import media_types
from oci.content import CHUNK, Source, verified
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import Denied, InvalidContent, InvalidReference, NotFound, OciError, Unauthorized, shown
from oci.manifest import MAX_MANIFEST, parse_manifest
from oci.reference import Reference
from oci.registry import credentials
from oci.registry.answer import Answer
from oci.registry.client import Call, Client
from oci.registry.credential import Credential
from oci.registry.download import download
from oci.registry.failures import refusal
from oci.registry.listing import tags
from oci.registry.options import DEFAULT, Options
from oci.registry.received import check_digest, described
from oci.registry.upload import Upload

__all__ = ["Registry"]

_TAG: Final = re.compile("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_TRIES: Final = 4  # of a manifest whose content the registry does not see: within about 2 seconds
_ACCEPT: Final = ", ".join(
    (
        media_types.OCI_INDEX,
        media_types.OCI_MANIFEST,
        media_types.DOCKER_INDEX,
        media_types.DOCKER_MANIFEST,
        "*/*;q=0.1",
    )
)


class Registry:
    """The repository that a reference names; its tag and digest do not matter here.

    `find` is asked for credentials when the registry wants some. Close it, or use it in `with`. Besides what a target
    may raise, every method may raise Unauthorized and Denied.
    """

    def __init__(
        self,
        reference: Reference,
        find: Callable[[Reference], Credential | None] = credentials.find,
        options: Options = DEFAULT,
    ) -> None:
        self.registry = reference.registry
        self.repository = reference.repository
        self.client = Client(reference.registry, reference.api_host, lambda: find(reference), options)
        self._name = f"{reference.registry}/{reference.repository}"
        self._path = f"/v2/{reference.repository}"
        self._pull = _scopes(reference.repository, "pull")
        self._push = _scopes(reference.repository, "pull,push")
        self._stall = options.patience.stall
        self._upload = Upload(self.client, self._path, self._name, plain_http=options.plain_http)
        self._missing: set[Digest] = set()  # what `has` found missing, so that `write` need not look again
        self._recent: tuple[Digest, bytes] | None = None  # the manifest that passed last: it is often wanted again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        self.client.close()

    def resolve(self, name: str) -> Descriptor:
        """What a tag or the text of a digest leads to now: the digest of the bytes that came. Raises NotFound."""
        digest = None if _TAG.fullmatch(name) else _digest(name)
        answer = self._get_manifest(name, self._pull, MAX_MANIFEST)
        descriptor = described(answer, digest, self._called(name))
        self._recent = descriptor.digest, answer.body
        return descriptor

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on. Raises NotFound; Unavailable where a connection breaks that may be had anew."""
        if offset and offset >= descriptor.size:
            return
        if descriptor.media_type in media_types.PARENTS:
            raw = self._manifest(descriptor, self._pull)
            yield from (raw[at : at + CHUNK] for at in range(offset, len(raw), CHUNK))
            return
        call = Call("GET", self._url("blobs", descriptor.digest), self._pull)
        yield from download(self.client, call, descriptor, offset, self._stall)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether this content is here, asked for as one who is going to push."""
        kind = "manifests" if descriptor.media_type in media_types.PARENTS else "blobs"
        answer = self.client.ask(Call("HEAD", self._url(kind, descriptor.digest), self._push, {"Accept": _ACCEPT}))
        if answer.status not in (200, 404):
            raise refusal(answer, f"{descriptor.digest} in {self._name}", self.registry)
        here = answer.status == 200 and answer.headers.get("Content-Length", "0") in ("0", str(descriptor.size))
        if not here:
            self._missing.add(descriptor.digest)
        return here

    def write(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Take content in, unless it is here. Raises InvalidContent; NotFound when a manifest's content is not here.

        Where a connection breaks, only chunks that can be iterated again are sent again.
        """
        if descriptor.digest not in self._missing and self.has(descriptor):
            return
        if descriptor.media_type in media_types.PARENTS:
            raw = _manifest_bytes(descriptor, chunks)
            self._put_manifest(str(descriptor.digest), descriptor, raw)
        else:
            self._upload.send(descriptor, chunks, self._push)
        self._missing.discard(descriptor.digest)

    def writing(self) -> AbstractContextManager[None]:
        """Nothing to hold: registries have their own rules of what they collect."""
        return nullcontext()

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let a tag lead to a manifest or an index that is here. Raises NotFound, InvalidReference."""
        if name != str(descriptor.digest) and not _TAG.fullmatch(name):
            raise InvalidReference(f"{shown(name)} is no tag; write up to 128 letters, digits, '_', '.' and '-'")
        self._put_manifest(name, descriptor, self._manifest(descriptor, self._push))

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """Let the registry take a blob over from another repository of its own; False where it does not."""
        if not isinstance(source, Registry) or source.registry != self.registry or source.repository == self.repository:
            return False
        if descriptor.media_type in media_types.PARENTS:
            return False
        try:
            return self._upload.mount(descriptor, source.repository, self._push | _scopes(source.repository, "pull"))
        except (Denied, NotFound, Unauthorized):
            return False

    def tags(self) -> list[str]:
        """All tags of the repository, sorted. Raises NotFound where there is no such repository."""
        return tags(self.client, self._path, self._pull, self._name)

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest or an index, and with it every tag that leads to it. Raises NotFound."""
        call = Call("DELETE", self._url("manifests", descriptor.digest), _scopes(self.repository, "delete"))
        answer = self.client.ask(call)
        if answer.status not in (200, 202, 204):
            raise refusal(answer, self._called(str(descriptor.digest)), self.registry)
        self._recent = None

    def _manifest(self, descriptor: Descriptor, scopes: frozenset[str]) -> bytes:
        recent = self._recent
        if recent is not None and recent[0] == descriptor.digest:
            return recent[1]
        name = str(descriptor.digest)
        answer = self._get_manifest(name, scopes, min(descriptor.size, MAX_MANIFEST))
        described(answer, descriptor.digest, self._called(name))
        return answer.body

    def _get_manifest(self, name: str, scopes: frozenset[str], limit: int) -> Answer:
        answer = self.client.ask(Call("GET", self._url("manifests", name), scopes, {"Accept": _ACCEPT}), limit)
        if answer.status != 200:
            raise refusal(answer, self._called(name), self.registry)
        return answer

    def _put_manifest(self, name: str, descriptor: Descriptor, raw: bytes) -> None:
        """Put a manifest, and again for a moment where a registry misses what it names.

        docker-registry 2.8 rewrites its links in place, so it does not see a blob while another pushes the same one.
        """
        call = Call("PUT", self._url("manifests", name), self._push, {"Content-Type": descriptor.media_type}, raw)
        attempts = self.client.attempts(_TRIES)
        while (answer := self.client.ask(call)).status not in (200, 201, 202, 204):
            misses = answer.status in (400, 404) and b"_UNKNOWN" in answer.body
            if not (misses and attempts.wait()):
                raise self._rejected(answer, name, misses=misses)
        check_digest(answer, descriptor.digest)
        self._recent = descriptor.digest, raw

    def _rejected(self, answer: Answer, name: str, *, misses: bool) -> OciError:
        error = refusal(answer, self._called(name), self.registry)
        return NotFound(f"{error}; write what it names before") if misses else error

    def _url(self, kind: str, name: str | Digest) -> str:
        return f"{self.client.base}{self._path}/{kind}/{name}"

    def _called(self, name: str) -> str:
        return f"{self._name}{'@' if ':' in name else ':'}{name}"


def _scopes(repository: str, actions: str) -> frozenset[str]:
    """What a token must be for; see the token specification's "Resource Scope Grammar"."""
    return frozenset({f"repository:{repository}:{actions}"})


def _manifest_bytes(descriptor: Descriptor, chunks: Iterable[bytes]) -> bytes:
    """The bytes of a manifest that is as described and well-formed; that all is there which it names, others see."""
    if descriptor.size > MAX_MANIFEST:
        raise InvalidContent(f"a manifest of {descriptor.size} bytes; more than {MAX_MANIFEST} are not read")
    raw = b"".join(verified(chunks, descriptor))
    parse_manifest(raw, descriptor.media_type)
    return raw


def _digest(name: str) -> Digest:
    try:
        return Digest.parse(name)
    except InvalidReference:
        raise NotFound(f"{shown(name)} is no tag and no digest, so nothing has this name") from None

"""References: names of artifacts as people write them, by Docker's rules.

Source: the grammar of distribution/reference, and its rules for what is left out: no registry is docker.io, one bare
word there is in library/, no tag is latest.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from oci.digest import Digest
from oci.errors import InvalidReference, shown

__all__ = ["Reference"]

_HUB: Final = "docker.io"
_HUB_HOSTS: Final = frozenset({_HUB, "index.docker.io", "registry-1.docker.io"})
_OFFICIAL: Final = "library/"
_LATEST: Final = "latest"
_LABEL: Final = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_PART: Final = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_IMAGE_ID: Final = re.compile("[0-9a-f]{64}")
_MAX_REPOSITORY: Final = 255  # characters
_MAX_PORT: Final = 65535
_MAX_TEXT: Final = 1024  # characters; more than any reference has


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry, a repository there, and a tag, a digest or both. Raises InvalidReference for what can be none."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _check_registry(self.registry)
        _check_repository(self.repository)
        if self.tag is None and self.digest is None:
            raise InvalidReference(f"{self.registry}/{self.repository} names no tag and no digest; add one of both")
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise InvalidReference(
                f"{shown(self.tag)} is no tag; a tag has up to 128 letters, digits, '_', '.' and '-', "
                f"and begins with none of the last two"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference that a person wrote. Raises InvalidReference."""
        _check_text(text)
        rest, at, digits = text.partition("@")
        digest = Digest.parse(digits) if at else None
        head, colon, tail = rest.rpartition(":")
        name, tag = (head, tail) if colon and "/" not in tail else (rest, None)
        registry, repository = _split(name)
        if tag is None and digest is None:
            tag = _LATEST
        return cls(registry, repository, tag, digest)

    @property
    def api_host(self) -> str:
        """Where the registry answers: host and port."""
        return "registry-1.docker.io" if self.registry == _HUB else self.registry

    @property
    def name(self) -> str:
        """What a repository is asked for: the digest if there is one, else the tag."""
        return str(self.digest or self.tag)

    def familiar(self) -> str:
        """As Docker prints it, without what everybody leaves out."""
        if self.registry != _HUB:
            return str(self)
        short = self.repository.removeprefix(_OFFICIAL)
        for name in (short, self.repository):
            if _split(name) == (_HUB, self.repository):
                return f"{name}{self._suffix()}"
        return str(self)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{self._suffix()}"


def _split(name: str) -> tuple[str, str]:
    """Registry and repository: the first part is a registry if it could not be a part of Docker Hub's names."""
    first, slash, rest = name.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        first, rest = _HUB, name
    if first in _HUB_HOSTS:
        first = _HUB
        rest = rest if "/" in rest else f"{_OFFICIAL}{rest}"
    return first, rest


def _check_text(text: str) -> None:
    """Refuse with a reason of its own what people write by mistake."""
    if not text:
        raise InvalidReference("an empty reference; write one such as ghcr.io/owner/name:tag")
    if len(text) > _MAX_TEXT:
        raise InvalidReference(f"{shown(text)} is too long for a reference")
    scheme, separator, rest = text.partition("://")
    if separator:
        raise InvalidReference(f"{shown(text)} is a URL; leave out {scheme}:// and write {shown(rest)}")
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReference(f"{shown(text)} is an id and no name; write NAME@sha256:{text[:8]}…")


def _check_registry(registry: str) -> None:
    match = _REGISTRY.fullmatch(registry)
    if not match or int(match["port"] or 0) > _MAX_PORT:
        raise InvalidReference(f"{shown(registry)} is no registry; write its host name and, if need be, :PORT")


def _check_repository(repository: str) -> None:
    if _REPOSITORY.fullmatch(repository) and len(repository) <= _MAX_REPOSITORY:
        return
    if len(repository) > _MAX_REPOSITORY:
        raise InvalidReference(f"the repository {shown(repository)} has more than {_MAX_REPOSITORY} characters")
    if _REPOSITORY.fullmatch(repository.lower()):
        raise InvalidReference(f"the repository {shown(repository)} has capitals; write {shown(repository.lower())}")
    raise InvalidReference(
        f"{shown(repository)} is no repository; its parts, between slashes, are lower-case letters and digits "
        f"with '.', '_', '__' or '-' between them"
    )

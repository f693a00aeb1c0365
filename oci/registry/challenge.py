"""What a registry wants to be asked with: the header WWW-Authenticate, read.

Sources: RFC 9110 §11.6.1 (several challenges may stand in one header, values are tokens or quoted strings);
distribution-spec's token authentication (realm, service, scope).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Challenge", "choose", "merged", "parse"]

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART: Final = re.compile(
    rf'\s*(?:(?P<name>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_WORD}))|(?P<scheme>{_WORD}))\s*,?'
)
_MAX_HEADER: Final = 8 << 10  # characters; longer ones are cut


@dataclass(frozen=True, slots=True)
class Challenge:
    """A scheme in lower case ("basic", "bearer") and its parameters."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def realm(self) -> str:
        """Where tokens are had."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """What the place of tokens calls the registry."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> frozenset[str]:
        """What the request needs, as the registry sees it."""
        return frozenset(self.parameters.get("scope", "").split())


def parse(header: str) -> list[Challenge]:
    """The challenges of one header, in order; what cannot be read ends the list."""
    return [Challenge(scheme, parameters) for scheme, parameters in _read(header[:_MAX_HEADER])]


def choose(challenges: list[Challenge]) -> Challenge | None:
    """The one to answer: Bearer, whose tokens end and are for one purpose, rather than Basic."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None


def merged(scopes: Iterable[str]) -> list[str]:
    """The same scopes with all actions on one resource in one, sorted: repository:a/b:pull,push."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, names = scope.rpartition(":")
        if resource:
            actions.setdefault(resource, set()).update(names.split(","))
    return sorted(f"{resource}:{','.join(sorted(names))}" for resource, names in actions.items())


def _read(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    scheme: str | None = None
    parameters: dict[str, str] = {}
    at = 0
    while match := _PART.match(header, at):
        at = match.end()
        if match["scheme"]:
            if scheme is not None:
                yield scheme, parameters
            scheme, parameters = match["scheme"].lower(), {}
        else:
            value = match["plain"] or re.sub(r"\\(.)", r"\1", match["quoted"] or "")
            parameters.setdefault(match["name"].lower(), value)
    if scheme is not None:
        yield scheme, parameters

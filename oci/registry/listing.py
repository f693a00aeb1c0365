"""The tags of a repository, page by page (distribution-spec, "Listing Tags")."""

import re
from typing import Final

from oci.errors import InvalidContent
from oci.registry.address import Origin, follow
from oci.registry.answer import Answer
from oci.registry.client import Call, Client
from oci.registry.failures import refusal
from oci.strict_json import parse_object

__all__ = ["tags"]

_PAGE: Final = 1000  # tags asked for at once
_MAX_PAGE: Final = 4 << 20  # bytes
_MAX_TAGS: Final = 100_000
_NEXT: Final = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next\b', re.IGNORECASE)


def tags(client: Client, path: str, scopes: frozenset[str], what: str) -> list[str]:
    """All tags, sorted. Raises NotFound, and InvalidContent for a list that has no end or is none."""
    url = f"{client.base}{path}/tags/list?n={_PAGE}"
    found: set[str] = set()
    while url:
        before = len(found)
        answer = client.ask(Call("GET", url, scopes), _MAX_PAGE)
        if answer.status != 200:
            raise refusal(answer, what, client.registry)
        found.update(_names(answer, what))
        url = _next(answer)
        if url and (len(found) == before or len(found) > _MAX_TAGS):
            raise InvalidContent(f"the list of tags of {what} has no end; the registry is broken or hostile")
    return sorted(found)


def _names(answer: Answer, what: str) -> list[str]:
    names = parse_object(answer.body, f"the list of tags of {what}").get("tags")
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
        raise InvalidContent(f"the list of tags of {what} is none; the registry is broken or hostile")
    return names


def _next(answer: Answer) -> str:
    found = _NEXT.search(answer.headers.get("Link", "")[: 8 << 10])
    if not found:
        return ""
    url = follow(answer.url, found[1], plain_http=True)  # only the same origin is taken, whose scheme is decided
    if Origin.of(url) != Origin.of(answer.url):
        raise InvalidContent("the list of tags goes on at another host; the registry is broken or hostile")
    return url

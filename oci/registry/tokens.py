"""Tokens: had from where the registry says, kept until they end, apart for each purpose.

Sources: distribution-spec's token authentication (GET with Basic), and its OAuth 2 form (POST with a refresh token,
which Docker calls an identity token).
"""

import re
import time
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from oci.errors import Denied, InvalidContent, OciError, Unauthorized, Unavailable, shown
from oci.registry.address import Origin, follow
from oci.registry.answer import Answer
from oci.registry.challenge import Challenge, merged
from oci.registry.credential import Credential
from oci.strict_json import Json, parse_object

__all__ = ["Fetch", "Tokens"]

_CLIENT: Final = "oras-py"
_DEFAULT_LIFE: Final = 60  # seconds, where the answer does not say
_SLACK: Final = 10  # seconds before its end from which a token is not used any more
_TOKEN: Final = re.compile("[!-~]{1,65536}")  # more than RFC 6750 §2.1 has, and nothing that ends a header


class Fetch(Protocol):
    """One request to the place of tokens: a GET with a name and a password if given, or the POST of a form."""

    def __call__(self, url: str, *, basic_for: Credential | None, form: str | None) -> Answer:
        """Raises Unavailable."""


class Tokens:
    """The tokens of one registry. Not for several threads at once."""

    def __init__(self, registry: str, fetch: Fetch, *, plain_http: bool) -> None:
        self._registry = registry
        self._fetch = fetch
        self._plain_http = plain_http
        self._kept: dict[tuple[str, str, frozenset[str]], tuple[str, float]] = {}
        self._identity = ""  # the newest refresh token

    def get(self, base: str, challenge: Challenge, scopes: frozenset[str], credential: Credential | None) -> str:
        """A token for these scopes, where the registry at `base` says. Raises what asking for one can raise."""
        key = (challenge.realm, challenge.service, scopes)
        token, end = self._kept.get(key, ("", 0.0))
        if time.monotonic() >= end:
            realm = self._realm(base, challenge)
            answer = self._ask(realm, challenge.service, scopes, credential)
            token, life = self._read(answer, realm, credential)
            self._kept[key] = (token, time.monotonic() + max(life - _SLACK, life / 2))
        return token

    def forget(self, token: str) -> None:
        """Never use this one again."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] != token}

    def _realm(self, base: str, challenge: Challenge) -> str:
        """The checked address. Plain HTTP to another machine is for registries that are spoken to so themselves."""
        if not challenge.realm:
            raise Unauthorized(f"{self._registry} wants a token but does not say from where; it is broken")
        Origin.of(challenge.realm)  # a whole address, not a part of the registry's
        realm = follow(base, challenge.realm, plain_http=self._plain_http)
        here, there = Origin.of(base), Origin.of(realm)
        if there.scheme == "http" and not there.is_loopback and there.host != here.host:
            raise Denied(f"{here.host} wants us to log in by plain HTTP at {there.host}; no password is sent there")
        return urlunsplit(urlsplit(realm)._replace(fragment=""))

    def _ask(self, realm: str, service: str, scopes: frozenset[str], credential: Credential | None) -> Answer:
        fields = [("service", service)] if service else []
        if credential and credential.identity_token:
            fields += [
                ("client_id", _CLIENT),
                ("grant_type", "refresh_token"),
                ("scope", " ".join(merged(scopes))),
            ]
            fields.append(("refresh_token", self._identity or credential.identity_token))
            return self._fetch(realm, basic_for=None, form=urlencode(fields))
        fields += [("scope", scope) for scope in merged(scopes)]
        if credential:
            fields.append(("account", credential.username))
        separator = "&" if urlsplit(realm).query else "?"
        return self._fetch(f"{realm}{separator}{urlencode(fields)}", basic_for=credential, form=None)

    def _read(self, answer: Answer, realm: str, credential: Credential | None) -> tuple[str, float]:
        """The token and how many seconds it lives."""
        host = Origin.of(realm).host
        if answer.status != 200:
            raise _refusal(answer.status, self._registry, host, credential)
        try:
            value = parse_object(answer.body, "its answer")
        except InvalidContent:
            raise InvalidContent(f"{host} answers no token but something else; {self._registry} is broken") from None
        token = value.get("token") or value.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise InvalidContent(f"{host} answers {shown(token)} instead of a token; {self._registry} is broken")
        if isinstance(value.get("refresh_token"), str) and credential and credential.identity_token:
            self._identity = value["refresh_token"]
        return token, _life(value)


def _life(value: Json) -> float:
    seconds = value.get("expires_in")
    return float(seconds) if type(seconds) is int and 0 < seconds < 1 << 31 else float(_DEFAULT_LIFE)


def _refusal(status: int, registry: str, host: str, credential: Credential | None) -> OciError:
    match status:
        case 401 if credential is None:
            return Unauthorized(f"{registry} wants credentials; log in first")
        case 400 | 401:
            who = shown(credential.username) if credential and credential.username else "the stored credentials"
            return Unauthorized(f"{registry} does not accept {who}: wrong name, password or token; log in again")
        case 403:
            return Denied(f"{registry} gives no token for this; ask its owner for access")
        case _:
            return Unavailable(f"{host}, where {registry} has its tokens, answers {status}; try again later")

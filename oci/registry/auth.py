"""The answer to 401: which authorization a request gets."""

import base64
import threading
from collections.abc import Callable

import oras.auth.base

from oci.errors import OciError, Unauthorized, shown
from oci.registry.challenge import Challenge, choose, parse
from oci.registry.credential import Credential
from oci.registry.tokens import Fetch, Tokens

__all__ = ["Auth", "basic"]


class Auth(oras.auth.base.AuthBackend):  # type: ignore[misc] # oras has no types
    """The authorization of all requests to one registry, for any thread.

    A backend of oras-py's, so that its client works with it, but none of its code: that keeps one token for all
    registries and purposes, for ever, cannot answer Basic and Bearer alike, and asks any address without a time-out.
    """

    def __init__(self, registry: str, find: Callable[[], Credential | None], fetch: Fetch, *, plain_http: bool) -> None:
        super().__init__()
        self._registry = registry
        self._find = find
        self._tokens = Tokens(registry, fetch, plain_http=plain_http)
        self._lock = threading.Lock()
        self._challenges: dict[frozenset[str], Challenge] = {}
        self._newest: Challenge | None = None
        self._credential: Credential | None = None
        self._looked = False
        self._why_none = ""

    def load_configs(self, *_: object) -> None:
        """Do nothing, where oras-py would read Docker's file: what is needed is found when a registry wants it."""

    def header(self, base: str, scopes: frozenset[str]) -> str:
        """What to send at once, as far as the registry has said what it wants. Raises what `answer` raises."""
        with self._lock:
            challenge = self._challenges.get(scopes, self._newest)
            if challenge is None:
                return ""
            named = challenge.scopes if scopes in self._challenges else frozenset()
            return self._authorization(base, challenge, scopes | named)

    def answer(self, base: str, scopes: frozenset[str], header: str, refused: str) -> str:
        """What to send after a 401 with this header, which refused that authorization.

        Raises Unauthorized where there is nothing else to send, and what asking for a token can raise.
        """
        with self._lock:
            challenge = choose(parse(header))
            if challenge is None:
                raise Unauthorized(f"{self._registry} wants {shown(header)}, which is not known; is it a registry?")
            self._challenges[scopes] = self._newest = challenge
            if refused:
                self._tokens.forget(refused.partition(" ")[2])
            authorization = self._authorization(base, challenge, scopes | challenge.scopes)
            if authorization == refused:
                raise self.refusal()
            return authorization

    def refusal(self) -> OciError:
        """The error for a request that stays unauthorized."""
        if self._credential is None:
            why = f" ({self._why_none})" if self._why_none else ""
            return Unauthorized(f"{self._registry} wants credentials{why}; log in first")
        who = shown(self._credential.username) if self._credential.username else "the stored credentials"
        return Unauthorized(f"{self._registry} does not accept {who}; log in again")

    def _authorization(self, base: str, challenge: Challenge, scopes: frozenset[str]) -> str:
        credential = self._known()
        if challenge.scheme == "bearer":
            token = self._tokens.get(base, challenge, scopes, credential)
            return f"Bearer {token}"
        if credential is None or not credential.password:
            raise self.refusal()
        return basic(credential)

    def _known(self) -> Credential | None:
        """The credential, looked for once and not before it is needed: a program may have to be asked.

        If it cannot be had, what anybody may do still works, and the reason is told with the refusal of what not.
        """
        if not self._looked:
            self._looked = True
            try:
                self._credential = self._find()
            except OciError as error:
                self._why_none = str(error)
        return self._credential


def basic(credential: Credential) -> str:
    """The value of Authorization for a name and a password (RFC 7617)."""
    pair = f"{credential.username}:{credential.password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(pair).decode()}"

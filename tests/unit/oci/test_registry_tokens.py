"""Tokens are kept for their time and purpose, and asked for only where a secret may go."""

import json
from urllib.parse import parse_qs

import pytest

from oci.errors import Denied, Unauthorized
from oci.registry.answer import Answer
from oci.registry.challenge import Challenge
from oci.registry.credential import Credential
from oci.registry.tokens import Tokens

PULL = frozenset({"repository:a:pull"})
PUSH = frozenset({"repository:a:pull,push"})
SOMEONE = Credential("someone", "secret")


class Place:
    """Answers with a new token each time, and notes what it was asked."""

    def __init__(self, status: int = 200, **fields: object) -> None:
        self.asked: list[tuple[str, Credential | None, str | None]] = []
        self._status = status
        self._fields = fields

    def __call__(self, url: str, *, basic_for: Credential | None, form: str | None) -> Answer:
        self.asked.append((url, basic_for, form))
        value = {"token": f"token-{len(self.asked)}", **self._fields}
        return Answer(self._status, {}, json.dumps(value).encode(), url)


def challenge(realm: str = "https://tokens.example/t") -> Challenge:
    """Of a registry whose tokens are had there."""
    return Challenge("bearer", {"realm": realm, "service": "s"})


def get(
    tokens: Tokens,
    base: str = "https://a.example",
    realm: str = "https://tokens.example/t",
    scopes: frozenset[str] = PULL,
) -> str:
    """A token for somebody."""
    return tokens.get(base, challenge(realm), scopes, SOMEONE)


def test_a_token_is_kept_for_its_purpose_and_place() -> None:
    place = Place()
    tokens = Tokens("r", place, plain_http=False)
    assert [get(tokens), get(tokens)] == ["token-1", "token-1"]
    assert get(tokens, scopes=PUSH) == "token-2"
    assert get(tokens, realm="https://other.example/t") == "token-3"
    assert get(tokens) == "token-1"


@pytest.mark.parametrize("life", [0, -1, "60", 1 << 40, None, True, 1.5])
def test_a_life_that_is_none_is_a_minute(life: object) -> None:
    tokens = Tokens("r", Place(expires_in=life), plain_http=False)
    assert get(tokens) == get(tokens)


def test_a_token_that_was_refused_is_not_used_again() -> None:
    tokens = Tokens("r", Place(), plain_http=False)
    tokens.forget(get(tokens))
    assert get(tokens) == "token-2"


@pytest.mark.parametrize(
    ("base", "realm", "plain_http"),
    [
        ("https://a.example", "https://b.example/t", False),
        ("http://localhost:5000", "http://127.0.0.1:6000/t", False),
        ("http://localhost:5000", "https://b.example/t", False),
        ("http://a.example", "http://a.example:6000/t", True),
        ("http://a.example", "https://b.example/t", True),
    ],
)
def test_where_secrets_go(base: str, realm: str, plain_http: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert get(Tokens("r", Place(), plain_http=plain_http), base, realm) == "token-1"


@pytest.mark.parametrize(
    ("base", "realm", "plain_http"),
    [
        ("https://a.example", "http://a.example/t", True),
        ("https://a.example", "http://localhost/t", True),
        ("http://a.example", "http://b.example/t", True),
        ("http://a.example", "http://localhost/t", True),
        ("http://localhost:5000", "http://b.example/t", True),
        ("http://localhost:5000", "http://b.example/t", False),
        ("https://a.example", "/t", False),
        ("https://a.example", "//b.example/t", False),
    ],
)
def test_where_they_do_not(base: str, realm: str, plain_http: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    place = Place()
    with pytest.raises(Denied):
        get(Tokens("r", place, plain_http=plain_http), base, realm)
    assert place.asked == []


def test_a_fragment_is_not_sent() -> None:
    place = Place()
    get(Tokens("r", place, plain_http=False), realm="https://b.example/t?x=1#y")
    assert place.asked[0][0].startswith("https://b.example/t?x=1&service=s&")


def test_an_identity_token_goes_into_a_form() -> None:
    place = Place()
    identity = Credential("someone", "secret", "identity")
    Tokens("r", place, plain_http=False).get("https://a.example", challenge(), PULL, identity)
    url, basic_for, form = place.asked[0]
    assert (url, basic_for) == ("https://tokens.example/t", None)
    assert form is not None
    assert parse_qs(form) == {
        "client_id": ["oras-py"], "grant_type": ["refresh_token"], "refresh_token": ["identity"],
        "scope": ["repository:a:pull"], "service": ["s"],
    }  # fmt: skip


def test_who_has_no_credential_is_told_to_log_in() -> None:
    with pytest.raises(Unauthorized, match="wants credentials; log in first"):
        Tokens("r", Place(401), plain_http=False).get("https://a.example", challenge(), PULL, None)

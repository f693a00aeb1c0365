"""Registries and places of tokens that want secrets sent where they should not go, or answer nonsense."""

import base64
import json
from collections.abc import Iterator
from itertools import count, repeat
from urllib.parse import parse_qs, urlsplit

import pytest

from oci.errors import Denied, InvalidContent, OciError, Unauthorized, Unavailable
from oci.registry.credential import Credential
from oci.registry.store import Registry
from tests.contracts.stores import ABSENT
from tests.registry.artifact import LAYER_DESCRIPTOR, MANIFEST, good
from tests.registry.refused import refused
from tests.registry.scripted import Answer, Asked, Scripted, reply
from tests.registry.stores import ONCE, repository

SECRET = Credential("someone", "secret")
BASIC = "Basic " + base64.b64encode(b"someone:secret").decode()


@pytest.fixture
def tokens() -> Iterator[Scripted]:
    """A place of tokens on another port, so another origin."""
    numbers = count()
    with Scripted(lambda _: reply(200, json.dumps({"token": f"token-{next(numbers)}"}).encode())) as server:
        yield server


@pytest.fixture
def owned(bad_server: Scripted) -> Iterator[Registry]:
    """A repository of a bad server, for somebody with a password."""
    with repository(bad_server.host, "bad/one", SECRET, patience=ONCE) as registry:
        yield registry


def wants(challenge: str, then: Answer = good) -> Answer:
    """A registry that lets in who has the first token, and challenges everybody else."""

    def answer(asked: Asked) -> list[bytes]:
        if asked.headers.get("authorization") == "Bearer token-0" or asked.path == "/v2/":
            return list(then(asked))
        return reply(401, b"", **({"WWW_Authenticate": challenge} if challenge else {}))

    return answer


def bearer(realm: str) -> Answer:
    return wants(f'Bearer realm="{realm}",service="s",scope="repository:bad/one:pull"')


def test_a_token_is_had_from_another_origin(owned: Registry, bad_server: Scripted, tokens: Scripted) -> None:
    bad_server.answer = bearer(f"{tokens.url}/token?a=b")
    assert owned.resolve("v1") == MANIFEST.descriptor
    assert [asked.headers.get("authorization") for asked in tokens.asked] == [BASIC]
    fields = {"a": ["b"], "service": ["s"], "scope": ["repository:bad/one:pull"], "account": ["someone"]}
    assert parse_qs(urlsplit(tokens.asked[0].path).query) == fields
    assert {asked.headers.get("authorization") for asked in bad_server.asked} == {None, "Bearer token-0"}


def test_a_token_that_ended_early_is_replaced(owned: Registry, bad_server: Scripted, tokens: Scripted) -> None:
    bad_server.answer = bearer(f"{tokens.url}/token")
    owned.resolve("v1")
    challenge = f'Bearer realm="{tokens.url}/token",service="s"'

    def answer(asked: Asked) -> list[bytes]:
        if asked.headers.get("authorization") == "Bearer token-1":
            return list(good(asked))
        return reply(401, WWW_Authenticate=challenge)

    bad_server.answer = answer
    assert owned.resolve("v1") == MANIFEST.descriptor


@pytest.mark.parametrize(
    ("realm", "kind", "words"),
    [
        ("http://tokens.example/token", Denied, ["plain HTTP", "tokens.example"]),
        ("http://[::ffff:1.2.3.4]/token", Denied, ["plain HTTP"]),
        ("ftp://localhost/token", Denied, ["hostile"]),
        ("file:///etc/passwd", Denied, ["hostile"]),
        ("https://user:password@localhost/token", Denied, ["hostile"]),
        ("http://", Denied, ["hostile"]),
        ("http://localhost:99999/", Denied, ["hostile"]),
        ("http://localhost:port/", Denied, ["hostile"]),
        ("https:///token", Denied, ["hostile"]),
        ("http://[/", Denied, ["hostile"]),
        ("https://localhost/a b", Denied, ["hostile"]),
        ("https://localhost/é", Denied, ["hostile"]),
        ("", Unauthorized, ["does not say from where"]),
        ("http://localhost:1/token", Unavailable, ["cannot connect to localhost"]),
    ],
)
def test_a_bad_realm_gets_nothing(
    owned: Registry, bad_server: Scripted, realm: str, kind: type[OciError], words: list[str]
) -> None:
    bad_server.answer = bearer(realm)
    with refused(kind, *words):
        owned.resolve("v1")
    assert all("authorization" not in asked.headers for asked in bad_server.asked)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda _: reply(200, b"<html>"), InvalidContent, ["no token but something else"]),
        (lambda _: reply(200, b"[]"), InvalidContent, ["no token but something else"]),
        (lambda _: reply(200, b"{}"), InvalidContent, ["instead of a token"]),
        (lambda _: reply(200, b'{"token": 5}'), InvalidContent, ["instead of a token"]),
        (lambda _: reply(200, b'{"token": "a\\r\\nX: y"}'), InvalidContent, ["instead of a token"]),
        (lambda _: reply(200, b'{"token": "' + b"a" * 100_000 + b'"}'), InvalidContent, ["instead of a token"]),
        (lambda _: reply(200, b" " * 2_000_000), InvalidContent, ["longer than"]),
        (lambda _: [reply(200, Content_Length="")[0], *repeat(b" " * 65536, 1600)], InvalidContent, ["longer than"]),
        (lambda _: [b"nonsense\r\n\r\n"], Unavailable, ["broke"]),
        (lambda _: reply(401), Unauthorized, ["does not accept 'someone'"]),
        (lambda _: reply(403), Denied, ["gives no token"]),
        (lambda _: reply(404), Unavailable, ["answers 404"]),
        (lambda _: reply(500), Unavailable, ["answers 500"]),
        (lambda _: reply(302), Unavailable, ["answers 302"]),
        (lambda _: reply(302, Location="http://tokens.example/"), Denied, ["plain HTTP"]),
    ],
)
def test_a_bad_place_of_tokens_is_refused(
    owned: Registry, bad_server: Scripted, tokens: Scripted, answer: Answer, kind: type[OciError], words: list[str]
) -> None:
    tokens.answer = answer
    bad_server.answer = bearer(f"{tokens.url}/token")
    with refused(kind, *words):
        owned.resolve("v1")


def test_a_place_of_tokens_that_redirects_does_not_pass_the_password_on(
    owned: Registry, bad_server: Scripted, tokens: Scripted
) -> None:
    with Scripted(tokens.answer) as other:
        tokens.answer = lambda _: reply(307, Location=f"{other.url}/elsewhere")
        bad_server.answer = bearer(f"{tokens.url}/token")
        assert owned.resolve("v1") == MANIFEST.descriptor
    assert [asked.headers.get("authorization") for asked in tokens.asked + other.asked] == [BASIC, None]


def test_an_identity_token_is_not_sent_on(bad_server: Scripted, tokens: Scripted) -> None:
    tokens.answer = lambda _: reply(307, Location=f"{bad_server.url}/elsewhere")
    bad_server.answer = bearer(f"{tokens.url}/token")
    with (
        repository(bad_server.host, "bad/one", Credential(identity_token="secret"), patience=ONCE) as registry,
        refused(Unavailable, "answers 307"),
    ):
        registry.resolve("v1")
    assert not any(asked.path.startswith("/elsewhere") for asked in bad_server.asked)


def test_a_new_identity_token_is_used_from_then_on(bad_server: Scripted, tokens: Scripted) -> None:
    tokens.answer = lambda _: reply(200, b'{"access_token": "token-0", "refresh_token": "second", "expires_in": 60}')
    bad_server.answer = bearer(f"{tokens.url}/token")
    with repository(bad_server.host, "bad/one", Credential(identity_token="first")) as registry:
        registry.resolve("v1")
        registry.has(LAYER_DESCRIPTOR)
    forms = [parse_qs(asked.body.decode()) for asked in tokens.asked]
    assert [form["refresh_token"] for form in forms] == [["first"], ["second"]]
    assert [form["scope"] for form in forms] == [["repository:bad/one:pull"], ["repository:bad/one:pull,push"]]


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        ("", ["wants ''", "is it a registry?"]),
        ("Negotiate", ["wants 'Negotiate'"]),
        ("Digest realm=x", ["wants 'Digest realm=x'"]),
        ('"""', ["is it a registry?"]),
        ("Bearer", ["does not say from where"]),
        ("x" * 60_000, ["is it a registry?"]),
        ('Basic realm="again and again"', ["does not accept 'someone'", "log in again"]),
    ],
)
def test_a_challenge_that_cannot_be_answered_is_told(
    owned: Registry, bad_server: Scripted, challenge: str, words: list[str]
) -> None:
    bad_server.answer = wants(challenge)
    with refused(Unauthorized, *words):
        owned.resolve("v1")


def test_tokens_that_never_please_are_not_asked_for_without_end(
    owned: Registry, bad_server: Scripted, tokens: Scripted
) -> None:
    challenge = f'Bearer realm="{tokens.url}/token"'
    bad_server.answer = lambda _: reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', WWW_Authenticate=challenge)
    with refused(Unauthorized, "UNAUTHORIZED"):
        owned.resolve("v1")
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("where", ["port", "host"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_gets_no_token(
    owned: Registry, bad_server: Scripted, where: str, status: int
) -> None:
    """Neither another port of this host, nor another name of it."""
    with Scripted(good) as other:
        origin = other.url if where == "port" else f"http://127.0.0.1:{bad_server.port}"

        def answer(asked: Asked) -> list[bytes]:
            if asked.headers.get("authorization") == BASIC:
                return reply(status, Location=origin + asked.path.replace("/v2/", "/storage/v2/"))
            if asked.path.startswith("/storage"):
                return list(good(asked))
            return reply(401, WWW_Authenticate="Basic")

        bad_server.answer = answer
        assert b"".join(owned.read(LAYER_DESCRIPTOR))
        led = [asked for asked in bad_server.asked + other.asked if asked.path.startswith("/storage")]
    assert [asked.headers.get("authorization") for asked in led] == [None]


def test_a_401_of_where_a_redirect_leads_is_not_answered(owned: Registry, bad_server: Scripted) -> None:
    with Scripted(lambda _: reply(401, WWW_Authenticate="Basic realm=x")) as other:
        bad_server.answer = lambda asked: reply(307, Location=f"{other.url}{asked.path}")
        with refused(Unauthorized):
            owned.resolve("v1")
    assert [asked.headers.get("authorization") for asked in other.asked] == [None]


@pytest.mark.parametrize("other_host", [True, False])
def test_an_upload_to_another_origin_gets_no_token(owned: Registry, bad_server: Scripted, *, other_host: bool) -> None:
    with Scripted(lambda _: reply(201)) as other:
        location = f"{other.url}/upload?x=1" if other_host else "/upload"

        def answer(asked: Asked) -> list[bytes]:
            if asked.headers.get("authorization") != BASIC:
                return reply(401, WWW_Authenticate="Basic")
            match asked.method:
                case "POST":
                    return reply(202, Location=location)
                case "PUT":
                    return reply(201)
                case _:
                    return reply(404)

        bad_server.answer = answer
        owned.write(ABSENT, [b"nobody has this"])
        put = [asked for asked in bad_server.asked + other.asked if asked.method == "PUT"]
    assert [asked.headers.get("authorization") for asked in put] == [None if other_host else BASIC]
    assert [asked.body for asked in put] == [b"nobody has this"]
    separator = "&" if other_host else "?"
    assert put[0].path.endswith(f"{separator}digest=sha256%3A{ABSENT.digest.hex}")

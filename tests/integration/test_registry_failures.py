"""Registries that refuse, are overloaded, cannot be reached, or lead astray: one line each, and in time."""

import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import repeat
from pathlib import Path

import pytest

from oci.errors import Denied, NotFound, OciError, Unauthorized, Unavailable
from oci.registry.options import Patience
from oci.registry.store import Registry
from tests.registry.artifact import BLOB, LAYER, LAYER_DESCRIPTOR, MANIFEST, except_for, good
from tests.registry.refused import pull_is_refused, refused
from tests.registry.scripted import Answer, Asked, Scripted, reply
from tests.registry.stores import repository

SAID = b'{"errors": [{"code": "X_Y", "message": "a \\u001b[2J\\r\\nreason"}, {"code": "Z"}, 5, {"message": 5}]}'
QUOTED = "(X_Y: a  [2J  reason, Z)"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, Denied, ["status 400", QUOTED]),
        (401, Unauthorized, ["is it a registry?"]),
        (403, Denied, ["denies access", QUOTED]),
        (404, NotFound, ["there is no", "bad/one:v1", QUOTED]),
        (405, Denied, ["status 405"]),
        (418, Denied, ["status 418"]),
        (429, Unavailable, ["status 429", QUOTED, "try again"]),
        (500, Unavailable, ["status 500", QUOTED, "try again"]),
        (503, Unavailable, ["status 503"]),
        (204, Denied, ["status 204"]),
        (304, Unavailable, ["redirects"]),
    ],
)
@pytest.mark.parametrize("part", ["/v2/", BLOB], ids=["all", "blob"])
def test_statuses(
    bad_registry: Registry, bad_server: Scripted, part: str, status: int, kind: type[OciError], words: list[str]
) -> None:
    bad_server.answer = except_for(part, lambda _: reply(status, SAID if status != 204 else b""))
    named = [word for word in words if part == "/v2/" or "v1" not in word]
    pull_is_refused(bad_registry, kind, bad_registry.registry, *named, blobs_too=False)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 5}', b'{"errors": []}', b"x" * 5_000_000])
def test_what_a_registry_says_is_quoted_if_it_can_be(bad_registry: Registry, bad_server: Scripted, body: bytes) -> None:
    bad_server.answer = lambda _: reply(403, body)
    with refused(Denied, "denies access to", "bad/one:v1; ask"):
        bad_registry.resolve("v1")


def test_a_long_reason_is_cut(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = lambda _: reply(403, b'{"errors": [{"message": "' + b"long " * 10_000 + b'"}]}')
    with refused(Denied, "long long"):
        bad_registry.resolve("v1")


# Not reached


def test_a_refused_connection_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with repository(f"localhost:{port}", "a") as registry, refused(Unavailable, "refused", "is the registry running?"):
        registry.resolve("v1")


def test_an_unknown_host_is_told_at_once() -> None:
    with repository("no-such-host.invalid", "a") as registry, refused(Unavailable, "no-such-host.invalid is not known"):
        registry.resolve("v1")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 1000, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"220 smtp\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"],
    ids=["nothing", "zeros", "no status", "many headers", "another protocol", "a long header"],
)  # fmt: skip
def test_who_does_not_speak_http_is_left(bad_registry: Registry, bad_server: Scripted, data: bytes) -> None:
    bad_server.answer = except_for("/manifests/", lambda _: [data])
    with refused(Unavailable, "localhost"):
        bad_registry.resolve("v1")


def test_this_machine_is_not_reached_through_a_proxy(bad_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://localhost:1")
    assert bad_registry.resolve("v1") == MANIFEST.descriptor


def test_others_are_reached_through_a_proxy(bad_server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", bad_server.url)
    with repository("registry.example", "a") as registry, refused(Unavailable, "the proxy", "registry.example"):
        registry.resolve("v1")
    assert [asked.method for asked in bad_server.asked] == ["CONNECT"]


def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "gopher://localhost:1")
    with repository("registry.example", "a") as registry, refused(Unavailable, "proxy"):
        registry.resolve("v1")


def test_passwords_of_netrc_are_not_sent(
    bad_registry: Registry, bad_server: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    bad_registry.resolve("v1")
    assert all("authorization" not in asked.headers for asked in bad_server.asked)


def test_plain_http_is_for_this_machine_or_where_it_is_allowed() -> None:
    def base(host: str, *, plain_http: bool) -> str:
        with repository(host, "a", plain_http=plain_http) as registry:
            return registry.client.base

    assert base("registry.example", plain_http=False) == "https://registry.example"
    assert base("registry.example:80", plain_http=True) == "http://registry.example:80"
    assert base("10.0.0.1:5000", plain_http=False) == "https://10.0.0.1:5000"
    assert base("docker.io", plain_http=False) == "https://registry-1.docker.io"


# Tried again


def failing(times: int, answer: Iterable[bytes]) -> Answer:
    """Answers so, this many times, and then well."""
    left = iter(repeat(list(answer), times))
    return lambda asked: next(left, None) or good(asked)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(bad_server: Scripted, status: int) -> None:
    bad_server.answer = except_for("/manifests/", failing(1, reply(status)))
    with repository(bad_server.host, "bad/one") as registry:
        assert registry.resolve("v1") == MANIFEST.descriptor


@pytest.mark.parametrize("part", [[b""], [b"HTTP/1.1 2"], reply(200, b"x", Content_Length="500")])
def test_a_broken_connection_is_tried_again(bad_server: Scripted, part: list[bytes]) -> None:
    bad_server.answer = except_for("/manifests/", failing(1, part))
    with repository(bad_server.host, "bad/one") as registry:
        assert registry.resolve("v1") == MANIFEST.descriptor


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_what_will_not_pass_is_not(bad_registry: Registry, bad_server: Scripted, status: int) -> None:
    bad_server.answer = except_for("/manifests/", lambda _: reply(status))
    with refused(NotFound if status == 404 else Denied):
        bad_registry.resolve("v1")
    assert len(bad_server.paths("GET")) == 2  # with /v2/


def test_a_registry_may_say_when_to_come_again(bad_server: Scripted) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    for value in ("1", soon):
        bad_server.answer = except_for("/manifests/", failing(1, reply(429, Retry_After=value)))
        with repository(bad_server.host, "bad/one", patience=Patience(attempts=2)) as registry:
            assert registry.resolve("v1") == MANIFEST.descriptor


@pytest.mark.parametrize("value", ["3600", "999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_waits_for_an_hour(bad_server: Scripted, value: str) -> None:
    bad_server.answer = except_for("/manifests/", lambda _: reply(429, Retry_After=value))
    with repository(bad_server.host, "bad/one") as registry, refused(Unavailable, "status 429", "try again in"):
        registry.resolve("v1")
    assert len(bad_server.paths("GET")) == 2


# Led astray


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("http://other.example/x", Denied, ["plain HTTP", "other.example"]),
        ("ftp://localhost/x", Denied, ["hostile"]),
        ("file:///etc/passwd", Denied, ["hostile"]),
        ("https://a:b@localhost/x", Denied, ["hostile"]),
        ("/x\ty", Denied, ["hostile"]),
        ("/x\x7f", Denied, ["hostile"]),
        ("/\xff", Denied, ["hostile"]),
        ("http://[", Denied, ["hostile"]),
        ("", Denied, ["hostile"]),
        ("?again", Unavailable, ["redirects more than"]),
    ],
)
def test_redirects_that_are_not_followed(
    bad_registry: Registry, bad_server: Scripted, target: str, kind: type[OciError], words: list[str]
) -> None:
    location = [b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + target.encode("latin-1") + b"\r\n\r\n"]
    bad_server.answer = except_for("/manifests/", lambda _: location)
    with refused(kind, *words):
        bad_registry.resolve("v1")
    assert len(bad_server.asked) <= 7


def test_a_header_cannot_be_smuggled_into_a_redirect(bad_registry: Registry, bad_server: Scripted) -> None:
    """A line end in a header's value is the end of that header; one that is encoded stays so."""
    target = b"/v2/x%0d%0aX-Bad:%201\r\nX-Other: 1"
    location = [b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n"]
    bad_server.answer = except_for("/manifests/", lambda _: location)
    with refused(NotFound):
        bad_registry.resolve("v1")
    assert bad_server.asked[-1].path.lower() == "/v2/x%0d%0ax-bad:%201"
    assert "x-bad" not in bad_server.asked[-1].headers


def test_an_endless_body_of_a_redirect_is_not_read(bad_registry: Registry, bad_server: Scripted) -> None:
    def answer(_: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 307 X\r\nLocation: /v2/bad/one/blobs/" + str(LAYER_DESCRIPTOR.digest).encode() + b"\r\n\r\n"
        yield from repeat(b"x" * 65536, 100_000)

    bad_server.answer = except_for("/elsewhere/blobs/", answer)
    with repository(bad_server.host, "elsewhere") as registry:
        assert b"".join(registry.read(LAYER_DESCRIPTOR)) == LAYER

"""Which addresses are used, and what may lead to which."""

import pytest

from oci.errors import Denied
from oci.registry.address import Origin, follow, is_loopback


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "notlocalhost", "10.0.0.1", "0.0.0.0", "::", "127.0.0.1.example", "128.0.0.1", ""]
)
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Ghcr.IO/v2/", ("https", "ghcr.io", 443)),
        ("HTTP://localhost", ("http", "localhost", 80)),
        ("http://[::1]:5000/x", ("http", "::1", 5000)),
        ("https://a:443/x?y#z", ("https", "a", 443)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    assert Origin.of(url) == origin


@pytest.mark.parametrize(
    ("base", "target", "url"),
    [
        ("https://a/v2/x", "/y", "https://a/y"),
        ("https://a/v2/x", "y?z=1", "https://a/v2/y?z=1"),
        ("https://a/v2/x", "//b/y", "https://b/y"),
        ("https://a/v2/x", "https://b:8443/y", "https://b:8443/y"),
        ("http://localhost:5000/v2/x", "http://127.0.0.1:6000/y", "http://127.0.0.1:6000/y"),
        ("http://localhost:5000/v2/x", "https://b/y", "https://b/y"),
        ("https://a/v2/x", "//", "https://a/v2/x"),
    ],
)
def test_what_is_followed(base: str, target: str, url: str) -> None:
    assert follow(base, target, plain_http=False) == url


def test_plain_http_to_others_is_followed_where_it_is_allowed() -> None:
    assert follow("http://a/v2/", "http://b/y", plain_http=True) == "http://b/y"
    with pytest.raises(Denied, match="allow that if you trust the network"):
        follow("http://localhost/v2/", "http://b/y", plain_http=False)


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("https://a/", "http://a/y"),
        ("https://a/", "http://localhost/y"),
        ("http://a/", "http://localhost:2375/y"),
        ("http://a/", "http://127.0.0.1/y"),
        ("https://a/", "https://user@b/"),
        ("https://a/", "https://user:password@b/"),
        ("https://a/", "https://@b/"),
        ("https://a/", "ftp://b/"),
        ("https://a/", "data:,x"),
        ("https://a/", "http:y"),
        ("https://a/", "https://b:0x50/"),
        ("https://a/", "https://b:-1/"),
        ("https://a/", "https://[b/"),
        ("https://a/", "/a b"),
        ("https://a/", "/a\r\nHost: b"),
        ("https://a/", "/a\0"),
        ("https://a/", "/\u2028"),
        ("https://a/", "https://ex\u0430mple/"),
        ("https://a/", ""),
    ],
)
def test_what_is_not_followed(base: str, target: str) -> None:
    with pytest.raises(Denied) as raised:
        follow(base, target, plain_http=True)
    assert str(raised.value).isprintable()

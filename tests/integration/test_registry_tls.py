"""HTTPS: which certificates are believed, and that nothing leads away from it."""

import socket
import ssl
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from oci.copy import copy
from oci.errors import Denied, StorageError, Unavailable
from oci.memory import MemoryStore
from oci.registry.connection import trust
from oci.registry.credential import Credential
from oci.registry.store import Registry
from tests.contracts.stores import ABSENT, LONG, put_artifact
from tests.registry.artifact import MANIFEST, good
from tests.registry.certificates import Certificate, issue
from tests.registry.refused import refused
from tests.registry.scripted import Scripted, reply
from tests.registry.server import RegistryServer
from tests.registry.stores import HASTE, repository


def test_push_and_pull_with_a_private_authority(tls_registry: RegistryServer, own_authority: Certificate) -> None:
    source, back = MemoryStore(), MemoryStore()
    put_artifact(source, LONG, name="v1")
    with repository(tls_registry.host, "tls/one", ca_file=own_authority.certificate) as registry:
        copy(source, "v1", registry, "v1")
        copy(registry, "v1", back, "v1")
    assert back.blobs() == source.blobs()


def test_an_unknown_authority_is_not_believed(tls_registry: RegistryServer) -> None:
    """On this machine, too, where plain HTTP is tried first."""
    with (
        repository(tls_registry.host, "tls/one") as registry,
        refused(Unavailable, "the certificate of localhost:", "is not trusted", "issuer", "CA file"),
    ):
        registry.resolve("v1")


def test_docker_s_place_of_authorities_is_for_one_registry(
    tls_registry: RegistryServer, own_authority: Certificate, tmp_path: Path
) -> None:
    own = tmp_path / tls_registry.host
    own.mkdir()
    (own / "any.crt").write_bytes(own_authority.certificate.read_bytes())
    assert _handshake(tls_registry, trust(tls_registry.host, None, tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tls_registry, trust("other.example", None, tmp_path))


def _handshake(server: RegistryServer, context: ssl.SSLContext) -> bool:
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.version() is not None


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"", "no certificate"), (b"x", "no certificate")]
)
def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with repository("localhost:1", "a", ca_file=path) as registry, refused(StorageError, str(path), said):
        registry.resolve("v1")


def test_a_certificate_for_another_name_is_not_believed(own_authority: Certificate, tmp_path: Path) -> None:
    other = issue(own_authority, tmp_path, "other", "DNS:other.example")
    with (
        Scripted(good, tls=other) as server,
        repository(server.host, "a", ca_file=own_authority.certificate) as registry,
        refused(Unavailable, "not valid for 'localhost'"),
    ):
        registry.resolve("v1")


def test_a_server_that_waits_for_something_else_is_told(bad_server: Scripted, own_authority: Certificate) -> None:
    with (
        repository(bad_server.host, "a", ca_file=own_authority.certificate, patience=HASTE) as registry,
        refused(Unavailable, "does not take a connection in time"),
    ):
        registry.resolve("v1")


def test_a_server_without_tls_is_told(plain_registry: RegistryServer, own_authority: Certificate) -> None:
    with (
        repository(plain_registry.host, "a", ca_file=own_authority.certificate) as registry,
        refused(Unavailable, "speaks no TLS", "plain HTTP"),
    ):
        registry.resolve("v1")


@pytest.mark.parametrize(
    "data", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\x16\x03\x03\x40\x00", b"", b"\x15\x03\x03\0\x02\x02\x28"]
)
def test_a_handshake_that_fails_is_told(own_authority: Certificate, data: bytes) -> None:
    with (
        _RawServer(data) as server,
        repository(server.host, "a", ca_file=own_authority.certificate, patience=HASTE) as registry,
        refused(Unavailable, "localhost"),
    ):
        registry.resolve("v1")


class _RawServer(Scripted):
    """Sends bytes at once, slowly at the end, whatever it is asked."""

    def __init__(self, data: bytes) -> None:
        super().__init__(good)
        self._data = data

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with connection:
            try:
                for piece in self.drip([self._data, *repeat(b"\0", 1000)], 0.02):
                    connection.sendall(piece)
            except OSError:
                pass


# Away from HTTPS


@pytest.fixture
def secure(own_certificate: Certificate) -> Iterator[Scripted]:
    """A server with HTTPS."""
    with Scripted(good, tls=own_certificate) as server:
        yield server


@pytest.fixture
def registry(secure: Scripted, own_authority: Certificate) -> Iterator[Registry]:
    """A repository of it, for somebody with a password; plain HTTP is allowed, and changes nothing here."""
    with repository(secure.host, "a", Credential("someone", "secret"), ca_file=own_authority.certificate) as registry:
        yield registry


def test_a_secure_server_is_used(registry: Registry) -> None:
    assert registry.resolve("v1") == MANIFEST.descriptor


def test_a_redirect_to_plain_http_is_not_followed(registry: Registry, secure: Scripted, bad_server: Scripted) -> None:
    secure.answer = lambda asked: reply(307, Location=f"{bad_server.url}{asked.path}")
    with refused(Denied, "from HTTPS to plain HTTP"):
        registry.resolve("v1")
    assert bad_server.asked == []


def test_an_upload_to_plain_http_is_not_sent(registry: Registry, secure: Scripted, bad_server: Scripted) -> None:
    secure.answer = lambda asked: reply(404) if asked.method == "HEAD" else reply(202, Location=f"{bad_server.url}/u")
    with refused(Denied, "from HTTPS to plain HTTP"):
        registry.write(ABSENT, [b"nobody has this"])
    assert bad_server.asked == []


def test_tokens_are_not_had_by_plain_http(registry: Registry, secure: Scripted, bad_server: Scripted) -> None:
    secure.answer = lambda _: reply(401, WWW_Authenticate=f'Bearer realm="{bad_server.url}/token"')
    with refused(Denied, "from HTTPS to plain HTTP"):
        registry.resolve("v1")
    assert bad_server.asked == []


def test_the_list_of_tags_does_not_go_on_by_plain_http(
    registry: Registry, secure: Scripted, bad_server: Scripted
) -> None:
    secure.answer = lambda _: reply(200, b'{"tags": ["a"]}', Link=f"<{bad_server.url}/tags>; rel=next")
    with refused(Denied, "from HTTPS to plain HTTP"):
        registry.tags()
    assert bad_server.asked == []


def test_from_plain_http_to_https_is_fine(bad_server: Scripted, secure: Scripted, own_authority: Certificate) -> None:
    """The authority is believed wherever we are led."""

    bad_server.answer = lambda asked: reply(307, Location=f"{secure.url}{asked.path}")
    with repository(bad_server.host, "a", ca_file=own_authority.certificate, plain_http=True) as registry:
        assert registry.resolve("v1") == MANIFEST.descriptor

"""Fixtures with real registries; tests/conftest.py imports them for all tests.

def test_something(plain_registry: RegistryServer) -> None:   # the session's one, so every test takes its own name
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from oci.registry.store import Registry
from tests.registry import programs
from tests.registry.artifact import good
from tests.registry.certificates import Certificate, authority, issue
from tests.registry.scripted import Scripted
from tests.registry.server import RegistryServer, htpasswd
from tests.registry.stores import ONCE, repository
from tests.registry.token_server import TokenServer
from tests.registry.tools import Tool


@pytest.fixture(scope="session")
def registry_program(request: pytest.FixtureRequest) -> Path:
    """docker-registry; skips where it cannot be had."""
    try:
        return programs.program(programs.find("docker-registry", request.config.rootpath / ".build"), "docker-registry")
    except programs.PeerMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=programs.PEERS)
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    """Each of the other programs in turn, with a new home; skips where it cannot be had or does not run."""
    (tmp_path / "run").mkdir()
    try:
        found = Tool(request.param, programs.find(request.param, request.config.rootpath / ".build"), tmp_path)
        found.run("--help")
    except (programs.PeerMissing, AssertionError, OSError) as reason:
        pytest.skip(f"{request.param}: {reason}")
    return found


@pytest.fixture(scope="session")
def own_authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """An authority that nobody trusts by itself."""
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def own_certificate(own_authority: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Its certificate for localhost and 127.0.0.1."""
    return issue(own_authority, tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def plain_registry(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Plain HTTP, open to everybody."""
    with RegistryServer(registry_program, tmp_path_factory.mktemp("plain-registry")) as server:
        yield server


@pytest.fixture(scope="session")
def password_registry(registry_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Plain HTTP, with one user: server.USER and server.PASSWORD."""
    directory = tmp_path_factory.mktemp("password-registry")
    with RegistryServer(registry_program, directory, auth=htpasswd(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def tls_registry(
    registry_program: Path, own_certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    """HTTPS, open to everybody who trusts `own_authority`."""
    with RegistryServer(registry_program, tmp_path_factory.mktemp("tls-registry"), tls=own_certificate) as server:
        yield server


class TokenRegistry(NamedTuple):
    """A registry and the place of its tokens."""

    server: RegistryServer
    tokens: TokenServer

    @property
    def host(self) -> str:
        """The registry's name in references."""
        return self.server.host


@pytest.fixture
def token_registry(
    registry_program: Path, own_authority: Certificate, own_certificate: Certificate, tmp_path: Path
) -> Iterator[TokenRegistry]:
    """Plain HTTP, with tokens; one for each test, which looks at the tokens that were given."""
    tokens = TokenServer(own_certificate)
    with (
        tokens.server,
        RegistryServer(registry_program, tmp_path, auth=tokens.auth(own_authority.certificate)) as server,
    ):
        yield TokenRegistry(server, tokens)


@pytest.fixture
def bad_server() -> Iterator[Scripted]:
    """A server that has an artifact, and that a test can give other answers."""
    with Scripted(good) as server:
        yield server


@pytest.fixture
def bad_registry(bad_server: Scripted) -> Iterator[Registry]:
    """A repository of it, where nothing is tried twice."""
    with repository(bad_server.host, "bad/one", patience=ONCE) as registry:
        yield registry

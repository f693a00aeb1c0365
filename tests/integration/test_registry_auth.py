"""Real registries with a password and with tokens: who may what, and which tokens are asked for."""

from collections.abc import Iterator

import pytest

from oci.copy import copy
from oci.errors import Denied, NotFound, OciError, Unauthorized, Unavailable
from oci.memory import MemoryStore
from oci.reference import Reference
from oci.registry.credential import Credential
from oci.registry.login import check
from oci.registry.options import DEFAULT, Options
from oci.registry.store import Registry
from tests.contracts.stores import LONG, contents, put, put_artifact
from tests.registry.fixtures import TokenRegistry
from tests.registry.refused import refused
from tests.registry.scripted import Scripted, reply
from tests.registry.server import PASSWORD, USER, RegistryServer
from tests.registry.stores import ONCE, repository
from tests.registry.token_server import IDENTITY

RIGHT = Credential(USER, PASSWORD)
WRONG = Credential(USER, "wrong")
BY_TOKEN = Credential(identity_token=IDENTITY)


@pytest.fixture
def source() -> MemoryStore:
    """A store with an artifact of the name v1."""
    store = MemoryStore()
    put_artifact(store, LONG, b"x", name="v1")
    return store


def push_and_pull(source: MemoryStore, registry: Registry) -> None:
    """There and back."""
    back = MemoryStore()
    copy(source, "v1", registry, "v1")
    copy(registry, "v1", back, "v1")
    assert back.blobs() == source.blobs()


def test_a_password_opens_a_registry(password_registry: RegistryServer, source: MemoryStore) -> None:
    with repository(password_registry.host, "auth/right", RIGHT) as registry:
        push_and_pull(source, registry)


def test_without_a_password_it_stays_shut(password_registry: RegistryServer, source: MemoryStore) -> None:
    with repository(password_registry.host, "auth/none") as registry:
        with refused(Unauthorized, password_registry.host, "wants credentials", "log in"):
            registry.resolve("v1")
        with refused(Unauthorized, "wants credentials"):
            copy(source, "v1", registry, "v1")


def test_a_wrong_password_is_refused(password_registry: RegistryServer) -> None:
    with (
        repository(password_registry.host, "auth/wrong", WRONG) as registry,
        refused(Unauthorized, "does not accept", repr(USER), "log in again"),
    ):
        registry.resolve("v1")


def test_the_reason_why_no_credentials_were_found_is_told(password_registry: RegistryServer) -> None:
    def find(_: Reference) -> Credential | None:
        raise Unauthorized("docker-credential-box is not in PATH")

    with (
        Registry(Reference(password_registry.host, "auth/why", "any"), find) as registry,
        refused(Unauthorized, "docker-credential-box is not in PATH"),
    ):
        registry.resolve("v1")


def test_nobody_looks_for_credentials_that_are_not_needed(plain_registry: RegistryServer) -> None:
    def find(_: Reference) -> Credential | None:
        raise AssertionError("asked")

    with Registry(Reference(plain_registry.host, "auth/open", "any"), find) as registry:
        put_artifact(registry, b"program", name="v1")
        assert registry.tags() == ["v1"]


@pytest.fixture
def owned(token_registry: TokenRegistry) -> Iterator[Registry]:
    """A repository with tokens, seen by its owner."""
    with repository(token_registry.host, "private/mine", RIGHT) as registry:
        yield registry


def test_tokens_are_for_one_purpose_and_kept(
    token_registry: TokenRegistry, source: MemoryStore, owned: Registry
) -> None:
    push_and_pull(source, owned)
    assert token_registry.tokens.granted == [
        ["repository:private/mine:pull,push"],
        ["repository:private/mine:pull"],
    ]


def test_a_pull_does_not_ask_to_push(token_registry: TokenRegistry, source: MemoryStore, owned: Registry) -> None:
    copy(source, "v1", owned, "v1")
    token_registry.tokens.granted.clear()
    with repository(token_registry.host, "private/mine", RIGHT) as registry:
        copy(registry, "v1", MemoryStore(), "v1")
    assert token_registry.tokens.granted == [["repository:private/mine:pull"]]


def test_an_identity_token_is_exchanged(token_registry: TokenRegistry, source: MemoryStore) -> None:
    with repository(token_registry.host, "private/token", BY_TOKEN) as registry:
        push_and_pull(source, registry)
    asked = token_registry.tokens.server.asked
    assert {each.method for each in asked} == {"POST"}
    assert all("authorization" not in each.headers and IDENTITY not in each.path for each in asked)


def test_tokens_that_end_are_asked_for_anew(token_registry: TokenRegistry, source: MemoryStore) -> None:
    """Tokens of a second, which are used half of it: the registry never sees one that has ended."""
    token_registry.tokens.life = 1
    with repository(token_registry.host, "private/short", RIGHT) as registry:
        copy(source, "v1", registry, "v1")
        token_registry.tokens.server.ended.wait(0.6)  # nothing but time passes
        before = len(token_registry.tokens.granted)
        assert registry.has(source.resolve("v1"))
        assert len(token_registry.tokens.granted) == before + 1


def test_everybody_may_pull_what_is_public(token_registry: TokenRegistry, source: MemoryStore) -> None:
    with repository(token_registry.host, "public/one", RIGHT) as registry:
        copy(source, "v1", registry, "v1")
    with repository(token_registry.host, "public/one") as registry:
        copy(registry, "v1", MemoryStore(), "v1")
        with refused(Unauthorized, "wants credentials", "log in"):
            put(registry, b"more")


@pytest.mark.parametrize("credential", [WRONG, Credential(identity_token="wrong")])
def test_a_wrong_credential_gets_no_token(token_registry: TokenRegistry, credential: Credential) -> None:
    with (
        repository(token_registry.host, "private/mine", credential) as registry,
        refused(Unauthorized, "does not accept", "log in again"),
    ):
        registry.resolve("v1")


def test_a_mount_asks_for_both_repositories(token_registry: TokenRegistry, owned: Registry) -> None:
    blob = put(owned, LONG)
    with repository(token_registry.host, "private/other", RIGHT) as other:
        assert other.mount(blob, owned)
        assert contents(other, blob) == LONG
    assert ["repository:private/mine:pull", "repository:private/other:pull,push"] in token_registry.tokens.granted


def test_deleting_asks_for_just_that(token_registry: TokenRegistry, owned: Registry) -> None:
    manifest = put_artifact(owned, b"program", name="v1")
    owned.delete(manifest.descriptor)
    assert token_registry.tokens.granted[-1] == ["repository:private/mine:delete"]


def test_a_credential_can_be_checked_before_it_is_stored(
    plain_registry: RegistryServer, password_registry: RegistryServer, token_registry: TokenRegistry
) -> None:
    check(plain_registry.host, RIGHT, DEFAULT)
    for host in (password_registry.host, token_registry.host):
        check(host, RIGHT, DEFAULT)
        with refused(Unauthorized, "does not accept"):
            check(host, WRONG, DEFAULT)
    check(token_registry.host, BY_TOKEN, DEFAULT)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Denied), (500, Unavailable)])
def test_a_credential_for_what_is_no_registry(bad_server: Scripted, status: int, kind: type[OciError]) -> None:
    bad_server.answer = lambda _: reply(status)
    with refused(kind, bad_server.host):
        check(bad_server.host, RIGHT, Options(patience=ONCE))

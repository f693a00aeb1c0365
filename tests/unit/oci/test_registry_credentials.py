"""Credentials are found where Docker and podman keep them, and stored so that nobody else reads them."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from oci.errors import InvalidContent, InvalidReference, StorageError
from oci.registry.credential import Credential
from oci.registry.credentials import login, logout, server_name
from tests.registry.auth_files import SOMEONE, config, entry, found, home

HUB_KEY = "https://index.docker.io/v1/"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of its own."""
    return home(tmp_path)


def test_without_any_file_there_are_none(environ: dict[str, str]) -> None:
    assert found(environ) is None


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        (".docker/config.json", None),
        ("elsewhere/config.json", ("DOCKER_CONFIG", "elsewhere")),
        ("mine.json", ("REGISTRY_AUTH_FILE", "mine.json")),
        ("run/containers/auth.json", None),
        (".config/containers/auth.json", None),
        ("xdg/containers/auth.json", ("XDG_CONFIG_HOME", "xdg")),
    ],
)
def test_each_place_is_looked_at(environ: dict[str, str], place: str, variable: tuple[str, str] | None) -> None:
    if variable:
        environ[variable[0]] = str(Path(environ["HOME"], variable[1]))
    config(environ, place, auths={"ghcr.io": entry()})
    assert found(environ) == SOMEONE


def test_the_first_file_that_knows_the_registry_wins(environ: dict[str, str]) -> None:
    config(environ, auths={"other.example": entry("other")})
    config(environ, "run/containers/auth.json", auths={"ghcr.io": entry("first")})
    config(environ, ".config/containers/auth.json", auths={"ghcr.io": entry("second")})
    assert found(environ) == Credential("first", "pass:word")


def test_a_named_file_is_the_only_one(environ: dict[str, str]) -> None:
    config(environ, auths={"ghcr.io": entry()})
    assert found(environ | {"REGISTRY_AUTH_FILE": str(Path(environ["HOME"], "none.json"))}) is None


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        (HUB_KEY, "alpine"),
        ("docker.io", "alpine"),
        ("index.docker.io", "alpine"),
        ("registry-1.docker.io", "owner/name"),
        ("https://ghcr.io", "ghcr.io/owner/name"),
        ("https://ghcr.io/v2/", "ghcr.io/owner/name"),
        ("ghcr.io/", "ghcr.io/owner/name"),
        ("ghcr.io/owner", "ghcr.io/owner/name"),
        ("ghcr.io/owner/name", "ghcr.io/owner/name"),
        ("docker.io/library", "alpine"),
        ("localhost:5000", "localhost:5000/a"),
    ],
)
def test_keys_are_known_in_all_spellings(environ: dict[str, str], key: str, reference: str) -> None:
    config(environ, auths={key: entry()})
    assert found(environ, reference) == SOMEONE


@pytest.mark.parametrize(
    "key", ["ghcr.io/own", "ghcr.io/owner/name/more", "ghcr.io:443", "xghcr.io", "localhost", "https://io/ghcr.io"]
)
def test_other_keys_do_not_fit(environ: dict[str, str], key: str) -> None:
    config(environ, auths={key: entry()})
    assert found(environ) is None


def test_the_most_special_key_wins(environ: dict[str, str]) -> None:
    keys = {"ghcr.io": "all", "ghcr.io/owner": "owner", "ghcr.io/owner/name": "one"}
    config(environ, auths={key: entry(user) for key, user in keys.items()})
    names = [found(environ, f"ghcr.io/{name}") for name in ("owner/name", "owner/other", "else/name")]
    assert [each.username if each else None for each in names] == ["one", "owner", "all"]


@pytest.mark.parametrize(
    ("stored", "credential"),
    [
        ({"username": "someone", "password": "pass:word"}, SOMEONE),
        (entry() | {"identitytoken": "idt"}, Credential("someone", "pass:word", "idt")),
        ({"auth": base64.b64encode(b"someone:").decode(), "identitytoken": "idt"}, Credential("someone", "", "idt")),
        ({"auth": base64.b64encode(b"someone:pass:word\0\0").decode()}, SOMEONE),
        ({"auth": ""}, None),
        ({}, None),
        ({"email": "someone@example.com"}, None),
    ],
)
def test_entries_have_several_forms(environ: dict[str, str], stored: object, credential: Credential | None) -> None:
    config(environ, auths={"ghcr.io": stored})
    assert found(environ) == credential


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"auths": []}, "auths is no object"),
        ({"auths": {"ghcr.io": "x"}}, "is no object; log in again"),
        ({"auths": {"ghcr.io": {"auth": "!!"}}}, "is damaged; log in again"),
        ({"auths": {"ghcr.io": {"auth": "bm9jb2xvbg=="}}}, "has no password; log in again"),
        ({"auths": {"ghcr.io": {"auth": 5}}}, "is 5 and no string"),
        ({"credHelpers": {"ghcr.io": 5}}, "is 5 and no string"),
        ({"credHelpers": 5}, "credHelpers is no object"),
    ],
)
def test_damaged_entries_are_told(environ: dict[str, str], fields: dict[str, Any], said: str) -> None:
    path = config(environ, **fields)
    with pytest.raises(InvalidContent, match=said) as raised:
        found(environ)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["{", "[]", "\0", '{"auths": {}, "auths": {}}'])
def test_a_damaged_file_is_told_and_never_replaced(environ: dict[str, str], text: str) -> None:
    path = config(environ)
    path.write_text(text)
    with pytest.raises(InvalidContent, match=r"config\.json"):
        found(environ)
    with pytest.raises(InvalidContent, match=r"config\.json"):
        login("ghcr.io", SOMEONE, environ)
    assert path.read_text() == text


def test_a_directory_in_place_of_the_file_is_told(environ: dict[str, str]) -> None:
    Path(environ["HOME"], ".docker/config.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"config\.json"):
        found(environ)


def test_an_empty_file_is_none(environ: dict[str, str]) -> None:
    config(environ).write_text("")
    assert found(environ) is None
    login("ghcr.io", SOMEONE, environ)
    assert found(environ) == SOMEONE


# Storing


def test_login_is_found_again_and_private(environ: dict[str, str]) -> None:
    where = login("ghcr.io", SOMEONE, environ)
    assert where == str(Path(environ["HOME"], ".docker/config.json"))
    assert found(environ) == SOMEONE
    assert stat.S_IMODE(Path(where).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(where).parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in Path(where).parent.iterdir()) == ["config.json"]


def test_login_keeps_everything_else(environ: dict[str, str]) -> None:
    path = config(environ, auths={"a.example": entry("a")}, HttpHeaders={"X": "ü"}, psFormat="table")
    path.chmod(0o644)
    login("b.example", Credential("b", "secret"), environ)
    document = json.loads(path.read_text())
    assert document == {
        "auths": {"a.example": entry("a"), "b.example": entry("b", "secret")}, "HttpHeaders": {"X": "ü"},
        "psFormat": "table",
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_login_replaces_each_spelling(environ: dict[str, str]) -> None:
    path = config(environ, auths={"docker.io": entry("old"), "https://index.docker.io/v1/": entry("older")})
    login("docker.io", SOMEONE, environ)
    assert json.loads(path.read_text()) == {"auths": {HUB_KEY: entry()}}


def test_login_stores_an_identity_token(environ: dict[str, str]) -> None:
    login("ghcr.io", Credential("someone", "", "idt"), environ)
    assert found(environ) == Credential("someone", "", "idt")


def test_login_keeps_bytes_that_are_no_text(environ: dict[str, str]) -> None:
    credential = Credential("someone", os.fsdecode(b"\xff\xfe"))
    login("ghcr.io", credential, environ)
    assert found(environ) == credential


def test_login_writes_through_a_link(environ: dict[str, str]) -> None:
    real = config(environ, "dotfiles/docker.json")
    link = Path(environ["HOME"], ".docker/config.json")
    link.parent.mkdir()
    link.symlink_to(real)
    login("ghcr.io", SOMEONE, environ)
    assert link.is_symlink()
    assert json.loads(real.read_text()) == {"auths": {"ghcr.io": entry()}}


def test_login_removes_what_a_killed_one_left(environ: dict[str, str]) -> None:
    left = config(environ, ".docker/.config.json.new", secret="half")
    login("ghcr.io", SOMEONE, environ)
    assert not left.exists()


def test_logins_at_once_are_all_kept(environ: dict[str, str]) -> None:
    hosts = [f"host{number}.example" for number in range(16)]
    threads = [threading.Thread(target=login, args=(host, Credential(host, "x"), environ)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found(environ, f"{host}/a") for host in hosts] == [Credential(host, "x") for host in hosts]


def test_login_where_nothing_can_be_written(environ: dict[str, str]) -> None:
    Path(environ["HOME"], ".docker").write_text("a file")
    with pytest.raises(StorageError, match=r"\.docker"):
        login("ghcr.io", SOMEONE, environ)


def test_a_colon_in_a_user_name_cannot_be_stored(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidContent, match="colon"):
        login("ghcr.io", Credential("some:one", "x"), environ)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ghcr.io", "ghcr.io"), ("ghcr.io/", "ghcr.io"), ("https://ghcr.io/v2/", "ghcr.io"), (HUB_KEY, "docker.io"),
        ("docker.io", "docker.io"), ("registry-1.docker.io", "docker.io"), ("http://localhost:5000", "localhost:5000"),
    ],
)  # fmt: skip
def test_registries_are_named_by_host_or_address(text: str, name: str) -> None:
    assert server_name(text) == name


@pytest.mark.parametrize("text", ["", "a/b", "https://", "a b", "a\r\nb", "user@host"])
def test_what_names_no_registry_is_refused(text: str, environ: dict[str, str]) -> None:
    with pytest.raises(InvalidReference):
        login(text, SOMEONE, environ)


def test_logout_erases_each_spelling_everywhere(environ: dict[str, str]) -> None:
    first = config(environ, auths={"docker.io": entry(), HUB_KEY: entry(), "ghcr.io": entry()}, other=1)
    second = config(environ, "run/containers/auth.json", auths={"docker.io": entry(), "docker.io/me": entry("me")})
    assert logout("docker.io", environ) == [str(first), str(second)]
    assert json.loads(first.read_text()) == {"auths": {"ghcr.io": entry()}, "other": 1}
    assert found(environ, "alpine") is None
    assert found(environ, "me/name") == Credential("me", "pass:word")


def test_logout_without_login_says_so_and_writes_nothing(environ: dict[str, str]) -> None:
    assert logout("ghcr.io", environ) == []
    assert list(Path(environ["HOME"]).glob(".*")) == []


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credential("someone", "secret", "secret"))


def test_neither_requests_nor_oras_is_loaded() -> None:
    code = (
        "import sys, oci.registry.credentials; print(sorted({'requests', 'oras', 'urllib3', 'ssl'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

"""Programs that keep credentials are asked as Docker asks them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from oci.errors import OciError, Unauthorized
from oci.registry.credential import Credential
from oci.registry.credentials import login, logout
from tests.registry.auth_files import SOMEONE, config, entry, found, home

PROGRAM = """#!{python}
import json, pathlib, sys
store = pathlib.Path(__file__).with_suffix(".json")
kept = json.loads(store.read_text()) if store.exists() else {{}}
given = sys.stdin.read()
if sys.argv[1] == "store":
    entry = json.loads(given)
    kept[entry["ServerURL"]] = entry
    store.write_text(json.dumps(kept))
elif given not in kept:
    sys.stdout.write("credentials not found in native keychain\\n")
    sys.exit(1)
elif sys.argv[1] == "get":
    sys.stdout.write(json.dumps(kept[given]))
else:
    del kept[given]
    store.write_text(json.dumps(kept))
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of its own."""
    return home(tmp_path)


@pytest.fixture
def programs(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of programs, in PATH; with one that keeps credentials."""
    directory = Path(environ["HOME"], "bin")
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    write(directory / "docker-credential-box", PROGRAM.format(python=sys.executable))
    return directory


def write(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("fields", [{"credsStore": "box"}, {"credHelpers": {"docker.io": "box"}}])
@pytest.mark.parametrize("credential", [SOMEONE, Credential(identity_token="idt")])
@pytest.mark.usefixtures("programs")
def test_a_program_keeps_finds_and_erases(
    environ: dict[str, str], fields: dict[str, Any], credential: Credential
) -> None:
    path = config(environ, **fields)
    assert found(environ, "alpine") is None
    assert login("docker.io", credential, environ) == "docker-credential-box"
    assert found(environ, "alpine") == credential
    assert json.loads(path.read_text()) == fields
    assert logout("docker.io", environ) == ["docker-credential-box"]
    assert found(environ, "alpine") is None


@pytest.mark.usefixtures("programs")
def test_a_program_for_one_registry_is_asked_for_no_other(environ: dict[str, str]) -> None:
    config(environ, credHelpers={"ghcr.io": "missing"}, credsStore="box")
    assert login("docker.io", SOMEONE, environ) == "docker-credential-box"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo broken >&2; exit 1", "fails: 'broken'"),
        ("echo no json", "answers no JSON object"),
        ("echo '{}'", "without a user name"),
        ("""echo '{"Username": 1, "Secret": "x"}'""", "without a user name"),
        ("kill -9 $$", "fails: ''"),
    ],
)
def test_a_program_that_fails_is_told(environ: dict[str, str], programs: Path, script: str, said: str) -> None:
    write(programs / "docker-credential-bad", f"#!/bin/sh\n{script}\n")
    config(environ, credsStore="bad")
    with pytest.raises(Unauthorized, match="docker-credential-bad") as raised:
        found(environ)
    assert said in str(raised.value)


def test_a_program_that_cannot_start_is_told(environ: dict[str, str], programs: Path) -> None:
    write(programs / "docker-credential-odd", "#!/nonexistent\n")
    (programs / "docker-credential-none").write_text("no program")
    config(environ, credHelpers={"a.example": "missing", "b.example": "none", "c.example": "../x", "d.example": "odd"})
    for host, said in {"a": "not in PATH", "b": "does not start", "c": "names no program", "d": "not in PATH"}.items():
        with pytest.raises(Unauthorized, match=said):
            found(environ, f"{host}.example/x")
        with pytest.raises(OciError, match=said):
            login(f"{host}.example", SOMEONE, environ)


def test_a_file_helps_where_the_program_fails(environ: dict[str, str]) -> None:
    config(environ, credsStore="missing", auths={"ghcr.io": entry()})
    assert found(environ) == SOMEONE

"""When `run` pulls, what a warm one loads, and images that change, break or go while they are used."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.pack import pack
from oci.reference import Reference
from tests.conftest import User
from tests.contracts.stores import put_artifact
from tests.integration import support
from tests.integration.images import blobs, digest_of, new_name, ran, said, store
from tests.integration.support import Environment, refusal, started, wait_for
from tests.registry.server import RegistryServer
from tests.registry.stores import repository

Guest = Callable[[str], Path]
KIT = "kit_p1.wasm"
HELLO = ["hello from wasm-shim"]


@pytest.fixture
def reference(plain_registry: RegistryServer) -> str:
    """A name of the test's own."""
    return new_name(plain_registry)


@pytest.fixture
def pushed(home: Environment, guest: Guest, reference: str) -> str:
    """The image `hello` under it."""
    said(home, "push", guest("hello.wat"), reference)
    return reference


def test_missing_pulls_once(home: Environment, guest: Guest, pushed: str) -> None:
    """Without --pull and with --pull missing a newer image in the registry is not looked for."""
    assert ran(home, pushed) == HELLO
    said(home, "push", guest(KIT), pushed)
    assert ran(home, pushed) == HELLO
    assert said(home, "run", "--rm", "--pull", "missing", pushed) == HELLO


def test_always_pulls_what_is_new(home: Environment, guest: Guest, pushed: str) -> None:
    assert ran(home, pushed) == HELLO
    said(home, "push", guest(KIT), pushed)
    assert said(home, "run", "--rm", "--pull", "always", pushed, "args") == [f"arg /{KIT}", "arg args"]
    assert ran(home, pushed, "args") == [f"arg /{KIT}", "arg args"]


def test_never_pulls(home: Environment, pushed: str) -> None:
    done = support.wasm_shim(home, "run", "--pull", "never", pushed)
    assert done.returncode == 125
    assert refusal(done) == f"there is no image {pushed} here; get it with: wasm-shim pull {pushed}"
    said(home, "pull", pushed)
    assert said(home, "run", "--rm", "--pull", "never", pushed) == HELLO


@pytest.mark.parametrize("image", ["x.example/a", "hello.wasm"])
def test_other_modes_are_refused(home: Environment, image: str) -> None:
    done = support.wasm_shim(home, "run", "--pull", "sometimes", image)
    assert done.returncode == 125
    assert refusal(done) == "--pull sometimes is not known; write one of missing, always, never"


def test_a_file_of_that_name_is_pointed_at(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """One word is an image, as with Docker; nothing is asked for in a registry while a file of that name is there."""
    (tmp_path / "hello").write_bytes(guest("hello.wat").read_bytes())
    done = support.wasm_shim(home, "run", "hello", cwd=tmp_path)
    assert done.returncode == 125
    assert "write ./hello if you mean the file" in refusal(done)
    assert said(home, "run", "--rm", "./hello", cwd=tmp_path) == HELLO


def test_an_ordinary_user_has_images_of_their_own(ordinary_user: User, guest: Guest, reference: str) -> None:
    """From the first push to a run of a root file system's program, in directories that are theirs."""
    program = Path(ordinary_user.environment["HOME"], "hello.wat")
    program.write_bytes(guest("hello.wat").read_bytes())
    for words in (["push", "--layout", "image", program, reference], ["run", "--rm", reference], ["images", "-q"]):
        done = ordinary_user.run(["wasm-shim", *map(str, words)])
        assert (done.returncode, done.stderr) == (0, ""), words
    assert store(ordinary_user.environment).stat().st_uid == ordinary_user.uid


# A warm run

_MODULES = """
import sys
sys.argv = ["wasm-shim", "run", "--rm", *sys.argv[1:]]
from wasm_shim.cli.app import main
try:
    main()
except SystemExit:
    pass
heavy = ("oci.", "oras", "requests", "urllib3", "typer", "rich", "dataclasses", "hashlib", "inspect", "pathlib", "ssl")
print(sorted(name for name in sys.modules if name.startswith(heavy) and name != "oci.errors"))
"""


def loaded(home: Environment, image: str | Path) -> str:
    """What of these a run has loaded."""
    command = [sys.executable, "-c", _MODULES, str(image)]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True, timeout=support.DEADLINE)
    assert done.stdout.splitlines()[:-1] == HELLO, done
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("layout", ["cncf", "image"])
def test_a_warm_run_loads_little(home: Environment, guest: Guest, layout: str) -> None:
    """Neither of a file nor of an image: nothing of oci, nor what it needs."""
    said(home, "pack", "--layout", layout, "-t", "hello", guest("hello.wat"))
    assert "oci.layout" in loaded(home, "hello")
    assert loaded(home, "hello") == "[]"
    assert loaded(home, guest("hello.wat")) == "[]"


def test_an_image_that_was_tagged_anew_is_noticed(home: Environment, guest: Guest) -> None:
    """Also by a run that remembered it."""
    said(home, "pack", "-t", "a", guest("hello.wat"))
    said(home, "pack", "-t", "b", guest(KIT))
    assert [ran(home, "a"), ran(home, "a")] == [HELLO, HELLO]
    said(home, "tag", "b", "a")
    assert ran(home, "a", "args") == [f"arg /{KIT}", "arg args"]


def test_a_damaged_program_is_not_run(home: Environment, guest: Guest) -> None:
    """A bit that fell over, also under a run that remembered the image."""
    said(home, "pack", "-t", "hello", guest("hello.wat"))
    assert ran(home, "hello") == HELLO
    layer = max(blobs(home), key=lambda path: path.read_bytes().startswith(b"\0asm"))
    data = bytearray(layer.read_bytes())
    data[-3] ^= 1
    layer.write_bytes(data)
    done = support.wasm_shim(home, "run", "hello")
    assert done.returncode == 125
    assert "sha256:" in refusal(done)


# ps and rmi


def test_ps_shows_the_image(home: Environment, guest: Guest) -> None:
    said(home, "pack", "-t", "hello:2", guest("hello.wat"))
    said(home, "run", "hello:2")
    said(home, "run", guest("hello.wat"))
    rows = said(home, "ps", "-a")
    assert rows[0].split()[2] == "IMAGE"
    assert sorted(row.split()[1] for row in rows[1:]) == ["hello.wat", "hello:2"]


@pytest.mark.parametrize("layout", ["cncf", "image"])
def test_an_image_may_be_removed_while_it_runs(home: Environment, guest: Guest, layout: str) -> None:
    """The guest goes on and ends as ever; of the image nothing is left."""
    said(home, "pack", "--layout", layout, "-t", "kit", guest(KIT))
    with started(home, "run", "--rm", "-i", "kit", "cat", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"first\n")
        process.stdin.flush()
        wait_for(process.stdout.fileno(), b"first\n")
        assert said(home, "rmi", "kit")[0] == "Untagged: kit:latest"
        process.stdin.write(b"second\n")
        process.stdin.close()
        wait_for(process.stdout.fileno(), b"second\n")
        assert process.wait(support.DEADLINE) == 0
    assert blobs(home) == set()
    assert list(Path(home["XDG_CACHE_HOME"]).rglob("images/*")) == []


def test_what_cannot_run_says_why(home: Environment, plain_registry: RegistryServer, reference: str) -> None:
    """An artifact without a program is pulled, and refused with 126."""
    with repository(plain_registry.host, Reference.parse(reference).repository) as registry:
        put_artifact(registry, b"just data", name="1")
    done = support.wasm_shim(home, "run", reference)
    assert done.returncode == 126
    assert refusal(done).startswith(f"cannot run {reference}: ")


def test_the_store_holds_what_was_packed(home: Environment, guest: Guest) -> None:
    """The same program and options have the same digest everywhere."""
    said_digest = digest_of(said(home, "pack", "-t", "kit", guest(KIT)))
    assert said_digest == pack(guest(KIT)).name
    assert store(home).stat().st_mode & 0o777 == 0o700

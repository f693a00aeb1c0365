"""`containerd-shim-wasm-v1` where it refuses: one sentence, status 1, and nothing is left."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.commands import SCRIPT, Commands, kill
from tests.integration.support import DEADLINE, Environment


@pytest.fixture
def shim(home: Environment) -> Commands:
    """The commands."""
    return Commands(home)


def test_the_longest_socket_path(home: Environment) -> None:
    """A socket path of 107 bytes works, one of 108 is refused with a sentence."""
    base = Path(home["HOME"])
    for size, fits in ((107, True), (108, False)):
        name = "r" * (size - len(f"{base}//wasm-shim/s/") - 64)
        (base / name).mkdir(mode=0o700)
        home["XDG_RUNTIME_DIR"] = str(base / name)
        shim = Commands(home)
        if fits:
            assert len(shim.address()) == 107
            kill(shim.zygote(), *shim.shims())
        else:
            assert "has 108 bytes, and the kernel takes 107" in shim.refusal("start")
            assert shim.nothing_left()


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "../x"])
def test_ids_that_are_none(shim: Commands, id_: str) -> None:
    """An id is one name."""
    words = [*shim.words("start", "one")[:-2], id_, "start"]
    done = subprocess.run(words, check=False, **shim.options("one"))
    assert (done.returncode, done.stdout.count(b"\n")) == (1, 0)
    assert b"id" in done.stdout
    assert shim.sockets() == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "usage:"),
        (["stop"], "usage:"),
        (["-namespace", "test", "start"], "the id is missing; pass -id"),
        (["-id", "a", "delete"], "the namespace is missing; pass -namespace"),
        (["-id"], "flag -id needs a value"),
        (["start", "delete", "-x"], "the namespace is missing"),
    ],
)
def test_wrong_usage(shim: Commands, words: list[str], expected: str) -> None:
    """Wrong words are one sentence and status 1."""
    done = subprocess.run([SCRIPT, *words], check=False, timeout=DEADLINE, **shim.options("one"))
    assert done.returncode == 1
    assert done.stdout.decode().startswith(expected)
    assert b"\n" not in done.stdout


def test_no_grpc_yet(shim: Commands) -> None:
    """The other transport is refused by name."""
    shim.environment["WASM_SHIM_TRANSPORT"] = "grpc"
    assert "WASM_SHIM_TRANSPORT" in shim.refusal("start")
    assert shim.nothing_left()


def test_root_directory_of_others(shim: Commands) -> None:
    """A root directory that others can write to is refused, whether or not a zygote is there; so is a relative one."""
    shim.root.mkdir(mode=0o700)
    shim.root.chmod(0o777)
    assert "set WASM_SHIM_ROOT to a directory of your own" in shim.refusal("start")
    shim.root.chmod(0o700)
    shim.start("warm")
    shim.root.chmod(0o777)
    assert "set WASM_SHIM_ROOT to a directory of your own" in shim.refusal("start")
    shim.root.chmod(0o700)
    shim.environment["WASM_SHIM_ROOT"] = "run"
    assert "must be an absolute path" in shim.refusal("start")


def test_a_bundle_that_cannot_be_written(shim: Commands) -> None:
    """Where the address cannot be left, nothing is left: no shim, no socket, no half of a file."""
    bundle = shim.bundle("one")
    (bundle / "address").mkdir()
    assert shim.refusal("start")
    assert shim.nothing_left()
    assert sorted(path.name for path in bundle.iterdir()) == ["address", "config.json"]

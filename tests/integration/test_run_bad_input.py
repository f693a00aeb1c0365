"""Options and surroundings that do not work: one line with the cause, the right exit code, nothing left behind."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import User
from tests.integration.support import (
    DEADLINE,
    Environment,
    leftovers,
    need_private_mounts,
    refusal,
    refused,
    wasm_shim,
)

Guest = Callable[[str], Path]

OURS, CANNOT_RUN, NOT_THERE = 125, 126, 127

BAD_OPTIONS = {
    "volume without a guest path": (["-v", "data"], OURS, "HOST:GUEST"),
    "volume with a relative guest path": (["-v", "data:d"], OURS, "begins with /"),
    "volume without a host path": (["-v", ":/d"], OURS, "HOST:GUEST"),
    "volume with an unknown mode": (["-v", "data:/d:rx"], OURS, "ro or rw"),
    "volume with too many parts": (["-v", "data:/d:ro:z"], OURS, "HOST:GUEST"),
    "volume that is not there": (["-v", "none:/d"], OURS, "none does not exist"),
    "directory that is not there": (["--dir", "none"], OURS, "none"),
    "directory that is a file": (["--dir", "data/file"], OURS, "use -v for files"),
    "two mounts at one place": (["-v", "data:/d", "-v", ".:/d"], CANNOT_RUN, "two mounts meet at /d"),
    "file mounted at the root": (["-v", "data/file:/"], CANNOT_RUN, "cannot mount the file"),
    "variable without a name": (["-e", "=1"], OURS, "NAME=VALUE"),
    "empty variable": (["-e", ""], OURS, "NAME=VALUE"),
    "variable with a blank in its name": (["-e", "A B=1"], OURS, "NAME=VALUE"),
    "environment file that is not there": (["--env-file", "none"], OURS, "none: No such file"),
    "environment file that is a directory": (["--env-file", "data"], OURS, "data: Is a directory"),
    "environment file that is not UTF-8": (["--env-file", "latin"], OURS, "latin is not UTF-8"),
    "environment file with a bad line": (["--env-file", "bad"], OURS, "bad, line 2"),
    "relative working directory": (["-w", "d"], OURS, "not absolute"),
    "working directory in no mount": (["-w", "/d"], NOT_THERE, "/d is in no mount"),
    "working directory that is not there": (["-v", "data:/d", "-w", "/d/none"], NOT_THERE, "/d/none"),
    "name with a slash": (["--name", "a/b"], OURS, "invalid name 'a/b'"),
    "name that begins with a dot": (["--name", ".hidden"], OURS, "invalid name"),
    "name that is too long": (["--name", "n" * 256], OURS, "invalid name"),
    "unknown option": (["--frobnicate"], OURS, "--frobnicate"),
    "unknown short option": (["-z"], OURS, "-z"),
    "abbreviated option": (["--inter"], OURS, "--inter"),
    "value for a flag": (["--rm=yes"], OURS, "--rm"),
    "terminal without one": (["-it"], OURS, "terminal"),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the options above name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    (tmp_path / "latin").write_bytes(b"NAME=\xe4\n")
    (tmp_path / "bad").write_text("FINE=1\n=no name\n")
    return tmp_path


@pytest.mark.parametrize("what", BAD_OPTIONS)
def test_bad_option_is_refused(home: Environment, guest: Guest, directory: Path, what: str) -> None:
    """An option that cannot be followed is refused before anything runs, and the message says what is wrong."""
    options, code, reason = BAD_OPTIONS[what]
    assert reason in refused(home, code, "run", *options, guest("hello.wat"), cwd=directory)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run"], "IMAGE"),
        (["run", "--rm", "--"], "IMAGE"),
        (["run", "-e"], "-e"),
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["ps", "--frobnicate"], "--frobnicate"),
        (["ps", "word"], "word"),
        (["rm"], "CONTAINER"),
        (["wit"], "FILE"),
        (["wit", "a.wasm", "b.wasm"], "b.wasm"),
        (["compile"], "FILE"),
        (["rm", "none"], "none"),
    ],
)
def test_bad_words_are_refused(home: Environment, words: list[str], reason: str) -> None:
    """Verbs and words that are unknown or missing are named, and the exit code is ours."""
    assert reason in refused(home, OURS, *words)


def test_name_in_use_is_refused(home: Environment, guest: Guest) -> None:
    """A second container of the same name is refused, and the message tells how to get rid of the first."""
    wasm_shim(home, "run", "--name", "mine", guest("hello.wat"))
    before = leftovers(home)
    done = wasm_shim(home, "run", "--name", "mine", guest("hello.wat"))
    assert (done.returncode, done.stdout) == (OURS, "")
    assert "wasm-shim rm mine" in refusal(done)
    assert leftovers(home) == before


def test_unreadable_mount_source_is_refused(ordinary_user: User, guest: Guest) -> None:
    """A directory that the caller may not read cannot be mounted."""
    closed = Path(ordinary_user.environment["HOME"]) / "closed"
    closed.mkdir(mode=0)
    os.chown(closed, ordinary_user.uid, -1)
    options = ordinary_user.popen_options()
    words = ["run", "-v", f"{closed}:/d", str(guest("hello.wat"))]
    try:
        assert "permission denied" in refused(ordinary_user.environment, OURS, *words, **options)
    finally:
        closed.chmod(0o700)  # else its owner could not remove it


# Homes


@pytest.mark.root
def test_home_comes_from_the_user_database(ordinary_user: User, guest: Guest, tmp_path: Path) -> None:
    """Without HOME the user database says where it is."""
    need_private_mounts()
    directory, uid = Path(ordinary_user.environment["HOME"]), str(ordinary_user.uid)
    database = tmp_path / "passwd"
    database.write_text(f"{Path('/etc/passwd').read_text()}someone:x:{uid}:{uid}::{directory}:/bin/sh\n")
    program = directory / "hello.wat"
    program.write_bytes(guest("hello.wat").read_bytes())
    program.chmod(0o644)
    become = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
    inside = 'mount --bind "$0" /etc/passwd && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", inside, str(database), *become, "wasm-shim", "run", str(program)]
    environment = {name: ordinary_user.environment[name] for name in ("PATH", "XDG_RUNTIME_DIR")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from wasm-shim\n", "")
    assert len(list(directory.glob(".cache/wasm-shim/programs/*/*.cwasm"))) == 1
    assert len(list(directory.glob(".local/state/wasm-shim/containers/*"))) == 1


@pytest.mark.parametrize("home_variable", [{}, {"HOME": ""}, {"HOME": "relative"}], ids=["unset", "empty", "relative"])
@pytest.mark.root
def test_user_without_a_home_is_refused(ordinary_user: User, guest: Guest, home_variable: dict[str, str]) -> None:
    """Where neither HOME nor the user database names a home, the message tells what to set."""
    environment = {name: ordinary_user.environment[name] for name in ("PATH", "XDG_RUNTIME_DIR")} | home_variable
    options = ordinary_user.popen_options() | {"env": environment}
    done = wasm_shim(environment, "run", "--rm", guest("hello.wat"), **options)
    assert (done.returncode, done.stdout) == (OURS, "")
    assert "set HOME or XDG_" in refusal(done)


def test_xdg_directories_do_without_a_home(ordinary_user: User, guest: Guest) -> None:
    """With all XDG directories set nobody needs a home."""
    environment = {name: value for name, value in ordinary_user.environment.items() if name != "HOME"}
    options = ordinary_user.popen_options() | {"env": environment}
    done = wasm_shim(environment, "run", "--rm", guest("hello.wat"), **options)
    assert (done.returncode, done.stderr) == (0, "")

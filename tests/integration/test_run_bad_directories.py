"""State, cache and runtime directories that cannot be used: one line with the cause, and nothing half-written."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_UID, User
from tests.integration.support import DEADLINE, Environment, need_private_mounts, refusal, wasm_shim

Guest = Callable[[str], Path]

OURS = 125
DIRECTORIES = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "runtime"}
OWN = {"XDG_STATE_HOME": "wasm-shim", "XDG_CACHE_HOME": "wasm-shim/programs", "XDG_RUNTIME_DIR": "wasm-shim"}

# Runs a command with a small private file system at a directory, then lists what it has left there.
ON_SMALL_DISK = """
directory=$1 size=$2 fill=$3; shift 3
mount -t tmpfs -o "size=$size,mode=700" tmpfs "$directory" || exit
if [ -n "$fill" ]; then head -c 1G /dev/zero >"$directory/fill" 2>/dev/null; fi
"$@"
code=$?
find "$directory" ! -type d ! -name fill ! -name 'zygote-*' ! -path '*/programs/*/lock' -printf 'left %P\\n'
exit $code
"""


@pytest.fixture(params=DIRECTORIES)
def variable(request: pytest.FixtureRequest) -> str:
    """The variable of one of our three directories."""
    name: str = request.param
    return name


def own_directory(environment: Environment, variable: str) -> Path:
    """The directory that must be ours alone, made."""
    directory = Path(environment[variable]) / OWN[variable]
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700)
    return directory


def assert_refused(environment: Environment, program: Path, variable: str, **options: object) -> str:
    """A run is refused because of this directory, and leaves no container; the reason."""
    done = wasm_shim(environment, "run", "--rm", "--name", "n", program, **options)
    said = refusal(done)
    assert (done.returncode, done.stdout) == (OURS, ""), said
    assert DIRECTORIES[variable] in said
    assert variable in said, "the remedy names the variable"
    for pattern in ("wasm-shim/containers/*", "wasm-shim/names/*"):
        assert list(Path(environment["XDG_STATE_HOME"]).glob(pattern)) == []
    assert list(Path(environment["XDG_RUNTIME_DIR"]).glob("wasm-shim/[0-9a-f]*")) == []
    assert not {path.suffix for path in Path(environment["XDG_CACHE_HOME"]).rglob("*")} & {".lock", ".cwasm", ".json"}
    return said


def test_file_in_the_way(home: Environment, guest: Guest, variable: str) -> None:
    """A file where the directory should be is refused."""
    (Path(home[variable]) / "wasm-shim").write_text("in the way")
    assert_refused(home, guest("hello.wat"), variable)


def test_file_above(home: Environment, guest: Guest, variable: str, tmp_path: Path) -> None:
    """A variable that names a file is refused."""
    (tmp_path / "file").write_text("")
    assert_refused(home | {variable: str(tmp_path / "file")}, guest("hello.wat"), variable)


def test_symbolic_link(home: Environment, guest: Guest, variable: str, tmp_path: Path) -> None:
    """Our own directory must not be a symbolic link, which might lead where others write."""
    directory = own_directory(home, variable)
    directory.rmdir()
    directory.symlink_to(tmp_path)
    assert_refused(home, guest("hello.wat"), variable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_directory_open_to_others(home: Environment, guest: Guest, variable: str, mode: int) -> None:
    """Our own directory must be closed to group and others."""
    own_directory(home, variable).chmod(mode)
    assert "0700" in assert_refused(home, guest("hello.wat"), variable)


def test_directory_above_that_others_can_write(home: Environment, guest: Guest, variable: str) -> None:
    """A directory above ours in which everybody can write is refused, unless it is sticky as /tmp is."""
    directory = Path(home[variable])
    directory.chmod(0o777)
    assert "others can write" in assert_refused(home, guest("hello.wat"), variable)
    directory.chmod(0o1777)
    assert wasm_shim(home, "run", "--rm", guest("hello.wat")).returncode == 0


@pytest.mark.root
def test_directory_of_another_user(home: Environment, guest: Guest, variable: str) -> None:
    """A directory that belongs to another user is refused, ours and those above."""
    directory = own_directory(home, variable)
    os.chown(directory, ORDINARY_UID, -1)
    assert f"user {ORDINARY_UID}" in assert_refused(home, guest("hello.wat"), variable)
    directory.rmdir()
    os.chown(directory.parent, ORDINARY_UID, -1)
    assert f"user {ORDINARY_UID}" in assert_refused(home, guest("hello.wat"), variable)


def test_directory_that_cannot_be_written(ordinary_user: User, guest: Guest, variable: str) -> None:
    """A directory in which the user may make nothing is refused."""
    directory = Path(ordinary_user.environment[variable])
    directory.chmod(0o500)
    assert "Permission denied" in assert_refused(
        ordinary_user.environment, guest("hello.wat"), variable, **ordinary_user.popen_options()
    )


def test_runtime_directory_that_is_too_deep(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """A runtime directory whose sockets would have too long a path is refused with the limit."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir(mode=0o700)
    assert "107 bytes" in assert_refused(home | {"XDG_RUNTIME_DIR": str(deep)}, guest("hello.wat"), "XDG_RUNTIME_DIR")


@pytest.mark.parametrize(("name", "default"), [("XDG_STATE_HOME", ".local/state"), ("XDG_CACHE_HOME", ".cache")])
def test_relative_variable_is_ignored(ordinary_user: User, guest: Guest, name: str, default: str) -> None:
    """A relative path in an XDG variable is ignored, as the specification asks."""
    environment = ordinary_user.environment | {name: "relative"}
    options = ordinary_user.popen_options() | {"env": environment}
    assert wasm_shim(environment, "run", "--rm", guest("hello.wat"), **options).returncode == 0
    home = Path(environment["HOME"])  # where it ran
    assert not (home / "relative").exists()
    assert (home / default / "wasm-shim").is_dir()


def on_small_disk(
    home: Environment, variable: str, size: str, fill: str, program: Path
) -> subprocess.CompletedProcess[str]:
    """A run with that directory on a disk of this size, filled up before if asked for; stdout lists what is left."""
    words = ["sh", "-c", ON_SMALL_DISK, "sh", home[variable], size, fill, "wasm-shim", "run", "--rm", str(program)]
    command = ["unshare", "--mount", "--propagation", "private", *words]
    need_private_mounts()
    return subprocess.run(command, env=home, capture_output=True, text=True, timeout=DEADLINE)


@pytest.mark.root
def test_full_disk(home: Environment, guest: Guest, variable: str) -> None:
    """A disk without room is told so, and nothing half-written stays on it."""
    done = on_small_disk(home, variable, "16k", "fill", guest("hello.wat"))
    assert (done.returncode, done.stdout) == (OURS, "")
    said = refusal(done)
    assert "No space left on device" in said
    assert DIRECTORIES[variable] in said


@pytest.mark.root
def test_disk_that_fills_up_while_compiling(home: Environment, guest: Guest) -> None:
    """A disk that has no room for the compiled program is told so, and nothing half-written stays on it."""
    done = on_small_disk(home, "XDG_CACHE_HOME", "40k", "", guest("kit_p1.wasm"))
    assert (done.returncode, done.stdout) == (OURS, "")
    said = refusal(done)
    assert "No space left on device" in said
    assert "cache" in said

"""Where our directories are, and when they are not trusted."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wasm_shim.errors import InvalidArgument, PermissionDenied, ResourceExhausted, WasmShimError
from wasm_shim.paths import Paths, images_path, open_private, storage_error, user_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root")
XDG = {"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}


@contextmanager
def being(uid: int) -> Iterator[None]:
    """Be another user, for root; for others nothing changes."""
    before = os.geteuid(), os.getegid()
    if ROOT:
        os.setegid(uid)
        os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


@pytest.fixture
def nobody() -> Iterator[int]:
    """Be an ordinary user, without an entry in the user database where the tests run as root."""
    uid = 54321 if ROOT else os.geteuid()
    with being(uid):
        yield uid


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def trusted(path: Path) -> None:
    os.close(open_private(str(path), "test", "do this"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Where they are


def test_variables_win() -> None:
    """XDG variables are followed, for root, too."""
    assert user_paths(XDG | {"HOME": "/h"}) == Paths("/s/wasm-shim", "/c/wasm-shim", "/r/wasm-shim")
    slashes = {name: f"{value}//" for name, value in XDG.items()}
    assert user_paths(slashes) == user_paths(XDG)


def test_directories_inside() -> None:
    """Containers and names are state, programs are cache."""
    paths = user_paths(XDG)
    assert (paths.containers, paths.names) == ("/s/wasm-shim/containers", "/s/wasm-shim/names")
    assert paths.programs == "/c/wasm-shim/programs"


def test_images_are_data() -> None:
    """They follow a variable of their own, below HOME without it, and the other directories do without that one."""
    assert images_path({"XDG_DATA_HOME": "/d/"}) == "/d/wasm-shim/images"
    assert "XDG_DATA_HOME" not in XDG


@as_root
def test_images_of_root() -> None:
    assert images_path({}) == images_path({"XDG_DATA_HOME": "relative"}) == "/var/lib/wasm-shim/images"


@as_root
@pytest.mark.usefixtures("nobody")
def test_images_of_a_user() -> None:
    """Somebody without an entry in the user database."""
    assert images_path({"HOME": "/h"}) == "/h/.local/share/wasm-shim/images"
    with pytest.raises(InvalidArgument, match="set HOME or XDG_DATA_HOME"):
        images_path({})


@as_root
@pytest.mark.parametrize("odd", ["", "relative", "./x"])
def test_defaults_of_root(odd: str) -> None:
    """Root has the system's directories, and needs no HOME; a relative variable is ignored."""
    expected = Paths("/var/lib/wasm-shim", "/var/cache/wasm-shim", "/run/wasm-shim")
    assert user_paths(dict.fromkeys(XDG, odd)) == user_paths({}) == expected


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("odd", ["", "relative", "./x"])
def test_defaults_below_home(odd: str) -> None:
    """A user has them below HOME; a relative variable is ignored."""
    paths = user_paths(dict.fromkeys(XDG, odd) | {"HOME": "/h/"})
    assert (paths.state, paths.cache) == ("/h/.local/state/wasm-shim", "/h/.cache/wasm-shim")


@as_root
@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_rejects_a_user_without_a_home(nobody: int, home: dict[str, str]) -> None:
    """Without HOME and without an entry in the user database, the variable that would help is named."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        rest = {key: value for key, value in XDG.items() if key != name}
        with pytest.raises(InvalidArgument, match=f"user {nobody} has no home directory; set HOME or {name}$"):
            user_paths(rest | home)
    assert user_paths(XDG | home).state == "/s/wasm-shim"


@as_root
def test_home_comes_from_the_user_database() -> None:
    """Without HOME the user database is asked."""
    somebody = next(entry for entry in pwd.getpwall() if entry.pw_uid and entry.pw_dir.startswith("/"))
    with being(somebody.pw_uid):
        assert user_paths({}).cache == f"{somebody.pw_dir.rstrip('/')}/.cache/wasm-shim"


@as_root
def test_runtime_directory_without_a_login(nobody: int) -> None:
    """Without XDG_RUNTIME_DIR and /run/user, sockets are in an own directory below the temporary one."""
    assert user_paths({"HOME": "/h", "TMPDIR": "/t"}).runtime == f"/t/wasm-shim-{nobody}"
    assert user_paths({"HOME": "/h"}).runtime == f"/tmp/wasm-shim-{nobody}"


# Whether they are trusted


def test_makes_a_private_directory(tmp_path: Path) -> None:
    """It and its missing parents are made for us alone, and found again."""
    path = tmp_path / "a" / "b" / "c"
    trusted(path)
    assert [mode(directory) for directory in (path, path.parent, path.parent.parent)] == [0o700] * 3
    trusted(path)


@pytest.mark.usefixtures("umask")
def test_parents_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """A umask of 0 opens none of the directories that we make."""
    trusted(tmp_path / "a" / "b" / "c")
    assert mode(tmp_path / "a") == 0o700


@pytest.mark.parametrize("wrong", [0o755, 0o770, 0o701, 0o777])
def test_rejects_a_directory_open_to_others(tmp_path: Path, wrong: int) -> None:
    """The directory itself must be closed to everyone else."""
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(wrong)
    with pytest.raises(PermissionDenied, match=r"cannot trust the test directory .*: its mode is not 0700; do this"):
        trusted(path)


@pytest.mark.parametrize("wrong", [0o777, 0o702])
def test_rejects_a_parent_open_to_others(tmp_path: Path, wrong: int) -> None:
    """No directory above may be writable by others, unless it is sticky."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(wrong)
    with pytest.raises(PermissionDenied, match=f"below {above}: others can write to it; do this"):
        trusted(above / "x" / "y")
    above.chmod(wrong | stat.S_ISVTX)
    trusted(above / "x" / "y")


def test_own_group_may_write_above(tmp_path: Path) -> None:
    """A parent may be writable by our own group, which on most systems has one member."""
    above = tmp_path / "above"
    above.mkdir()
    os.chown(above, -1, os.getegid())
    above.chmod(0o770)
    trusted(above / "x")


@as_root
def test_rejects_a_parent_that_another_group_writes(tmp_path: Path) -> None:
    """Another group's write permission is refused."""
    above = tmp_path / "above"
    above.mkdir()
    os.chown(above, -1, 54321)
    above.chmod(0o770)
    with pytest.raises(PermissionDenied, match="others can write to it"):
        trusted(above / "x")


@as_root
def test_rejects_what_another_user_owns(tmp_path: Path) -> None:
    """The directory and those above it must be ours or root's."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    os.chown(other, 54321, -1)
    with pytest.raises(PermissionDenied, match="its owner is user 54321; do this"):
        trusted(other)
    with pytest.raises(PermissionDenied, match=f"below {other}: user 54321 owns it"):
        trusted(other / "x")


def test_rejects_a_link(tmp_path: Path) -> None:
    """The directory is no symbolic link; one above it is judged by where it leads."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(PermissionDenied, match=r"cannot use the test directory .*link"):
        trusted(tmp_path / "link")
    trusted(tmp_path / "link" / "x")
    assert (tmp_path / "real" / "x").is_dir()


@pytest.mark.parametrize("name", ["file", "file/x", "loop/x"])
def test_rejects_what_is_no_directory(tmp_path: Path, name: str) -> None:
    """A file or an endless link on the way is refused."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(PermissionDenied, match=r"cannot use the test directory .*; do this"):
        trusted(tmp_path / name)


@pytest.mark.usefixtures("nobody")
def test_rejects_an_unwritable_parent() -> None:
    """Where we may make nothing, the kernel's reason is passed on."""
    with pytest.raises(PermissionDenied, match=r"cannot use the test directory /wasm-shim-x: .*; do this"):
        trusted(Path("/wasm-shim-x"))


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (28, ResourceExhausted, "No space left on device; make room or do this"),
        (122, ResourceExhausted, "make room"),
        (24, ResourceExhausted, "Too many open files"),
        (20, PermissionDenied, "Not a directory; do this"),
        (40, PermissionDenied, "; do this"),
        (13, PermissionDenied, "Permission denied; do this"),
        (30, PermissionDenied, "Read-only file system; do this"),
        (5, PermissionDenied, "Input/output error; do this"),
    ],
)
def test_kernel_errors_get_a_class(number: int, kind: type[WasmShimError], words: str) -> None:
    """A failed file operation is a domain error that names the directory and the remedy."""
    error = storage_error(OSError(number, os.strerror(number)), "test", "/d", "do this")
    assert type(error) is kind
    assert "test directory /d" in error.message
    assert words in error.message

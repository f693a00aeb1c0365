"""Where state, cache and sockets live, and the check that nobody else can write there.

Rules for the command line: the XDG base directory specification; as root, `/var/lib`, `/var/cache` and `/run`
where no XDG variable is set. Under containerd: `/run` and `/var/cache`, or all below WASM_SHIM_ROOT.
"""

import errno
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from wasm_shim.errors import InvalidArgument, PermissionDenied, ResourceExhausted, WasmShimError

_NAME = "wasm-shim"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Paths(NamedTuple):
    """The three directories of one user; none needs to exist yet."""

    state: str
    cache: str
    runtime: str

    @property
    def containers(self) -> str:
        """One directory per container."""
        return f"{self.state}/containers"

    @property
    def names(self) -> str:
        """One file per container name, holding the id."""
        return f"{self.state}/names"

    @property
    def programs(self) -> str:
        """Precompiled programs."""
        return f"{self.cache}/programs"


class ShimPaths(NamedTuple):
    """The directories under containerd; neither needs to exist yet."""

    root: str
    programs: str

    @property
    def sockets(self) -> str:
        """One socket per pod shim."""
        return f"{self.root}/s"


def shim_paths(environ: Mapping[str, str]) -> ShimPaths:
    """The directories under containerd. Raises InvalidArgument for a WASM_SHIM_ROOT that is not absolute.

    The script that containerd runs has the first rule, too.
    """
    root = environ.get("WASM_SHIM_ROOT", "")
    if not root:
        return ShimPaths(f"/run/{_NAME}", f"/var/cache/{_NAME}/programs")
    if not root.startswith("/"):
        raise InvalidArgument(f"WASM_SHIM_ROOT is {root!r}; it must be an absolute path")
    return ShimPaths(root.rstrip("/") or "/", f"{root.rstrip('/')}/programs")


def user_paths(environ: Mapping[str, str]) -> Paths:
    """The directories of the effective user.

    Raises InvalidArgument where neither the environment nor the user database names a home.
    """
    root = os.geteuid() == 0
    return Paths(
        state=_base(environ, "XDG_STATE_HOME", "/var/lib" if root else "", ".local/state"),
        cache=_base(environ, "XDG_CACHE_HOME", "/var/cache" if root else "", ".cache"),
        runtime=_runtime(environ, root=root),
    )


def images_path(environ: Mapping[str, str]) -> str:
    """The effective user's images, an OCI layout. Raises InvalidArgument like `user_paths`.

    Apart from these, as who runs files only needs no home.
    """
    return f"{_base(environ, 'XDG_DATA_HOME', '/var/lib' if os.geteuid() == 0 else '', '.local/share')}/images"


def _base(environ: Mapping[str, str], variable: str, system: str, below_home: str) -> str:
    given = environ.get(variable, "")
    if given.startswith("/"):  # the specification: relative paths are invalid and ignored
        return f"{given.rstrip('/')}/{_NAME}"
    return f"{system or f'{_home(environ, variable)}/{below_home}'}/{_NAME}"


def _home(environ: Mapping[str, str], variable: str) -> str:
    home = environ.get("HOME", "")
    if not home:
        import pwd  # only where HOME is missing: a rare way, and the module loads a C extension

        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            home = ""
    if not home.startswith("/"):
        message = f"HOME is not set and user {os.geteuid()} has no home directory; set HOME or {variable}"
        raise InvalidArgument(message)
    return home.rstrip("/")


def _runtime(environ: Mapping[str, str], *, root: bool) -> str:
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        return f"{given.rstrip('/')}/{_NAME}"
    if root:
        return f"/run/{_NAME}"
    own = f"/run/user/{os.geteuid()}"
    if os.access(own, os.W_OK | os.X_OK):
        return f"{own}/{_NAME}"
    return f"{environ.get('TMPDIR') or '/tmp'}/{_NAME}-{os.geteuid()}"  # noqa: S108 - checked by open_private


def open_private(path: str, what: str, remedy: str) -> int:
    """Open (and make, mode 0700) a directory that only we can write; a descriptor of it.

    Every directory above must belong to root or to us and be closed to others' writes (a sticky one such
    as /tmp may be open); `path` itself must be ours, no symbolic link, and closed to everyone else. `what`
    and `remedy` complete the sentence of an error. Raises PermissionDenied or ResourceExhausted.
    """
    try:
        parent, name = os.path.split(path)
        resolved = _made(parent)
        _check_above(resolved, what, remedy)
        try:
            os.mkdir(f"{resolved}/{name}", 0o700)
        except FileExistsError:
            pass
        directory = os.open(f"{resolved}/{name}", _DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise storage_error(error, what, path, remedy) from error
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(directory)
        owner = "mode is not 0700" if status.st_uid == os.geteuid() else f"owner is user {status.st_uid}"
        raise PermissionDenied(f"cannot trust the {what} directory {path}: its {owner}; {remedy}")
    return directory


def _made(path: str) -> str:
    """The real path of a directory, made with its parents where it is missing (mode 0700, as XDG asks)."""
    if not os.path.isdir(path):
        _made(os.path.dirname(path))  # os.makedirs would leave the mode of all but the last one to the umask
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    return os.path.realpath(path)


def _check_above(resolved: str, what: str, remedy: str) -> None:
    """Refuse a path that another user could swap under us."""
    path = resolved
    while True:
        status = os.stat(path)
        own_group = status.st_gid in (0, os.getegid())  # a user's private group is as good as the user
        open_to_others = status.st_mode & (0o002 if own_group else 0o022) and not status.st_mode & stat.S_ISVTX
        foreign = status.st_uid not in (0, os.geteuid()) and status.st_uid != _overflow_uid()
        if foreign or open_to_others:
            why = "others can write to it" if open_to_others else f"user {status.st_uid} owns it"
            raise PermissionDenied(f"cannot trust the {what} directory below {path}: {why}; {remedy}")
        if path == "/":
            return
        path = os.path.dirname(path)


def _overflow_uid() -> int:
    """How root's directories look inside a user namespace that does not map root, else -1."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        maps_all = file.readline().split() == ["0", "0", "4294967295"]
    if maps_all:
        return -1
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return int(file.read())


def unnamed_file(directory: int) -> int:
    """A new writable file without a name in an open directory; it vanishes unless it gets one. Raises OSError."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):  # older overlayfs, NFS
            return os.memfd_create("program")
        raise


def name_file(descriptor: int, path: str) -> None:
    """Give a file of `unnamed_file` its name; one that is there already has the same bytes. Raises OSError."""
    try:
        os.link(f"/proc/self/fd/{descriptor}", path, follow_symlinks=True)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(descriptor, path)


def _copy(descriptor: int, path: str) -> None:
    """From memory, where the file system has no unnamed files."""
    temporary, sent, size = f"{path}.{os.getpid()}-{descriptor}", 0, os.fstat(descriptor).st_size
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while sent < size:
            sent += os.sendfile(file, descriptor, sent, size - sent)
        os.rename(temporary, path)
    finally:
        os.close(file)
        remove_file(temporary)


def remove_file(path: str) -> None:
    """Remove a file; one that has gone already, or was removed by a faster process, is no error. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def storage_error(error: OSError, what: str, path: str, remedy: str) -> WasmShimError:
    """The domain error of a failed file operation in one of our directories."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EFBIG):
        return ResourceExhausted(f"cannot write to the {what} directory {path}: {reason}; make room or {remedy}")
    return PermissionDenied(f"cannot use the {what} directory {path}: {reason}; {remedy}")

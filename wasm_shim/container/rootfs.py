"""A container's tree: its root file system and everything mounted in it, in a mount namespace of this process.

Runs in a process of its own (see `prepare`), as any of it may block for as long as a file system likes.
"""

import os
import posixpath
import stat
from typing import Final

from wasm_shim.container.isolation import Isolation
from wasm_shim.container.spec import KERNEL_FILE_SYSTEMS
from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound
from wasm_shim.guest import Mount, Tmpfs
from wasm_shim.kernel import calls
from wasm_shim.task.ports import RootMount

_MAX_DATA: Final = 4095  # bytes of mount(2)'s data: a page with its NUL

# mount(8)'s names of mount(2)'s flags, set or cleared.
_SET: Final = {
    "ro": calls.MS_RDONLY,
    "nosuid": calls.MS_NOSUID,
    "nodev": calls.MS_NODEV,
    "noexec": calls.MS_NOEXEC,
    "bind": calls.MS_BIND,
    "rbind": calls.MS_BIND | calls.MS_REC,
    "sync": 0x10,
    "dirsync": 0x80,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": 0x200000,
    "strictatime": 0x1000000,
    "lazytime": 0x2000000,
}
_CLEARED: Final = {"rw": calls.MS_RDONLY, "suid": calls.MS_NOSUID, "dev": calls.MS_NODEV, "exec": calls.MS_NOEXEC}
# Nothing that we mount travels to the host or back, and a guest's tree has the atime rule of its file systems.
_WITHOUT_EFFECT: Final = frozenset(
    "defaults private rprivate slave rslave shared rshared unbindable runbindable async atime norelatime nostrictatime"
    " tmpcopyup rro".split()
)


def build_root(
    isolation: Isolation, rootfs: tuple[RootMount, ...], mounts: tuple[Mount | Tmpfs, ...], directory: str
) -> int:
    """Make the tree in a new mount namespace and return a descriptor of its root; `directory` is made in it.

    Raises InvalidArgument, NotFound or FailedPrecondition with the mount's name.
    """
    root = os.path.realpath(isolation.root)
    try:
        calls.unshare(calls.CLONE_NEWNS)
        calls.mount(None, b"/", None, calls.MS_REC | calls.MS_SLAVE, None)  # nothing we mount travels to the host
    except OSError as error:
        raise FailedPrecondition(f"cannot make a mount namespace for {root}: {error.strerror}; run as root") from error
    _make_root(root)
    for mount in rootfs or (RootMount("bind", root, "", ("rbind",)),):
        _mount_root(mount, root)
    tree = _open_directory(root)
    calls.restrict_mount(tree, calls.MS_NOSUID | calls.MS_NODEV, below=True)
    for inner in mounts:
        _mount_inside(tree, inner)
    _make_working_directory(tree, directory)
    if isolation.root_read_only:
        calls.restrict_mount(tree, calls.MS_RDONLY, below=False)
    # What the host mounts in a volume from now on stays outside: it has not been looked at, and may be a procfs.
    calls.mount(None, b"/proc/self/fd/%d" % tree, None, calls.MS_REC | calls.MS_PRIVATE, None)
    _refuse_kernel_file_systems(root)
    return tree


def _make_root(path: str) -> None:
    """Make the directory where it is missing, as runc's shim does; not those above it, which nobody would remove."""
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        return
    except OSError as error:
        raise InvalidArgument(f"root.path in config.json is {path}: {error.strerror}; make that directory") from error


def _open_directory(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mount_root(mount: RootMount, root: str) -> None:
    flags, data = parse_options(mount.options)
    if mount.type == "bind":
        flags |= calls.MS_BIND
    try:
        if len(os.fsencode(data)) > _MAX_DATA and mount.type == "overlay":
            data = _shortened(data)
        _check_data(data, "the root file system", "use fewer layers")
        source, kind = os.fsencode(mount.source), os.fsencode(mount.type)
        place = _place(_open_directory(root), mount.target, directory=True)
        target = b"/proc/self/fd/%d" % place  # by name, a link of an earlier mount could lead out of the root
        if flags & calls.MS_BIND:  # the kernel takes other flags for a bind mount only afterwards
            calls.mount(source, target, None, flags & (calls.MS_BIND | calls.MS_REC), None)
            mounted = _place(_open_directory(root), mount.target, directory=True)
            calls.restrict_mount(mounted, flags & calls.MS_RDONLY, below=True)
        else:
            calls.mount(source, target, kind, flags, os.fsencode(data) or None)
    except OSError as error:
        what = f"the root file system ({mount.type} of {mount.source})"
        raise FailedPrecondition(f"cannot mount {what}: {error.strerror}; look at the snapshotter") from error


def parse_options(options: tuple[str, ...]) -> tuple[int, str]:
    """mount(2)'s flags and data for the options of a mount; raises InvalidArgument."""
    flags, data = 0, []
    for option in options:
        if "\0" in option or option.startswith(("uidmap=", "gidmap=")):
            raise InvalidArgument(f"mount option {option!r}: wasm-shim has no such mounts; use another snapshotter")
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEARED:
            flags &= ~_CLEARED[option]
        elif option not in _WITHOUT_EFFECT:
            data.append(option)
    return flags, ",".join(data)


def _check_data(data: str, what: str, remedy: str) -> None:
    """Raise InvalidArgument for more than the kernel takes: it would leave out the rest without a word."""
    size = len(os.fsencode(data))
    if size > _MAX_DATA:
        raise InvalidArgument(f"the options of {what} have {size} bytes; {remedy}")


def _shortened(data: str) -> str:
    """The options of an overlay of many layers, with those relative to the current directory, which becomes theirs."""
    options = data.split(",")
    at = next((i for i, option in enumerate(options) if option.startswith("lowerdir=")), None)
    if at is None:
        return data
    layers = options[at].removeprefix("lowerdir=").split(":")
    if not all(layer.startswith("/") for layer in layers):
        return data
    common = os.path.commonpath(layers)
    os.chdir(common)
    options[at] = "lowerdir=" + ":".join(os.path.relpath(layer, common) for layer in layers)
    return ",".join(options)


def _mount_inside(tree: int, mount: Mount | Tmpfs) -> None:
    try:
        if isinstance(mount, Mount):
            _bind_inside(tree, mount)
        else:
            place = _place(tree, mount.target, directory=True)
            flags, data = parse_options(mount.options)
            flags |= calls.MS_NOSUID | calls.MS_NODEV
            _check_data(data, f"the mount {mount.target}", "leave some out")
            calls.mount(b"tmpfs", b"/proc/self/fd/%d" % place, b"tmpfs", flags, os.fsencode(data) or None)
            os.close(place)
    except OSError as error:
        raise FailedPrecondition(f"cannot mount {mount.target} in the container: {error.strerror}") from error


def _bind_inside(tree: int, mount: Mount) -> None:
    try:
        source = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as error:
        message = f"mount source {mount.source} does not exist; create it or mount another directory"
        raise NotFound(message) from error
    place = _place(tree, mount.target, directory=stat.S_ISDIR(os.fstat(source).st_mode))
    calls.bind_mount(source, place, read_only=mount.read_only)
    os.close(place)
    os.close(source)


def _place(tree: int, path: str, *, directory: bool) -> int:
    """A descriptor of the mount point beneath the root, made where it is missing; no link leads out."""
    names = [name for name in posixpath.normpath(f"///{path}").split("/") if name]
    inside = ""
    for number, name in enumerate(names, start=1):
        kind = os.O_DIRECTORY if directory or number < len(names) else 0
        parent, inside = inside or "/", f"{inside}/{name}"
        try:
            os.close(calls.open_in_root(tree, inside, os.O_PATH | kind))
        except FileNotFoundError:
            _make(tree, parent, name, directory=bool(kind))
    return calls.open_in_root(tree, inside or "/", os.O_PATH)


def _make(tree: int, parent: str, name: str, *, directory: bool) -> None:
    above = calls.open_in_root(tree, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=above)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(name, flags, 0o644, dir_fd=above))
    finally:
        os.close(above)


def _make_working_directory(tree: int, path: str) -> None:
    try:
        os.close(_place(tree, path, directory=True))
    except OSError as error:
        message = f"working directory {path} is not in the image and cannot be made: {error.strerror};"
        raise InvalidArgument(f"{message} set another one") from error


def _refuse_kernel_file_systems(root: str) -> None:
    """Raise InvalidArgument if one of them shows in the tree, through a bind mount of what is above it."""
    for character in "\\ \t\n":  # as proc_pid_mountinfo(5) writes them
        root = root.replace(character, f"\\{ord(character):03o}")
    below = root.rstrip("/") + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            place, kind = left.split(" ")[4], right.split(" ")[0]
            if kind in KERNEL_FILE_SYSTEMS and f"{place}/".startswith(below):
                message = f"cannot show {place[len(below) - 1 :] or '/'} to a guest: {kind} is one of the kernel's own"
                raise InvalidArgument(f"{message} file systems, as that of /proc/self/mem is; mount what it needs only")

"""The kernel's wall around a guest: which kind this host allows, and its steps, written down for the guest's process.

The order matters: almost every step works only in its place. Nothing of WASI may run before the last one,
since its threads would keep what they were started with.
"""

import enum
import os
import resource
import signal
import stat
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from wasm_shim.container.isolation import Isolation, User
from wasm_shim.guest import Mount, Preopen
from wasm_shim.kernel import calls, landlock
from wasm_shim.kernel.machine import Machine
from wasm_shim.kernel.routine import NOT_NEGATIVE, Argument, Label, Result, Routine, function
from wasm_shim.kernel.seccomp import Filter

_ROOT: Final = "/proc"  # any directory that every host has: an empty root is mounted over it, in private
_UNLIMITED: Final = (1 << 64) - 1

_close, _fchown, _mkdir = function("close"), function("fchown"), function("mkdir")
_mount, _open, _prctl = function("mount"), function("open"), function("prctl")
_sethostname, _setns, _setrlimit = function("sethostname"), function("setns"), function("setrlimit")
_syscall, _umask, _unshare, _write = function("syscall"), function("umask"), function("unshare"), function("write")


class Wall(enum.Enum):
    """How guests are walled in, strongest first; seccomp and no_new_privs belong to each."""

    NAMESPACES = "namespaces"
    USER_NAMESPACE = "user namespace"
    LANDLOCK = "Landlock"
    SECCOMP = "seccomp only"

    @property
    def private_mounts(self) -> bool:
        """Whether the guest gets a root of its own."""
        return self in (Wall.NAMESPACES, Wall.USER_NAMESPACE)


def strongest_wall(machine: Machine) -> Wall:
    """What this process may build, found by building it in forked children. Needs a single thread."""
    for wall in (Wall.NAMESPACES, Wall.USER_NAMESPACE):
        if _works(wall, machine):
            return wall
    return Wall.LANDLOCK if landlock.version() else Wall.SECCOMP


def _works(wall: Wall, machine: Machine) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            own_pids = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
            trial = Routine()
            detach_pids(trial, wall)
            if wall is Wall.NAMESPACES:
                # Root of a user namespace only may not go back.
                trial.call(_setns, own_pids, calls.CLONE_NEWPID, check=NOT_NEGATIVE)
            enter_private_root(trial, ())
            status = 1 if machine.carry_out(trial.lay_down()) else 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def detach_pids(routine: Routine, wall: Wall, joined: Argument = None) -> None:
    """In the parent: let the next clone be process 1 of a new PID namespace, or join the one of a descriptor.

    Without privileges that takes a user namespace, which the parent enters for good: so such a parent has
    one container.
    """
    if wall is Wall.NAMESPACES:
        if joined is None:
            _try(routine, "make a PID namespace", _unshare, calls.CLONE_NEWPID)
        else:
            _try(routine, "join the PID namespace", _setns, joined, calls.CLONE_NEWPID)
    elif wall is Wall.USER_NAMESPACE:
        user, group = os.geteuid(), os.getegid()
        _try(routine, "make a user namespace", _unshare, calls.CLONE_NEWUSER | calls.CLONE_NEWPID)
        _write_file(routine, "/proc/self/setgroups", "deny")
        _write_file(routine, "/proc/self/uid_map", f"{user} {user} 1")
        _write_file(routine, "/proc/self/gid_map", f"{group} {group} 1")


def _try(routine: Routine, what: str, address: int, *arguments: Argument) -> Result:
    """A call whose failure is the end of the wall."""
    return routine.call(address, *arguments, check=NOT_NEGATIVE, what=what)


def _open_file(routine: Routine, path: str, flags: int) -> Result:
    return _try(routine, path, _open, os.fsencode(path), flags | os.O_CLOEXEC)


def _write_file(routine: Routine, path: str, text: str) -> None:
    file = _open_file(routine, path, os.O_WRONLY)
    _try(routine, path, _write, file, text.encode(), len(text))
    routine.call(_close, file)


def enter_private_root(routine: Routine, mounts: Iterable[Mount]) -> None:
    """In the child: an empty read-only root with just these mounts; the host's files are gone."""
    _try(routine, "make namespaces", _unshare, calls.CLONE_NEWNS | calls.CLONE_NEWUTS | calls.CLONE_NEWIPC)
    # Nothing we mount travels to the host.
    _try(routine, "make mounts private", _mount, None, b"/", None, calls.MS_REC | calls.MS_PRIVATE, None)
    flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    # The empty root hides what lies below its place: hold the sources open first.
    sources = [(_open_file(routine, mount.source, os.O_PATH), mount) for mount in mounts]
    options = b"size=64k,nr_inodes=4k,mode=755"
    _try(routine, "mount an empty root", _mount, b"wasm-shim", _ROOT.encode(), b"tmpfs", flags, options)
    made = set[str]()
    for source, mount in sources:
        target = f"{_ROOT}{mount.target}"
        _make_place(routine, mount.source, target, made)
        place = _open_file(routine, target, os.O_PATH)
        _bind(routine, source, place, mount)
        routine.call(_close, place)
        routine.call(_close, source)
    read_only = flags | calls.MS_REMOUNT | calls.MS_BIND | calls.MS_RDONLY
    _try(routine, "make the root read-only", _mount, None, _ROOT.encode(), None, read_only, None)
    root = _open_file(routine, _ROOT, os.O_PATH | os.O_DIRECTORY)
    _pivot_into(routine, root)
    _try(routine, "name the host", _sethostname, b"guest", 5)


def _make_place(routine: Routine, source: str, target: str, made: set[str]) -> None:
    """A mount point in our empty root, of the same kind as its source."""
    if os.path.isdir(source):
        made.add(target)
        _try(routine, target, _mkdir, os.fsencode(target), 0o755)
        return
    parent = os.path.dirname(target)
    if parent not in made:
        made.add(parent)
        _try(routine, parent, _mkdir, os.fsencode(parent), 0o755)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    file = _try(routine, target, _open, os.fsencode(target), flags, 0o600)
    routine.call(_close, file)


def _bind(routine: Routine, source: Result, place: Result, mount: Mount) -> None:
    """See `kernel.calls.bind_mount`."""
    what = f"mount {mount.source}"
    tree = _try(routine, what, _syscall, calls.SYS_OPEN_TREE, source, b"", calls.OPEN_WHOLE_TREE)
    flags = calls.MS_NOSUID | calls.MS_NODEV | (calls.MS_RDONLY if mount.read_only else 0)
    attributes = routine.data(struct.pack("QQQQ", flags, 0, 0, 0))
    _try(routine, what, _syscall, calls.SYS_MOUNT_SETATTR, tree, b"", calls.WHOLE_TREE, attributes, 32)
    _try(routine, what, _syscall, calls.SYS_MOVE_MOUNT, tree, b"", place, b"", calls.MOVE_MOUNT_EMPTY_PATHS)
    routine.call(_close, tree)


def _pivot_into(routine: Routine, root: Result) -> None:
    """Make the mounted directory of this descriptor the root, and detach the old root, which is stacked on it."""
    _try(routine, "enter its root", function("fchdir"), root)
    _try(routine, "enter its root", _syscall, calls.SYS_PIVOT_ROOT, b".", b".")
    _try(routine, "leave the host's root", function("umount2"), b".", calls.MNT_DETACH)
    _try(routine, "enter its root", function("chdir"), b"/")
    routine.call(_close, root)


class Enclosure(NamedTuple):
    """What a guest with a root file system is put into."""

    isolation: Isolation
    namespace: int  # descriptor of the mount namespace that holds its tree
    pid_namespace: int  # descriptor of the one that it joins, or -1
    entrances: tuple[str, ...]  # of its cgroup
    directories: tuple[str, ...]  # those in its root directory

    @property
    def namespaces(self) -> list[int]:
        """The descriptors that its process is forked with."""
        return [self.namespace] if self.pid_namespace < 0 else [self.namespace, self.pid_namespace]

    def enter(self, routine: Routine, namespace: int) -> None:
        """In the child: the cgroup first, so that all that follows is charged to it; the host's files are gone.

        `namespace` is the child's descriptor of the mount namespace.
        """
        isolation = self.isolation
        for entrance in self.entrances:
            _write_file(routine, entrance, "0")
        for path, kind in isolation.joined:
            if kind != calls.CLONE_NEWPID:  # the parent joined that one: it holds for children only
                file = _open_file(routine, path, os.O_RDONLY)
                _try(routine, path, _setns, file, kind)
                routine.call(_close, file)
        _try(routine, "make namespaces", _unshare, isolation.new & ~calls.CLONE_NEWPID)
        if isolation.new & calls.CLONE_NEWUTS and isolation.hostname:
            name = os.fsencode(isolation.hostname)
            _try(routine, "name the host", _sethostname, name, len(name))
        _try(routine, "join its mounts", _setns, namespace, calls.CLONE_NEWNS)
        _pivot_into(routine, _open_file(routine, isolation.root, os.O_PATH | os.O_DIRECTORY))
        routine.call(_close, namespace)
        routine.call(_umask, isolation.user.umask)
        for kind, soft, hard in isolation.limits:
            _set_limit(routine, kind, soft, hard)


def _set_limit(routine: Routine, kind: int, soft: int, hard: int) -> None:
    limit = routine.data(struct.pack("QQ", soft & _UNLIMITED, hard & _UNLIMITED))
    what = f"the kernel refuses the limit {soft}:{hard} of rlimits in config.json"
    _try(routine, what, _setrlimit, kind, limit)


def drop_privileges(routine: Routine, user: User | None, stdio: Iterable[int]) -> None:
    """No capability, no way to gain one, no core file; another user where one is given. Ends with the parent.

    The child's descriptors 0 to 2 are the guest's stdio, this process's `stdio`: it will open them again by name as
    that user.
    """
    _set_limit(routine, resource.RLIMIT_CORE, 0, 0)
    _drop_bounding_set(routine)
    if user:
        for number, descriptor in enumerate(stdio):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
                _try(routine, "hand over its stdio", _fchown, number, user.uid, user.gid)
        groups = routine.data(struct.pack(f"{len(user.groups)}I", *user.groups))
        what = "become its user"
        _try(routine, what, _syscall, calls.SYS_SETGROUPS, len(user.groups), groups)
        _try(routine, what, _syscall, calls.SYS_SETRESGID, user.gid, user.gid, user.gid)
        _try(routine, what, _syscall, calls.SYS_SETRESUID, user.uid, user.uid, user.uid)
    _try(routine, "drop capabilities", function("capset"), routine.data(calls.CAPABILITY_HEADER), routine.cell(24))
    _try(routine, "forgo privileges", _prctl, calls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Last: a change of user clears it.
    _try(routine, "end with its parent", _prctl, calls.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _drop_bounding_set(routine: Routine) -> None:
    """No program that this process ever executes can have a capability; needs CAP_SETPCAP, so before the others go."""
    dropped = Label()
    for capability in range(calls.last_capability + 1):  # refused: none is held, and there is nothing to drop either
        routine.call(_prctl, calls.PR_CAPBSET_DROP, capability, 0, 0, 0, check=NOT_NEGATIVE, otherwise=dropped)
    routine.place(dropped)


def close_doors(
    routine: Routine, wall: Wall, preopens: Iterable[Preopen], seccomp: Filter, stdio: Iterable[int]
) -> None:
    """The last steps; the child's descriptors 0 to 2 are the guest's stdio, this process's `stdio`."""
    if wall is Wall.LANDLOCK:
        grants = [(preopen.path, preopen.writable) for preopen in preopens]
        named = [number for number, descriptor in enumerate(stdio) if not _is_anonymous(descriptor)]
        landlock.restrict(routine, grants, [(number, number > 0) for number in named])
    seccomp.write(routine)


def _is_anonymous(descriptor: int) -> bool:
    """Whether it has no path: Landlock takes no rule for such, and needs none."""
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")

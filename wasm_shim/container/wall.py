"""The kernel's wall around a guest: which kind this host allows, and its steps in the guest's process.

The order matters: almost every step works only in its place. Nothing of WASI may run before the last one,
since its threads would keep what they were started with.
"""

import enum
import errno
import os
import resource
import signal
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

from wasm_shim.container.isolation import Isolation, User
from wasm_shim.errors import FailedPrecondition
from wasm_shim.guest import Mount, Preopen
from wasm_shim.kernel import calls, landlock
from wasm_shim.kernel.seccomp import Filter

_ROOT: Final = "/proc"  # any directory that every host has: an empty root is mounted over it, in private


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


def strongest_wall() -> Wall:
    """What this process may build, found by building it in forked children. Needs a single thread."""
    for wall in (Wall.NAMESPACES, Wall.USER_NAMESPACE):
        if _works(wall):
            return wall
    return Wall.LANDLOCK if landlock.version() else Wall.SECCOMP


def _works(wall: Wall) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            own_pids = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
            detach_pids(wall)
            if wall is Wall.NAMESPACES:
                calls.setns(own_pids, calls.CLONE_NEWPID)  # root of a user namespace only may not go back
            enter_private_root(())
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def detach_pids(wall: Wall, isolation: Isolation | None = None) -> None:
    """In the parent: let the next fork be process 1 of a new PID namespace, or join the one given. Raises OSError.

    Without privileges that takes a user namespace, which the parent enters for good: so such a parent has
    one container.
    """
    if wall is Wall.NAMESPACES:
        joined = [path for path, kind in isolation.joined if kind == calls.CLONE_NEWPID] if isolation else []
        if joined:
            with open(joined[0], "rb") as namespace:
                calls.setns(namespace.fileno(), calls.CLONE_NEWPID)
        else:
            calls.unshare(calls.CLONE_NEWPID)
    elif wall is Wall.USER_NAMESPACE:
        user, group = os.geteuid(), os.getegid()
        try:
            calls.unshare(calls.CLONE_NEWUSER | calls.CLONE_NEWPID)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            message = "a pod shim without root has one container; run the next one in a pod shim of its own"
            raise FailedPrecondition(message) from error
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_private_root(mounts: Iterable[Mount]) -> None:
    """In the child: an empty read-only root with just these mounts; the host's files are gone. Raises OSError."""
    calls.unshare(calls.CLONE_NEWNS | calls.CLONE_NEWUTS | calls.CLONE_NEWIPC)
    calls.mount(None, b"/", None, calls.MS_REC | calls.MS_PRIVATE, None)  # nothing we mount travels to the host
    flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    # The empty root hides what lies below its place: hold the sources open first.
    sources = [(os.open(mount.source, os.O_PATH | os.O_CLOEXEC), mount) for mount in mounts]
    calls.mount(b"wasm-shim", _ROOT.encode(), b"tmpfs", flags, b"size=64k,nr_inodes=4k,mode=755")
    for source, mount in sources:
        target = f"{_ROOT}{mount.target}"
        _make_place(source, target)
        place = os.open(target, os.O_PATH | os.O_CLOEXEC)
        calls.bind_mount(source, place, read_only=mount.read_only)
        os.close(place)
        os.close(source)
    calls.mount(None, _ROOT.encode(), None, flags | calls.MS_REMOUNT | calls.MS_BIND | calls.MS_RDONLY, None)
    root = os.open(_ROOT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    calls.pivot_into(root)
    os.close(root)
    calls.sethostname(b"guest", 5)


def _make_place(source: int, target: str) -> None:
    """A mount point in our empty root, of the same kind as its source."""
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.mkdir(target)
        return
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        os.mkdir(parent)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


class Enclosure(NamedTuple):
    """What a guest with a root file system is put into."""

    isolation: Isolation
    namespace: int  # descriptor of the mount namespace that holds its tree
    entrances: tuple[str, ...]  # of its cgroup

    def enter(self) -> str:
        """In the child: the cgroup first, so that all that follows is charged to it; the host's files are gone.

        Returns a warning, or nothing. Raises OSError.
        """
        isolation = self.isolation
        for entrance in self.entrances:
            _write(entrance, "0")
        warning = _set_oom_score(isolation.oom_score_adj)
        for path, kind in isolation.joined:
            if kind != calls.CLONE_NEWPID:  # the parent joined that one: it holds for children only
                with open(path, "rb") as namespace:
                    calls.setns(namespace.fileno(), kind)
        calls.unshare(isolation.new & ~calls.CLONE_NEWPID)
        if isolation.new & calls.CLONE_NEWUTS and isolation.hostname:
            name = os.fsencode(isolation.hostname)
            calls.sethostname(name, len(name))
        calls.setns(self.namespace, calls.CLONE_NEWNS)
        root = os.open(os.path.realpath(isolation.root), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        calls.pivot_into(root)
        os.close(root)
        os.umask(isolation.user.umask)
        for limit in isolation.limits:
            _set_limit(*limit)
        return warning


def _set_limit(kind: int, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(kind, (soft, hard))
    except ValueError as error:  # as Python has it when the kernel refuses
        raise OSError(errno.EPERM, f"the kernel refuses the limit {soft}:{hard} of rlimits in config.json") from error


def _set_oom_score(value: int) -> str:
    try:
        _write("/proc/self/oom_score_adj", str(value))
    except OSError as error:  # lowering it takes CAP_SYS_RESOURCE, which not every node's containerd has
        return f"cannot set oom_score_adj to {value}: {error.strerror}"
    return ""


def drop_privileges(user: User | None) -> None:
    """No capability, no way to gain one, no core file; another user where one is given. Ends with the parent.

    Descriptors 0 to 2 are the guest's stdio, which it will open again by name as that user. Raises OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    calls.drop_bounding_set()
    if user:
        for descriptor in (0, 1, 2):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
                os.fchown(descriptor, user.uid, user.gid)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    calls.drop_capabilities()
    calls.set_no_new_privileges()
    calls.set_parent_death_signal(signal.SIGKILL)  # last: a change of user clears it


def close_doors(wall: Wall, preopens: Iterable[Preopen], seccomp: Filter) -> None:
    """The last steps; descriptors 0 to 2 are the guest's stdio. Raises OSError."""
    if wall is Wall.LANDLOCK:
        grants = [(preopen.path, preopen.writable) for preopen in preopens]
        landlock.restrict(grants, ((0, False), (1, True), (2, True)))
    seccomp.load()

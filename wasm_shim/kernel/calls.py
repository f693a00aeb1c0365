"""System calls by ctypes, each raising OSError. Numbers are those of x86-64 (arch/x86/entry/syscalls)."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from ctypes import c_char_p, c_int, c_long, c_ulong
from typing import Any, Final

CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
SYS_CLONE: Final = 56
SYS_SETGROUPS: Final = 116
SYS_SETRESUID: Final = 117
SYS_SETRESGID: Final = 119
SYS_PIVOT_ROOT: Final = 155
SYS_OPEN_TREE: Final = 428
SYS_MOVE_MOUNT: Final = 429
SYS_CLOSE_RANGE: Final = 436
_SYS_OPENAT2: Final = 437
SYS_MOUNT_SETATTR: Final = 442
_SYS_INOTIFY_ADD_WATCH: Final = 254
_SYS_INOTIFY_INIT1: Final = 294
_IN_MODIFY: Final = 2
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
WHOLE_TREE: Final = _AT_EMPTY_PATH | _AT_RECURSIVE  # the mount of a descriptor and those in it
OPEN_WHOLE_TREE: Final = _OPEN_TREE_CLONE | WHOLE_TREE | os.O_CLOEXEC
MOVE_MOUNT_EMPTY_PATHS: Final = 0x44  # both source and target are the descriptors themselves
_RESOLVE_IN_ROOT: Final = 0x10

_UCRED: Final = struct.Struct("iII")  # struct ucred {pid, uid, gid}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = c_long


def _function(name: str, *argument_types: Any) -> Any:
    function = getattr(_libc, name)
    function.argtypes, function.restype = argument_types, c_int

    def call(*arguments: Any) -> None:
        if function(*arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    return call


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """A raw system call; its result, or OSError. Integers are widened as a variadic C call needs it."""
    result = _libc.syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"system call {number}: {os.strerror(error)}")
    return int(result)


unshare = _function("unshare", c_int)
setns = _function("setns", c_int, c_int)
mount = _function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_prctl = _function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = _function("capset", c_char_p, c_char_p)


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send us this signal when the parent ends; a change of credentials clears it."""
    _prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def set_name(name: str) -> None:
    """The name that process listings show, of up to 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode())
    _prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def set_no_new_privileges() -> None:
    """No later exec can gain privileges; the precondition of seccomp and Landlock without root."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def close_descriptors_except(kept: Iterable[int]) -> None:
    """Close every descriptor above 2 but these."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 1 << 30)


def drop_bounding_set() -> None:
    """No program that this process ever executes can have a capability; needs CAP_SETPCAP, so before the others go."""
    for capability in range(last_capability + 1):
        try:
            _prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        except PermissionError:  # none held: nothing to drop either
            break


CAPABILITY_HEADER: Final = struct.pack("II", 0x20080522, 0)  # version 3 of capset(2), this thread


def drop_capabilities() -> None:
    """Empty the capability sets of this thread, for user 0, too."""
    _capset(CAPABILITY_HEADER, bytes(24))


def _read_last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


last_capability: Final = _read_last_capability()


def bind_mount(source: int, place: int, *, read_only: bool) -> None:
    """Bind the file or directory of a descriptor over that of `place`, with what is mounted below it.

    Its flags are set before it shows: no device files, no set-user-id; `read_only` holds for the whole tree.
    """
    tree = syscall(SYS_OPEN_TREE, source, b"", OPEN_WHOLE_TREE)
    try:
        flags = MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
        attributes = struct.pack("QQQQ", flags, 0, 0, 0)
        syscall(SYS_MOUNT_SETATTR, tree, b"", WHOLE_TREE, attributes, len(attributes))
        syscall(SYS_MOVE_MOUNT, tree, b"", place, b"", MOVE_MOUNT_EMPTY_PATHS)
    finally:
        os.close(tree)


def restrict_mount(mounted: int, flags: int, *, below: bool) -> None:
    """Add MS_RDONLY, MS_NOSUID, MS_NODEV to the mount at whose root this is; `below`: to those in it, too."""
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)  # these three are the same bits as MOUNT_ATTR_…
    whose = _AT_EMPTY_PATH | (_AT_RECURSIVE if below else 0)
    syscall(SYS_MOUNT_SETATTR, mounted, b"", whose, attributes, len(attributes))


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as if the directory of descriptor `root` were /: no link and no `..` leads out of it."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    return syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how))


def watch_changes(path: str) -> int:
    """A descriptor, not blocking, that becomes readable whenever the file changes: inotify(7)."""
    descriptor = syscall(_SYS_INOTIFY_INIT1, os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        syscall(_SYS_INOTIFY_ADD_WATCH, descriptor, os.fsencode(path), _IN_MODIFY)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """The pid and the uid of the process at the other end of a Unix socket when it connected, or listened: unix(7)."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid

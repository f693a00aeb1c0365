"""Landlock: leave a process only the directories it is given. Source: linux/landlock.h, landlock(7)."""

import errno
import os
import struct
from collections.abc import Iterable
from typing import Final

from wasm_shim.kernel.calls import syscall

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_VERSION_QUERY: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 11


def version() -> int:
    """The kernel's Landlock ABI version, 0 where it has none."""
    try:
        return syscall(_SYS_CREATE_RULESET, None, 0, _VERSION_QUERY)
    except OSError:
        return 0


def restrict(grants: Iterable[tuple[str, bool]], stdio: Iterable[tuple[int, bool]]) -> None:
    """Leave this thread, and those it starts, these (directory, writable) and (descriptor, writable) files.

    Where the kernel can, also no TCP and no signals to processes outside. Needs no_new_privs and a kernel
    with `version` of 1 or more. Raises OSError.
    """
    known, attributes = _ruleset(version())
    ruleset = syscall(_SYS_CREATE_RULESET, attributes, len(attributes), 0)
    for path, writable in grants:
        directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
        denied = _EXECUTE | _MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE
        _allow(ruleset, directory, known & ~denied if writable else _READ_FILE | _READ_DIR)
        os.close(directory)
    for descriptor, writable in stdio:
        try:  # it is opened again by name
            _allow(ruleset, descriptor, (_WRITE_FILE | _TRUNCATE) & known if writable else _READ_FILE)
        except OSError as error:
            if error.errno != errno.EBADFD:  # an anonymous pipe has no path and needs no rule
                raise
    syscall(_SYS_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, descriptor: int, access: int) -> None:
    syscall(_SYS_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, descriptor), 0)


def _ruleset(abi: int) -> tuple[int, bytes]:
    """All file accesses that this ABI knows, and the attributes that deny everything it can."""
    files = (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    return files, struct.pack("QQQ", files, network, scoped)[:size]

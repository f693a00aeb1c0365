"""Landlock: leave a process only the directories it is given. Source: linux/landlock.h, landlock(7)."""

import os
import struct
from collections.abc import Iterable
from typing import Final

from wasm_shim.kernel.calls import syscall
from wasm_shim.kernel.routine import NOT_NEGATIVE, Argument, Result, Routine, function

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_VERSION_QUERY: Final = 1
_PATH_BENEATH: Final = 1
_DESCRIPTOR_AT: Final = 8  # in the rule

_close, _open, _syscall = function("close"), function("open"), function("syscall")

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 11


def version() -> int:
    """The kernel's Landlock ABI version, 0 where it has none."""
    try:
        return syscall(_SYS_CREATE_RULESET, None, 0, _VERSION_QUERY)
    except OSError:
        return 0


def restrict(routine: Routine, grants: Iterable[tuple[str, bool]], stdio: Iterable[tuple[int, bool]]) -> None:
    """Leave a thread, and those it starts, these (directory, writable) and (descriptor, writable) files.

    Where the kernel can, also no TCP and no signals to processes outside. Needs no_new_privs and a kernel
    with `version` of 1 or more. A descriptor is one that has a path, and will be opened again by name.
    """
    known, attributes = _ruleset(version())
    size = len(attributes)
    ruleset = _try(routine, _SYS_CREATE_RULESET, routine.data(attributes), size, 0)
    for path, writable in grants:
        directory = routine.call(_open, os.fsencode(path), os.O_PATH | os.O_CLOEXEC, check=NOT_NEGATIVE, what=path)
        denied = _EXECUTE | _MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE
        rule = routine.data(_rule(known & ~denied if writable else _READ_FILE | _READ_DIR, 0))
        routine.keep(directory, rule.after(_DESCRIPTOR_AT))
        _try(routine, _SYS_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        routine.call(_close, directory)
    for descriptor, writable in stdio:
        rule = routine.data(_rule((_WRITE_FILE | _TRUNCATE) & known if writable else _READ_FILE, descriptor))
        _try(routine, _SYS_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    _try(routine, _SYS_RESTRICT_SELF, ruleset, 0)
    routine.call(_close, ruleset)


def _try(routine: Routine, number: int, *arguments: Argument) -> Result:
    return routine.call(_syscall, number, *arguments, check=NOT_NEGATIVE, what="Landlock")


def _rule(access: int, descriptor: int) -> bytes:
    """`struct landlock_path_beneath_attr`, packed, and room for a descriptor of 8 bytes."""
    return struct.pack("=Qi4x", access, descriptor)


def _ruleset(abi: int) -> tuple[int, bytes]:
    """All file accesses that this ABI knows, and the attributes that deny everything it can."""
    files = (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    return files, struct.pack("QQQ", files, network, scoped)[:size]

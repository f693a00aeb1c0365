"""Open a program's file, or say in one sentence why it is none."""

import os
import stat
from typing import Final

from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied, WasmShimError

LARGEST: Final = 512 << 20
"""Bytes of a program: compiling one takes about ten times as much memory."""


def open_program(path: str) -> int:
    """A descriptor of a program's file; raises NotFound, PermissionDenied or InvalidArgument."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise PermissionDenied(f"cannot run {path}: it is {kind}; name a .wasm or .wat file")
    try:
        check_size(descriptor, path)
    except InvalidArgument:
        os.close(descriptor)
        raise
    return descriptor


def check_size(descriptor: int, name: str) -> None:
    """Raise InvalidArgument for a file that no compiler could hold: it would be read to its end, more than once."""
    size = os.fstat(descriptor).st_size
    if size > LARGEST:
        raise InvalidArgument(f"cannot run {name}: it has {size} bytes; a program may have {LARGEST}")


def _unreadable(path: str, error: OSError) -> WasmShimError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"no such file: {path}; check the path")
    if isinstance(error, PermissionError):
        return PermissionDenied(f"cannot read {path}: permission denied; make it readable for you")
    return InvalidArgument(f"cannot read {path}: {error.strerror}; check the path")

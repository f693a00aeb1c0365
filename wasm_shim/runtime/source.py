"""Open a program's file, or say in one sentence why it is none."""

import os
import stat

from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied, WasmShimError


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
    return descriptor


def _unreadable(path: str, error: OSError) -> WasmShimError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"no such file: {path}; check the path")
    if isinstance(error, PermissionError):
        return PermissionDenied(f"cannot read {path}: permission denied; make it readable for you")
    return InvalidArgument(f"cannot read {path}: {error.strerror}; check the path")

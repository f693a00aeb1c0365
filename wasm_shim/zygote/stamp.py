"""Tell whether the packages on disk are still those that a process has loaded."""

import os

from wasm_shim import runtime

PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(runtime.__file__)))


def packages_stamp() -> tuple[str, ...]:
    """Inode and time of change of one file of each package: pip replaces all of them."""
    parts = []
    for path in (f"{PACKAGES}/wasm_shim/version.py", f"{PACKAGES}/wasmtime/__init__.py"):
        try:
            status = os.stat(path)
        except FileNotFoundError:  # wasmtime in another directory: its own version check answers then
            continue
        parts.append(f"{status.st_ino} {status.st_mtime_ns}")
    return tuple(parts)

"""What is to be removed from a layout's directory, and the files by which writers at work are known.

All of it happens while the layout's lock is held alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from oci.content import Removed
from oci.digest import Digest
from oci.disk import is_locked, remove_unlocked, try_lock
from oci.errors import InvalidReference

__all__ = ["oldest_writer", "sweep", "writer"]

_WRITER: Final = "writer-"
_NEVER: Final = 1 << 63  # nanoseconds; after all times of files


def writer(directory: Path) -> Callable[[], None]:
    """Enter a writer; what is returned takes it out again, and so does the end of this process. Raises OSError."""
    oldest_writer(directory)
    path = directory / f"{_WRITER}{os.urandom(8).hex()}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try_lock(file)

    def leave() -> None:
        with suppress(OSError):
            path.unlink()
        os.close(file)

    return leave


def oldest_writer(directory: Path) -> int:
    """When the first writer that is at work began, in nanoseconds; far in the future if there is none.

    Dead writers are taken out. Raises OSError.
    """
    times = [_NEVER]
    for path in directory.glob(f"{_WRITER}*"):
        with suppress(FileNotFoundError):  # it left just now
            if is_locked(path):
                times.append(path.stat().st_mtime_ns)
            else:
                path.unlink()
    return min(times)


def sweep(blobs: Path, partials: Path, kept: set[Digest], before: int) -> list[Removed]:
    """Remove blobs that are not kept, and what killed writers left, both if older than a time. Raises OSError."""
    removed = []
    for digest, path in _blobs(blobs):
        status = path.lstat()
        if digest not in kept and status.st_mtime_ns < before:
            path.unlink()
            removed.append(Removed(digest, status.st_size))
    for path in partials.iterdir():
        with suppress(FileNotFoundError):  # its writer finished just now
            if path.lstat().st_mtime_ns < before:
                remove_unlocked(path)
    return sorted(removed)


def _blobs(directory: Path) -> Iterator[tuple[Digest, Path]]:
    """Blobs with proper names; what else lies there is not ours."""
    for path in directory.glob("*/*"):
        with suppress(InvalidReference):
            yield Digest(path.parent.name, path.name), path

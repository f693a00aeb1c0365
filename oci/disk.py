"""The file system as stores use it: its refusals as StorageError, locks between processes, files that appear whole."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from oci.errors import StorageError

__all__ = ["append", "is_locked", "locked", "opened_locked", "refusals", "remove_unlocked", "replace", "try_lock"]

_READ_ONLY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_REMEDIES: Final = {
    errno.ENOSPC: "free some space and try again",
    errno.EDQUOT: "free some space and try again",
    errno.EACCES: "become its owner, or choose another place",
    errno.EPERM: "become its owner, or choose another place",
    errno.EROFS: "choose another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
_LOCK_MODE: Final = 0o644
_FILE_MODE: Final = 0o644  # whatever the umask: content that others must not see lies in a directory of mode 0700


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What the system says to an operation on this path, or one that it names itself, as StorageError."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "mend that and try again")
        raise StorageError(f"{error.filename or path}: {error.strerror or error}; {remedy}") from error


def append(descriptor: int, data: bytes) -> None:
    """Write all of this. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(path: Path, data: bytes, draft: Path) -> None:
    """Let a file have these bytes: readers see the old or the new ones, also after a power cut. Raises OSError.

    The draft is a path in the same file system that nobody else uses; it is gone afterwards unless we are killed.
    """
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0):
            append(descriptor, data)
            os.fchmod(descriptor, _FILE_MODE)
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock that the end of this process frees, too. Raises OSError.

    A shared lock is for readers: where they may not write, it may even be missing.
    """
    descriptor = _lock_file(path, shared=shared)
    try:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_file(path: Path, *, shared: bool) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _LOCK_MODE)
    except OSError as error:
        if not shared or error.errno not in _READ_ONLY:
            raise
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


@contextmanager
def opened_locked(path: Path) -> Iterator[int]:
    """A private file to append to, made if need be, whose lock we hold; waits for another holder. Raises OSError.

    A holder may have moved or removed the file while we waited: then we begin again with the one at the path now.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file, unless another holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of this file. Raises OSError."""
    with _opened(path) as descriptor:
        return not try_lock(descriptor)


def remove_unlocked(path: Path) -> None:
    """Remove a file unless somebody holds its lock; nobody gets it in between. Raises OSError."""
    with _opened(path) as descriptor:
        if try_lock(descriptor) and _is_at(descriptor, path):
            path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False

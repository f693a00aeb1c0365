"""The lock under which a zygote is started or leaves: at most one of both at a time."""

import os
from fcntl import LOCK_EX, LOCK_NB, flock


class StartLock:
    """The flock of `<socket>.lock`, held."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, socket_path: str) -> "StartLock":
        """Wait for the lock; raises OSError."""
        while True:
            lock = cls._open(socket_path, LOCK_EX)
            if lock is not None:
                return lock

    @classmethod
    def try_take(cls, socket_path: str) -> "StartLock | None":
        """The lock, or None while another process holds it."""
        try:
            return cls._open(socket_path, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return None

    @classmethod
    def _open(cls, socket_path: str, how: int) -> "StartLock | None":
        path = f"{socket_path}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            flock(descriptor, how)
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return cls(path, descriptor)
        except FileNotFoundError:
            pass  # a zygote that left took the file away while we waited: lock its successor
        except BlockingIOError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Let others go on; the file stays."""
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the file and let others go on."""
        os.unlink(self._path)
        os.close(self._descriptor)

"""Processes of ours that stay for who needs them next: one listens at a path, started by the first who asks there."""

import os
import socket
from collections.abc import Mapping
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import Final, NamedTuple

from wasm_shim.errors import Internal, Unavailable
from wasm_shim.launch import start
from wasm_shim.paths import storage_error

LISTENER: Final = 3  # the listening socket's descriptor in such a process
_BACKLOG: Final = 1024


class Resident(NamedTuple):
    """What to start. Its `main` gets /dev/null as 0 and 1, as 2 a pipe that it closes when it is ready or, having
    written why not, ends; as 3 the listening socket; and the socket's path as the first argument.
    """

    name: str  # for messages
    module: str
    socket_type: socket.SocketKind
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    what: str  # the directory of its socket, and
    remedy: str  # what to do where that cannot be used; see `paths.storage_error`


def connect(path: str, socket_type: socket.SocketKind) -> socket.socket | None:
    """A connection to whoever listens there, or None."""
    connection = socket.socket(socket.AF_UNIX, socket_type)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def reach(path: str, resident: Resident) -> socket.socket:
    """A connection to the process at the path, which is started where there is none.

    The listening socket is made here, so nobody needs to wait for it. Raises Internal with what the process said when
    it did not start, Unavailable, and the errors of `storage_error`.
    """
    connection = connect(path, resident.socket_type)
    return connection or _start(path, resident)


def _start(path: str, resident: Resident) -> socket.socket:
    try:
        lock = StartLock.take(path)
    except OSError as error:
        raise storage_error(error, resident.what, path, resident.remedy) from error
    try:
        connection = connect(path, resident.socket_type)  # somebody else may have started one while we waited
        if connection is None:
            _launch(path, resident)
            connection = connect(path, resident.socket_type)
        if connection is None:
            raise Unavailable(f"the {resident.name} ended at its start; run it again")
        return connection
    finally:
        lock.release()


def _launch(path: str, resident: Resident) -> None:
    """Start it and wait until it is ready; raises WasmShimError with what it said."""
    listener = socket.socket(socket.AF_UNIX, resident.socket_type)
    try:
        if os.path.exists(path):  # of one that was killed
            os.unlink(path)
        listener.bind(path)
        listener.listen(_BACKLOG)
        said = _run(path, resident, listener.fileno())
    except OSError as error:
        raise storage_error(error, resident.what, path, resident.remedy) from error
    finally:
        listener.close()
    if said:
        os.unlink(path)
        raise Internal(f"the {resident.name} did not start: {said.splitlines()[-1]}")


def _run(path: str, resident: Resident, listener: int) -> str:
    """Start the process and return what it wrote before it closed its stderr."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        descriptors = (null, null, writer, listener)
        start(resident.module, [path, *resident.arguments], descriptors, resident.environment, new_session=True)
    finally:
        os.close(writer)
        os.close(null)
    with open(reader, "rb") as pipe:
        return pipe.read().decode(errors="replace").strip()


def leave(path: str, ours: os.stat_result) -> bool:
    """Remove our socket `ours`, unless a client is starting a successor at this moment: it may be about to connect.

    Whether the process may end. A newer one may have taken over the path, which stays then.
    """
    lock = StartLock.try_take(path)
    if lock is None:
        return False
    if _leads_to(path, ours):
        os.unlink(path)
        lock.discard()
    else:
        lock.release()
    return True


def _leads_to(path: str, ours: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), ours)
    except FileNotFoundError:
        return False


class StartLock:
    """The flock of `<socket>.lock`, held: under it one process is started or leaves, at most one of both at a time."""

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
            pass  # one that left took the file away while we waited: lock its successor
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

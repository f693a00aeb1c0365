"""The zygote: one warm process per user and version that forks a child per request: a pod shim or a short command.

It never compiles and never runs a guest (either would leave threads, and a forked child of a process with
threads hangs), keeps no state of pods, and leaves when it has been idle. A page that it writes after a fork
becomes that child's alone, for each child: so it is a plain loop that serves one request after the other and
does next to nothing. Started by `zygote.client` with /dev/null as 0 and 1, descriptor 2 a pipe that tells its
starter of a failure, and descriptor 3 the listening socket.
"""

import errno
import gc
import os
import select
import signal
import socket
import sys
import time
from typing import Final

from wasm_shim.container.process import Forge, make_forge
from wasm_shim.errors import InvalidArgument, WasmShimError
from wasm_shim.kernel.calls import peer_of
from wasm_shim.runtime.host import Host
from wasm_shim.shim.server import serve
from wasm_shim.spawn import encode_answer, request_size
from wasm_shim.steps import reached
from wasm_shim.zygote.immortal import immortalise
from wasm_shim.zygote.lock import StartLock
from wasm_shim.zygote.stamp import packages_stamp

LISTENER: Final = 3
_IDLE_SECONDS: Final = 600.0
_LEAST_IDLE: Final = 0.1  # 0 would mean not to wait at all
_PATIENCE: Final = 1.0  # seconds that a client may take for its request, as others wait behind it
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.1  # seconds until the next try to accept, when something is exhausted
_MAX_DESCRIPTORS: Final = 4


def main() -> None:
    """Serve until idle. Argument: the path of the socket."""
    try:
        idle = max(float(os.environ.get("WASM_SHIM_ZYGOTE_IDLE") or _IDLE_SECONDS), _LEAST_IDLE)
        forge = make_forge(Host())
    except ValueError:
        sys.stderr.write("WASM_SHIM_ZYGOTE_IDLE is no number; set it to seconds\n")
        sys.exit(1)
    except (WasmShimError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps pod shims: nobody asks for their exit
    os.dup2(0, 2)  # the starter sees the end of its pipe and knows that we are ready
    zygote = Zygote(sys.argv[1], socket.socket(fileno=LISTENER), forge, idle)
    gc.collect()
    immortalise()
    gc.freeze()  # what is loaded now is shared by all pods: the collector must not touch it
    zygote.run()
    os._exit(0)  # immortal objects are not for Python's way of ending


class Zygote:
    """The fork server."""

    def __init__(self, path: str, listener: socket.socket, forge: Forge, idle: float) -> None:
        """`idle` is in seconds."""
        self._path, self._listener, self._forge = path, listener, forge
        self._socket, self._stamp = os.stat(path), packages_stamp()
        listener.settimeout(idle)

    def run(self) -> None:
        """Fork pod shims until nobody has asked for a while and none is left."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if not _has_children() and self._leave():
                    return
                continue
            except OSError as error:  # the client has gone already, or no descriptors are left: it waits
                if error.errno in _EXHAUSTED:
                    select.select([], [], [], _PAUSE)
                continue
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        with connection:
            try:
                request = _receive(connection, descriptors)
                if request is not None:
                    self._fork(request, connection, descriptors)
            except (WasmShimError, OSError) as error:
                _refuse(connection, str(error))
        for descriptor in descriptors:
            os.close(descriptor)

    def _fork(self, request: bytes, connection: socket.socket, descriptors: list[int]) -> None:
        """Fork a child, which reads the request and answers on the connection itself; raises OSError."""
        if len(os.listdir("/proc/self/task")) != 1:
            os.abort()  # a thread has crept in: every child would hang
        connection.settimeout(None)
        if os.fork() == 0:
            serve(self._forge, request, connection, descriptors, self._is_stale)
        reached("zygote.forked")

    def _is_stale(self) -> bool:
        return packages_stamp() != self._stamp

    def _leave(self) -> bool:
        """Go, unless a client is starting a zygote at this moment: it may be about to connect to us."""
        lock = StartLock.try_take(self._path)
        if lock is None:
            return False
        if self._is_reached():
            os.unlink(self._path)
            lock.discard()
        else:
            lock.release()
        return True

    def _is_reached(self) -> bool:
        """Whether the path still leads here: a newer zygote takes over the place of a stale one."""
        try:
            return os.path.samestat(os.stat(self._path), self._socket)
        except FileNotFoundError:
            return False


def _receive(connection: socket.socket, descriptors: list[int]) -> bytes | None:
    """A whole request, None when the client has gone; its descriptors are added to the list.

    Raises InvalidArgument for one too long and for another user, OSError for one who is too slow.
    """
    _, uid = peer_of(connection)
    if uid not in (0, os.geteuid()):
        raise InvalidArgument(f"user {uid} may not use the processes of user {os.geteuid()}")
    data, deadline = b"", time.monotonic() + _PATIENCE
    while not (size := request_size(data)) or len(data) < size:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))  # 0 would mean not to wait at all
        part, received, _, _ = socket.recv_fds(connection, 64 << 10, _MAX_DESCRIPTORS)
        descriptors += received
        if not part:
            return None
        data += part
    return data[:size]


def _refuse(connection: socket.socket, reason: str) -> None:
    try:
        connection.send(encode_answer("", reason))
    except OSError:
        return  # it has gone: nobody to tell


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True

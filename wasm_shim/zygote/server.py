"""The zygote: one warm process per user and version that forks a pod shim per request.

It never compiles and never runs a guest (either would leave threads, and a forked child of a process with
threads hangs), keeps no state of pods, and leaves when it has been idle. Started by `zygote.client` with
descriptor 2 a pipe that tells its starter of a failure, and descriptor 3 the listening socket.
"""

import gc
import os
import socket
import sys
from typing import Final

from wasm_shim.container.process import Forge, make_forge
from wasm_shim.errors import InvalidArgument, WasmShimError
from wasm_shim.eventloop import EventLoop, Timer
from wasm_shim.runtime.host import Host
from wasm_shim.shim.server import serve
from wasm_shim.steps import reached
from wasm_shim.zygote.lock import StartLock
from wasm_shim.zygote.messages import SpawnRequest, decode_request, encode_answer, request_size

LISTENER: Final = 3
_IDLE_SECONDS: Final = 600.0
_PATIENCE: Final = 10.0  # seconds that a client may take to write its request
_MAX_DESCRIPTORS: Final = 4
_PEER_SIZE: Final = 12  # of struct ucred {pid, uid, gid}


def main() -> None:
    """Serve until idle. Argument: the path of the socket."""
    try:
        zygote = Zygote(sys.argv[1], socket.socket(fileno=LISTENER))
    except (WasmShimError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    os.dup2(0, 2)  # /dev/null: the starter sees the end of its pipe and knows that we are ready
    zygote.run()


class Zygote:
    """The fork server."""

    def __init__(self, path: str, listener: socket.socket) -> None:
        """Load what every pod shares; raises Unimplemented or OSError."""
        self._path, self._listener = path, listener
        self._forge: Forge = make_forge(Host())
        self._loop = EventLoop()
        self._children: dict[int, int] = {}  # pidfd to pid
        self._clients: set[_Client] = set()
        self._idle_timer: Timer | None = None
        self._idle = float(os.environ.get("WASM_SHIM_ZYGOTE_IDLE") or _IDLE_SECONDS)
        listener.setblocking(False)
        self._loop.watch_read(listener.fileno(), self._accept)
        self._note_idle()

    def run(self) -> None:
        """Fork pod shims until nobody has asked for a while."""
        gc.collect()
        gc.freeze()  # what is loaded now is shared by all pods: the collector must not touch it
        self._loop.run()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has gone already, or no descriptors are left: it will try again
            return
        self._clients.add(_Client(self._loop, connection, self))
        self._note_idle()

    def forget(self, client: "_Client") -> None:
        """A client has been served, or has gone."""
        self._clients.discard(client)
        self._note_idle()

    def fork(self, request: SpawnRequest, connection: socket.socket, descriptors: list[int]) -> None:
        """Fork a pod shim, which answers on the connection itself; raises OSError."""
        if len(os.listdir("/proc/self/task")) != 1:
            os.abort()  # a thread has crept in: every child would hang
        pid = os.fork()
        if pid == 0:
            serve(self._forge, request, connection, descriptors)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._loop.watch_read(pidfd, lambda: self._reap(pidfd))
        reached("zygote.forked")

    def _reap(self, pidfd: int) -> None:
        self._loop.unwatch_read(pidfd)
        os.waitpid(self._children.pop(pidfd), 0)
        os.close(pidfd)
        self._note_idle()

    def _note_idle(self) -> None:
        busy = self._children or self._clients
        if self._idle_timer:
            self._idle_timer.cancel()
        self._idle_timer = None if busy else self._loop.call_later(self._idle, self._leave)

    def _leave(self) -> None:
        """Go, unless a client is starting a zygote at this moment: it may be about to connect to us."""
        lock = StartLock.try_take(self._path)
        if lock is None:
            self._note_idle()
            return
        os.unlink(self._path)
        lock.discard()
        self._loop.stop()


class _Client:
    """One connection on which a request arrives."""

    def __init__(self, loop: EventLoop, connection: socket.socket, zygote: Zygote) -> None:
        self._loop, self._connection, self._zygote = loop, connection, zygote
        self._data = b""
        self._descriptors: list[int] = []
        self._timer = loop.call_later(_PATIENCE, self._close)
        connection.setblocking(False)
        loop.watch_read(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, 64 << 10, _MAX_DESCRIPTORS)
            self._descriptors += descriptors
            self._data += data
            size = request_size(self._data)
            if not data:
                self._close()
            elif size and len(self._data) >= size:
                self._check_peer()
                self._serve(decode_request(self._data[:size]))
        except BlockingIOError:
            return
        except (WasmShimError, OSError) as error:
            self._refuse(str(error))

    def _check_peer(self) -> None:
        credentials = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_SIZE)
        uid = int.from_bytes(credentials[4:8], sys.byteorder)
        if uid not in (0, os.geteuid()):
            raise InvalidArgument(f"user {uid} may not use the processes of user {os.geteuid()}")

    def _serve(self, request: SpawnRequest) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        self._connection.setblocking(True)
        self._zygote.fork(request, self._connection, self._descriptors)
        self._close()

    def _refuse(self, reason: str) -> None:
        try:
            self._connection.send(encode_answer("", reason))
        except OSError:
            pass  # it has gone: nobody to tell
        self._close()

    def _close(self) -> None:
        self._timer.cancel()
        self._loop.unwatch_read(self._connection.fileno())
        self._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._zygote.forget(self)



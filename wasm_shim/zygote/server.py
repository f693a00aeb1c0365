"""The zygote: one warm process per user and version that forks a child per request: a pod shim or a short command.

It never compiles and never runs a guest (either would leave threads, and a forked child of a process with
threads hangs), keeps no state of pods, and leaves when it has been idle. A page that it writes after a fork
becomes that child's alone, for each child: so it waits and forks without a line of Python, and the child reads its
request itself. Started by `zygote.client` with /dev/null as 0 and 1, descriptor 2 a pipe that tells its
starter of a failure, and descriptor 3 the listening socket.
"""

import ctypes
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
from typing import Final

from wasm_shim.container.forge import Forge, make_forge
from wasm_shim.errors import WasmShimError
from wasm_shim.kernel.hold import reached_here
from wasm_shim.kernel.routine import NOT_NEGATIVE, Label, Routine, exactly, function
from wasm_shim.resident import LISTENER, leave
from wasm_shim.shim.server import serve
from wasm_shim.spawn import encode_answer
from wasm_shim.zygote.immortal import immortalise
from wasm_shim.zygote.stamp import packages_stamp

_IDLE_SECONDS: Final = 600.0
_LEAST_IDLE: Final = 0.1  # 0 would mean not to wait at all
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_MADV_DONTNEED: Final = 4
_PAUSE: Final = 0.1  # seconds until the next try to accept, when something is exhausted


def main() -> None:
    """Serve until idle. Argument: the path of the socket."""
    try:
        idle = max(float(os.environ.get("WASM_SHIM_ZYGOTE_IDLE") or _IDLE_SECONDS), _LEAST_IDLE)
        forge = make_forge()
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
    _give_back()
    zygote.run()
    os._exit(0)  # immortal objects are not for Python's way of ending


def _give_back() -> None:
    """Return memory that only the beginning of this process needed.

    Free pages of the allocator, and pages of machine code, which come back from their files when they are wanted
    (malloc_trim(3), madvise(2)).
    """
    libc = ctypes.CDLL(None)
    libc.malloc_trim(ctypes.c_size_t(0))
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(maxsplit=5) for line in file]
    for row in rows:
        if row[1] == "r-xp" and len(row) > 5 and row[5].startswith("/"):
            begin, end = (int(place, 16) for place in row[0].split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


class Zygote:
    """The fork server."""

    def __init__(self, path: str, listener: socket.socket, forge: Forge, idle: float) -> None:
        """`idle` is in seconds."""
        self._path, self._listener, self._forge = path, listener, forge
        self._socket, self._stamp = os.stat(path), packages_stamp()
        self._write(round(idle * 1000))

    def run(self) -> None:
        """Fork pod shims until nobody has asked for a while and none is left."""
        while True:
            stopped = self._forge.machine.carry_out(self._base)
            error = ctypes.get_errno()
            if not stopped:
                connection = socket.socket(fileno=self._accepted.read_int(self._base))
                serve(self._forge, connection, self._is_stale)
            elif stopped == self._waited.step_at(self._base):
                idle = self._waited.read_int(self._base) == 0
                if idle and not _has_children() and leave(self._path, self._socket):
                    return
            elif stopped == self._forked.step_at(self._base):
                _refuse(socket.socket(fileno=self._accepted.read_int(self._base)), os.strerror(error))
            elif error in _EXHAUSTED:  # no descriptors are left: the client waits
                select.select([], [], [], _PAUSE)

    def _write(self, idle: int) -> None:
        """Accept and fork, in a loop that only a child, an idle time in milliseconds and an error leave."""
        routine = Routine()
        polled = routine.data(struct.pack("ihh", self._listener.fileno(), select.POLLIN, 0))
        again = routine.here()
        self._waited = routine.call(function("poll"), polled, 1, idle, check=exactly(1))
        accept = self._listener.fileno(), None, None, socket.SOCK_CLOEXEC
        self._accepted = routine.call(function("accept4"), *accept, check=NOT_NEGATIVE)
        parent = Label()
        forked = routine.call(function("fork"), check=exactly(0), otherwise=parent)
        # Its nursery, while it is as the zygote is; a failure shows when that is wanted.
        routine.call(self._forge.machine.run, self._forge.cradle.base)
        routine.end()
        routine.place(parent)
        # Copying nothing returns where to: that is the pid, or -1.
        self._forked = routine.call(function("memcpy"), forked, 0, 0, check=NOT_NEGATIVE)
        reached_here(routine, "zygote.forked")
        routine.call(function("close"), self._accepted)
        routine.jump(again)
        self._base = routine.lay_down()

    def _is_stale(self) -> bool:
        return packages_stamp() != self._stamp


def _refuse(connection: socket.socket, reason: str) -> None:
    with connection:
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

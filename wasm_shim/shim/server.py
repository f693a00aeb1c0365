"""The pod shim: the forked process that serves a container's tasks. Here its parts are put together."""

import os
import signal
import socket
import sys
from typing import NoReturn

from wasm_shim.container.process import Forge
from wasm_shim.container.runner import GuestRunner
from wasm_shim.errors import WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.paths import user_paths
from wasm_shim.records import Record
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.shim.service import TaskService
from wasm_shim.steps import reached
from wasm_shim.task.manager import TaskManager
from wasm_shim.task.ports import TaskState
from wasm_shim.ttrpc.server import Server
from wasm_shim.zygote.messages import SpawnRequest, encode_answer

_BACKLOG = 128


def serve(forge: Forge, request: SpawnRequest, connection: socket.socket, descriptors: list[int]) -> NoReturn:
    """Become a pod shim and never return: the zygote's child calls this straight after the fork."""
    status = 1
    try:
        _shed_inheritance(request, {connection.fileno(), *descriptors})
        PodShim(forge, request, connection).run()
        status = 0
    except (WasmShimError, OSError) as error:
        _answer(connection, encode_answer("", str(error)))
    except BaseException as error:  # noqa: BLE001 - a process boundary: nothing may return into the zygote's loop
        _answer(connection, encode_answer("", f"fault in the pod shim: {error!r}"))
    os._exit(status)


def _answer(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.send(answer)
    except OSError:
        return  # nobody waits for it any more


def _shed_inheritance(request: SpawnRequest, keep: set[int]) -> None:
    """Nothing of the zygote's or of another pod's: descriptors, session, signals, environment, directory."""
    first = 3
    for descriptor in sorted(keep):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 1 << 30)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(request.environment)
    try:
        os.chdir(request.working_directory)
    except OSError:  # it was removed, or is closed to us: everything that matters has an absolute path
        os.chdir("/")


class PodShim:
    """One pod shim of the command line: its container lives as long as the client's connection."""

    def __init__(self, forge: Forge, request: SpawnRequest, connection: socket.socket) -> None:
        """Bind the socket and tell the client; raises OSError or InvalidArgument."""
        self._loop = loop = EventLoop()
        self._request, self._connection = request, connection
        self._paths = user_paths(os.environ)
        self._record = Record(self._paths, os.path.basename(request.directory))
        cache = ProgramCache(self._paths.programs, forge.host.engine_id)
        self._manager = TaskManager(GuestRunner(loop, forge, cache), self._note)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(request.address)
        listener.listen(_BACKLOG)
        service = TaskService(self._manager, self._leave)
        self._server = Server(loop, listener, service.handle, on_error=self._report)
        reached("shim.listening")
        _answer(connection, encode_answer(request.address, ""))
        loop.watch_read(connection.fileno(), self._owner_gone)

    def run(self) -> None:
        """Serve until a client shuts us down, or the owner has gone and nothing runs any more."""
        self._loop.run()

    def _note(self, state: TaskState) -> None:
        exit_ = {"exit_status": state.exit.status, "exited_at": state.exit.at} if state.exit else {}
        pid = 0 if state.exit else state.pid
        self._record.write_state(status=state.status.value, pid=pid, shim_pid=os.getpid(), **exit_)

    def _owner_gone(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        self._manager.kill_all(self._abandon)

    def _abandon(self) -> None:
        self._record.finish(remove=self._request.remove)
        self._loop.stop()

    def _leave(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        os.unlink(self._request.address)
        self._server.close(self._loop.stop)

    @staticmethod
    def _report(method: str, error: Exception) -> None:
        """A fault of ours while serving a method; the client has its status already."""
        sys.stderr.write(f"{method}: {error!r}\n")

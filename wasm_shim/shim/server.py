"""The pod shim: the forked process that serves a container's tasks. Here its parts are put together."""

import os
import socket
import sys
from _signal import (  # type: ignore[import-not-found] # the C functions: `signal` makes enums of what they take
    SIG_DFL,
    SIGCHLD,
    signal,
)
from typing import NoReturn

from wasm_shim.container.process import Forge
from wasm_shim.container.runner import GuestRunner
from wasm_shim.errors import WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.kernel.calls import close_descriptors_except
from wasm_shim.records import Record, record_of
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.shim.service import TaskService
from wasm_shim.spawn import SpawnRequest, encode_answer
from wasm_shim.steps import hold_at, reached
from wasm_shim.task.manager import TaskManager
from wasm_shim.task.ports import TaskState
from wasm_shim.ttrpc.server import Server

_BACKLOG = 128


def serve(forge: Forge, request: SpawnRequest, connection: socket.socket, descriptors: list[int]) -> NoReturn:
    """Become a pod shim and never return: the zygote's child calls this straight after the fork."""
    status = 1
    try:
        _shed_inheritance({connection.fileno(), *descriptors})
        hold_at(request.hold)
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


def _shed_inheritance(keep: set[int]) -> None:
    """No descriptor of the zygote's or of another pod's, and a session of its own.

    The zygote has default signals, no umask to undo, / as its directory and an environment without secrets.
    """
    close_descriptors_except(keep)
    os.setsid()
    signal(SIGCHLD, SIG_DFL)  # the zygote's children need no reaping, ours do


class PodShim:
    """One pod shim of the command line: its container lives as long as the client's connection."""

    def __init__(self, forge: Forge, request: SpawnRequest, connection: socket.socket) -> None:
        """Bind the socket and tell the client; raises OSError or InvalidArgument."""
        self._loop = loop = EventLoop()
        self._request, self._connection = request, connection
        cache = ProgramCache(request.programs, forge.host.engine_id)
        self._runner = GuestRunner(loop, forge, cache)
        self._manager = TaskManager(self._runner, self._note)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(request.address):  # of a pod shim that was killed before it could answer
            os.unlink(request.address)
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
        """Only the end is written down; while the shim lives, it answers for the rest."""
        if state.exit:
            try:
                self._record().write_state(exit_status=state.exit.status, exited_at=state.exit.at)
            except OSError as error:  # a full disk: the client gets the status all the same
                self._report("exit", error)

    def _record(self) -> Record:
        return record_of(self._request.address, self._request.directory)

    def _owner_gone(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        self._manager.kill_all(self._abandon)

    def _abandon(self) -> None:
        self._runner.cancel()
        self._record().finish(remove=self._request.remove)
        self._loop.stop()

    def _leave(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        try:
            os.unlink(self._request.address)
        except FileNotFoundError:
            pass  # somebody tidied up the directory
        self._server.close(self._loop.stop)

    @staticmethod
    def _report(method: str, error: Exception) -> None:
        """A fault of ours while serving a method; the client has its status already."""
        sys.stderr.write(f"{method}: {error!r}\n")

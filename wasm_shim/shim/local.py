"""The pod shim of the command line, put together: it tells nobody of events, and ends with its client."""

import socket
import sys

from wasm_shim.container.forge import Forge
from wasm_shim.container.runner import GuestRunner
from wasm_shim.eventloop import EventLoop
from wasm_shim.records import Record, record_of
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.shim.address import bind
from wasm_shim.shim.pod import ServedTasks
from wasm_shim.spawn import SpawnRequest, encode_answer
from wasm_shim.steps import reached
from wasm_shim.task.events import Exited, TaskEvent
from wasm_shim.task.manager import TaskManager


class LocalPod:
    """One pod shim of the command line: its container lives as long as the client's connection."""

    def __init__(self, forge: Forge, request: SpawnRequest, connection: socket.socket) -> None:
        """Bind the socket and tell the client; raises OSError or InvalidArgument."""
        self._loop = loop = EventLoop()
        self._request, self._connection = request, connection
        cache = ProgramCache(request.programs, forge.host.engine_id)
        self._runner = GuestRunner(loop, forge, cache)
        self._manager = TaskManager(self._runner, self._note)
        listener = bind(request.address)  # instead of a pod shim that was killed before it could answer
        tasks = ServedTasks(loop, listener, request.address, self._report)
        tasks.serve(self._manager, leaving=self._leave)
        reached("shim.listening")
        try:
            connection.send(encode_answer(request.address, ""))
        except OSError:
            pass  # the client has gone, which the loop will see
        loop.watch_read(connection.fileno(), self._owner_gone)

    def run(self) -> None:
        """Serve until a client shuts us down, or the owner has gone and nothing runs any more."""
        self._loop.run()

    def _note(self, event: TaskEvent) -> None:
        """Only the end is written down; while the shim lives, it answers for the rest."""
        if isinstance(event, Exited):
            try:
                self._record().write_state(exit_status=event.exit.status, exited_at=event.exit.at)
            except OSError as error:  # a full disk: the client gets the status all the same
                self._report("exit", error)

    def _record(self) -> Record:
        return record_of(self._request.address, self._request.directory)

    def _owner_gone(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        self._manager.kill_all(self._abandon)

    def _leave(self) -> None:
        self._loop.unwatch_read(self._connection.fileno())
        self._runner.close()

    def _abandon(self) -> None:
        self._runner.close()
        self._record().finish(remove=self._request.remove)
        self._loop.stop()

    @staticmethod
    def _report(method: str, error: Exception) -> None:
        """A fault of ours while serving a method; the client has its status already."""
        sys.stderr.write(f"{method}: {error!r}\n")

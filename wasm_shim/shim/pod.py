"""The pod shim of containerd: the process that serves a pod's tasks and tells containerd of them, put together."""

import os
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from wasm_shim.container.forge import Forge
from wasm_shim.container.runner import GuestRunner
from wasm_shim.eventloop import EventLoop, Timer
from wasm_shim.log import Log
from wasm_shim.resolver.client import Containerd
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.shim.publisher import EventPublisher
from wasm_shim.shim.receipt import Receipt
from wasm_shim.shim.service import Drain, TaskService
from wasm_shim.steps import reached
from wasm_shim.task.events import TaskEvent
from wasm_shim.task.manager import TaskManager
from wasm_shim.ttrpc.server import Server

_DRAIN_SECONDS: Final = 2.0  # containerd waits 3 s for the answer to Shutdown
_UNUSED_SECONDS: Final = 60.0  # containerd connects at once, unless it or its client was killed meanwhile


class ContainerdPod(NamedTuple):
    """What a pod shim needs to know of its pod and its containerd."""

    namespace: str  # containerd's, which events carry
    id: str  # of the container that the shim was started for
    address: str  # the path of the socket that it serves
    containerd: str  # the path of containerd's ttrpc socket, or empty: nobody is told of events
    programs: str  # the directory of precompiled programs
    bundle: str  # the directory of the container that the shim was started for
    images: Containerd | None  # who is asked for images, or nobody: then only root file systems hold programs
    unused: float = _UNUSED_SECONDS  # how long to wait for a first client, which may never have heard of the shim


def serve_pod(forge: Forge, listener: socket.socket, pod: ContainerdPod) -> None:
    """Serve `listener`, bound to the pod's address, until a client shuts the shim down, or none has come.

    By then containerd has been told of everything that happened, as long as it listens, and the socket's path is
    gone. A fault of ours ends it at once and is raised.
    """
    loop = EventLoop()
    journal = Log(f"{pod.bundle}/log", id=pod.id, namespace=pod.namespace)
    publisher = EventPublisher(loop, pod.containerd, pod.namespace, journal)
    cache = ProgramCache(pod.programs, forge.host.engine_id)
    runner = GuestRunner(loop, forge, cache, journal.warning, pod.images)
    receipt = Receipt(pod.bundle, pod.id)

    def observe(event: TaskEvent) -> None:
        publisher.publish(event)
        receipt.note(event)

    def leave() -> None:
        runner.close()
        receipt.write()

    manager = TaskManager(runner, observe)
    tasks = ServedTasks(loop, listener, pod.address, lambda method, error: journal.error(f"{method}: {error!r}"))
    tasks.serve(manager, leaving=leave, drain=lambda drained: publisher.drain(drained, _DRAIN_SECONDS))
    tasks.leave_if_unused(pod.unused)
    try:
        loop.run()
    except BaseException as error:
        journal.error(f"fault in the pod shim: {error!r}")
        raise
    finally:
        publisher.close()
        journal.close()
        loop.close()


class ServedTasks:
    """The Task service on a listening socket, from its first request to its Shutdown, which stops the loop.

    `report` hears of faults of ours while serving a method; the client has its status already.
    """

    def __init__(
        self, loop: EventLoop, listener: socket.socket, address: str, report: Callable[[str, Exception], None]
    ) -> None:
        """`address` is the path that `listener` is bound to."""
        self._loop, self._listener, self._address, self._report = loop, listener, address, report
        self._ours = _identity(address)
        self._timer: Timer | None = None

    def serve(self, manager: TaskManager, *, leaving: Callable[[], None], drain: Drain | None = None) -> None:
        """Begin to serve; before it ends, `drain` (see TaskService), then, with the path gone, `leaving` is called."""
        self._manager = manager
        service = TaskService(manager, self._leave, drain)
        self._leaving = leaving
        self._server = Server(self._loop, self._listener, service.handle, on_error=self._report)

    def leave_if_unused(self, seconds: float) -> None:
        """Leave so many seconds from now if then no client is connected and there is no task."""

        def look() -> None:
            if self._manager.empty and not self._server.connections:
                self._leave()
            elif self._manager.empty:  # connected, and nothing more so far
                self.leave_if_unused(seconds)

        self._timer = self._loop.call_later(seconds, look)

    def _leave(self) -> None:
        reached("shim.leaving")
        if self._timer:
            self._timer.cancel()
        if self._ours and _identity(self._address) == self._ours:  # not that of a shim that has taken the place
            try:
                os.unlink(self._address)
            except OSError as error:
                self._report("Shutdown", error)
        self._leaving()
        self._loop.call_soon(lambda: self._server.close(self._loop.stop))  # after the answer, which comes next


def _identity(path: str) -> tuple[int, int, int] | None:
    """What tells a socket from one that was bound later: not the inode alone, whose number is given out again."""
    try:
        found = os.stat(path)
    except OSError:
        return None  # somebody tidied up the directory
    return found.st_dev, found.st_ino, found.st_mtime_ns

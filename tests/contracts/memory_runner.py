"""A runner without processes, whose tasks end when a signal or the test says so."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.guest import Image
from wasm_shim.task.manager import TaskManager
from wasm_shim.task.ports import Creating, Creation, Exit, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wasm_shim.task.events import TaskEvent

ENDS, RUNS, GROWS, BROKEN = "ends", "runs", "grows", "broken"
METRICS = "io.containerd.cgroups.v2.Metrics"
_ENDED_AT = 1.5e9
_FIRST_PID = 1000


class MemoryProcess:
    """A process that ends by itself when its program is ENDS or GROWS, else by a signal or by `end`."""

    def __init__(self, runner: MemoryRunner, pid: int, creation: Creation, creating: Creating) -> None:
        self._runner, self._pid, self._creation, self._creating = runner, pid, creation, creating
        self._ended = False
        self._stuck: list[int] = []  # signals that a frozen process does not take
        self.frozen = False
        self.freezes_at_once = True
        self.resources: list[Mapping[str, Any]] = []
        self.others: tuple[int, ...] = ()
        self.signals: list[int] = []
        self.size = (0, 0)
        self.stdin_closed = False

    @property
    def pid(self) -> int:
        return self._pid

    def start(self) -> None:
        if self._creation.image.path == ENDS:
            self._runner.loop.call_soon(lambda: self.end(0))
        elif self._creation.image.path == GROWS:
            self._runner.loop.call_soon(self.exhaust)

    def kill(self, number: int) -> None:
        self.signals.append(number)
        if self.frozen and number != signal.SIGKILL:
            self._stuck.append(number)
        else:
            self._runner.loop.call_soon(lambda: self.end(128 + number))

    def pause(self, answer: Callable[[WasmShimError | None], None]) -> None:
        self._answer = answer
        if self.freezes_at_once:
            self._runner.loop.call_soon(self.freeze)

    def resume(self) -> None:
        self.frozen = False
        for number in self._stuck:
            self.kill(number)

    def update(self, resources: Mapping[str, Any]) -> None:
        if not isinstance(resources.get("memory", {}), dict):
            raise InvalidArgument("memory in the resources is no object")
        self.resources.append(resources)

    def stats(self) -> Metrics:
        if self._ended:
            raise NotFound("the task has ended, and its cgroup has gone")
        return Metrics(METRICS, b"\n\x00")

    def pids(self) -> tuple[int, ...]:
        return (self._pid, *self.others)

    def close_stdin(self) -> None:
        self.stdin_closed = True

    def resize(self, columns: int, rows: int) -> None:
        if not self._creation.terminal:
            raise FailedPrecondition("the task has no terminal; create it with one")
        self.size = (columns, rows)

    def end(self, status: int) -> None:
        """It has ended; only the first end counts."""
        self.frozen = False
        if not self._ended:
            self._ended = True
            self._creating.ended(Exit(status, _ENDED_AT))

    def freeze(self) -> None:
        """It is frozen, unless it has ended before."""
        self.frozen = not self._ended
        self._answer(None)

    def refuse_to_freeze(self) -> None:
        """It cannot be frozen after all."""
        self._answer(FailedPrecondition("the kernel did not freeze it in time; try again"))

    def exhaust(self) -> None:
        """The kernel kills it for want of memory."""
        self._creating.out_of_memory()
        self.end(128 + signal.SIGKILL)


class MemoryRunner:
    """Makes processes at once, or, with `held`, when the test calls `make` or `refuse`."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.held = False
        self.waiting: list[tuple[Creation, Creating]] = []
        self.processes: dict[str, MemoryProcess] = {}
        self._next_pid = _FIRST_PID

    def create(self, creation: Creation, creating: Creating) -> None:
        self.waiting.append((creation, creating))
        if self.held:
            return
        if creation.image.path == BROKEN:
            self.refuse()
        else:
            self.make()

    def make(self) -> None:
        """Make the process that has waited longest."""
        creation, creating = self.waiting.pop(0)
        process = MemoryProcess(self, self._next_pid, creation, creating)
        self._next_pid += 1
        self.processes[creation.id] = process
        creating.made(process)

    def refuse(self) -> None:
        """Fail the creation that has waited longest."""
        self.waiting.pop(0)[1].failed(FailedPrecondition("cannot run it; it is broken"))


class MemoryBench:
    """The bench of `tests.contracts.tasks` without processes."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.runner = MemoryRunner(self.loop)
        self.seen: list[TaskEvent] = []
        self.manager = TaskManager(self.runner, self.seen.append)

    def creation(self, id_: str, program: str) -> Creation:
        """A request for a task of this program."""
        image = Image(program, program)
        return Creation(id_, "/bundle", image, call="", terminal=False, stdin="", stdout="", stderr="")

    def until(self, condition: Callable[[], bool]) -> None:
        """Let things happen until the condition holds."""
        run_until(self.loop, condition)


def run_until(loop: EventLoop, condition: Callable[[], bool]) -> None:
    """Run a loop until the condition holds; the test's time limit ends one that never does."""

    def check() -> None:
        if condition():
            loop.stop()
        else:
            loop.call_later(0.001, check)

    check()
    loop.run()

"""The tasks of one shim: every method of the Task service, without its transport."""

import signal
from collections.abc import Callable, Mapping
from typing import Any

from wasm_shim.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable, WasmShimError
from wasm_shim.task.events import Created, Deleted, Exited, OutOfMemory, Paused, Resumed, Started
from wasm_shim.task.ports import Creation, Exit, Metrics, Observer, Process, Runner, TaskState
from wasm_shim.task.status import Status, Verb, next_status

_MAX_SIZE = 0xFFFF  # columns or rows, in the kernel's struct winsize


class _Task:
    """One task from Create to Delete; the runner tells it what becomes of its process."""

    def __init__(
        self, manager: "TaskManager", creation: Creation, answer: Callable[[int | WasmShimError], None]
    ) -> None:
        self.creation = creation
        self.process: Process | None = None  # none yet: still being created
        self.status = Status.CREATED
        self.exit: Exit | None = None
        self.waiters: list[Callable[[Exit], None]] = []
        self.abandoned = False  # deleted before it was made; nobody hears of it any more
        self._manager, self._answer = manager, answer
        self._starting = False
        self._early: Exit | None = None  # told while it was being started

    def made(self, process: Process) -> None:
        self.process = process
        if self.abandoned:
            process.kill(signal.SIGKILL)
            self._answer(Unavailable(f"task {self.creation.id} was deleted while it was being made"))
            return
        self._manager.observer(Created(self.creation, process.pid))
        self._answer(process.pid)

    def failed(self, error: WasmShimError) -> None:
        self._manager.forget(self)
        self._answer(error)

    def start(self, process: Process) -> None:
        """Whatever `process` tells meanwhile, its start is heard of before its end."""
        self._starting = True
        try:
            process.start()
        except BaseException:
            self.status = Status.CREATED
            raise
        else:
            self._manager.observer(Started(self.creation.id, process.pid))
        finally:
            self._starting = False
            if self._early:
                self.ended(self._early)

    def ended(self, exit_: Exit) -> None:
        if self._starting:
            self._early = exit_
            return
        self.status = next_status(self.status, Verb.EXIT)
        self.exit = exit_
        if self.abandoned:
            self._manager.forget(self)
        else:
            self._manager.observer(Exited(self.creation.id, self.view().pid, exit_))
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(exit_)

    def out_of_memory(self) -> None:
        if not self.abandoned:
            self._manager.observer(OutOfMemory(self.creation.id))

    def view(self) -> TaskState:
        return TaskState(self.creation, self.process.pid if self.process else 0, self.status, self.exit)


class TaskManager:
    """Tasks by id. Methods that take `answer` may call it later; all raise WasmShimError."""

    def __init__(self, runner: Runner, observer: Observer) -> None:
        """`observer` hears of everything that `task.events` lists, before the caller's answer."""
        self._runner, self.observer = runner, observer
        self._tasks: dict[str, _Task] = {}

    def create(self, creation: Creation, answer: Callable[[int | WasmShimError], None]) -> None:
        """Make a task that waits for `start`; answers its pid."""
        if creation.id in self._tasks:
            raise AlreadyExists(f"task {creation.id} exists; delete it or use another id")
        task = self._tasks[creation.id] = _Task(self, creation, answer)
        try:
            self._runner.create(creation, task)
        except BaseException:
            self.forget(task)
            raise

    def start(self, id_: str) -> int:
        """Let the process run; its pid."""
        task, process = self._begin(id_, Verb.START)
        task.start(process)
        return process.pid

    def state(self, id_: str) -> TaskState:
        """What is known of the task."""
        return self._begin(id_, Verb.STATE)[0].view()

    def wait(self, id_: str, answer: Callable[[Exit], None]) -> None:
        """Answer when the process has ended, at once if it has."""
        task, _ = self._begin(id_, Verb.WAIT)
        if task.exit:
            answer(task.exit)
        else:
            task.waiters.append(answer)

    def kill(self, id_: str, number: int) -> None:
        """Send a signal to the process, which is the only one of its task."""
        _, process = self._begin(id_, Verb.KILL)
        if number not in signal.valid_signals():
            raise InvalidArgument(f"there is no signal {number}")
        process.kill(number)

    def pids(self, id_: str) -> tuple[int, ...]:
        """The pids of the task's processes; that of the first one also when it has ended.

        A containerd that starts again takes a task without pids for a leaked one and drops it, with the exit status
        that nobody has asked for yet (core/runtime/v2/shim_load.go).
        """
        task, process = self._begin(id_, Verb.PIDS)
        return (process.pid,) if task.exit else process.pids()

    def close_stdin(self, id_: str) -> None:
        """Let the process's stdin end."""
        self._begin(id_, Verb.CLOSE_IO)[1].close_stdin()

    def resize(self, id_: str, columns: int, rows: int) -> None:
        """Tell the process's terminal its size."""
        _, process = self._begin(id_, Verb.RESIZE)
        if not (0 <= columns <= _MAX_SIZE and 0 <= rows <= _MAX_SIZE):
            raise InvalidArgument(f"a terminal of {columns} by {rows} characters is too large; ask for less")
        process.resize(columns, rows)

    def pause(self, id_: str, answer: Callable[[WasmShimError | None], None]) -> None:
        """Freeze a running task; answers None when it is frozen, or why it is not."""
        task, process = self._begin(id_, Verb.PAUSE)

        def frozen(error: WasmShimError | None) -> None:
            try:
                if error:
                    raise error
                task.status = next_status(task.status, Verb.FROZEN)
            except WasmShimError as reason:  # perhaps that it has ended meanwhile
                if task.status is Status.PAUSING:
                    task.status = Status.RUNNING
                answer(reason)
            else:
                self.observer(Paused(id_))
                answer(None)

        try:
            process.pause(frozen)
        except BaseException:
            task.status = Status.RUNNING
            raise

    def resume(self, id_: str) -> None:
        """Let a paused task go on."""
        task, process = self._begin(id_, Verb.RESUME)
        try:
            process.resume()
        except BaseException:
            task.status = Status.PAUSED
            raise
        self.observer(Resumed(id_))

    def update(self, id_: str, resources: Mapping[str, Any]) -> None:
        """Change the limits of a task to those of an OCI LinuxResources document."""
        self._begin(id_, Verb.UPDATE)[1].update(resources)

    def stats(self, id_: str) -> Metrics:
        """What a task uses."""
        return self._begin(id_, Verb.STATS)[1].stats()

    def delete(self, id_: str, answer: Callable[[TaskState], None]) -> None:
        """Forget a task that has stopped, or was never started; answers its last state.

        One that is still being made is NotFound, and is ended as soon as it is made: its client has given up.
        """
        if id_ in self._tasks and not self._tasks[id_].process:
            self._tasks[id_].abandoned = True
        task, process = self._begin(id_, Verb.DELETE)

        def forget(exit_: Exit) -> None:
            if self.forget(task):
                self.observer(Deleted(id_, process.pid, exit_))
            answer(task.view())

        if task.exit:
            forget(task.exit)
        else:
            task.waiters.append(forget)
            process.kill(signal.SIGKILL)

    def connect(self, id_: str) -> int:
        """The pid of the task's process, 0 for an unknown task: a client that reconnects asks for both."""
        task = self._tasks.get(id_)
        return task.process.pid if task and task.process and not task.abandoned else 0

    def kill_all(self, emptied: Callable[[], None]) -> None:
        """End every process at once; calls `emptied` when the last one has ended."""
        waiting = [(task, task.process) for task in self._tasks.values() if task.process and not task.exit]
        left = len(waiting)
        if not left:
            emptied()
            return

        def one_ended(_exit: Exit) -> None:
            nonlocal left
            left -= 1
            if not left:
                emptied()

        for task, process in waiting:
            task.waiters.append(one_ended)
            process.kill(signal.SIGKILL)

    @property
    def empty(self) -> bool:
        """Whether no task is left; one that was deleted before it was made does not count."""
        return all(task.abandoned for task in self._tasks.values())

    def forget(self, task: _Task) -> bool:
        """Drop a task that is deleted, or failed to be made; whether it was there."""
        if self._tasks.get(task.creation.id) is not task:  # two may delete at once
            return False
        del self._tasks[task.creation.id]
        return True

    def _begin(self, id_: str, verb: Verb) -> tuple[_Task, Process]:
        """The task, in its status after the verb, where the table allows it."""
        task = self._tasks.get(id_)
        if task is None or task.process is None or task.abandoned:
            raise NotFound(f"no task {id_}; create it first")
        task.status = next_status(task.status, verb)
        return task, task.process

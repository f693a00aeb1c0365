"""The tasks of one shim: every method of the Task service, without its transport."""

import signal
from collections.abc import Callable

from wasm_shim.errors import AlreadyExists, InvalidArgument, NotFound, WasmShimError
from wasm_shim.task.ports import Creation, Exit, Observer, Process, Runner, TaskState
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
        self._manager, self._answer = manager, answer

    def made(self, process: Process) -> None:
        self.process = process
        self._manager.changed(self)
        self._answer(process.pid)

    def failed(self, error: WasmShimError) -> None:
        self._manager.forget(self)
        self._answer(error)

    def ended(self, exit_: Exit) -> None:
        self.status = next_status(self.status, Verb.EXIT)
        self.exit = exit_
        self._manager.changed(self)
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(exit_)

    def view(self) -> TaskState:
        return TaskState(self.creation, self.process.pid if self.process else 0, self.status, self.exit)


class TaskManager:
    """Tasks by id. Methods that take `answer` may call it later; all raise WasmShimError."""

    def __init__(self, runner: Runner, observer: Observer) -> None:
        """`observer` hears of creation, start and exit, each before the caller's answer."""
        self._runner, self._observer = runner, observer
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
        process.start()
        self.changed(task)
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
        """Send a signal to the process."""
        _, process = self._begin(id_, Verb.KILL)
        if number not in signal.valid_signals():
            raise InvalidArgument(f"there is no signal {number}")
        process.kill(number)

    def pids(self, id_: str) -> tuple[int, ...]:
        """The pids of the task's processes; none when it has stopped."""
        task, process = self._begin(id_, Verb.PIDS)
        return () if task.exit else (process.pid,)

    def close_stdin(self, id_: str) -> None:
        """Let the process's stdin end."""
        self._begin(id_, Verb.CLOSE_IO)[1].close_stdin()

    def resize(self, id_: str, columns: int, rows: int) -> None:
        """Tell the process's terminal its size."""
        _, process = self._begin(id_, Verb.RESIZE)
        if not (0 <= columns <= _MAX_SIZE and 0 <= rows <= _MAX_SIZE):
            raise InvalidArgument(f"a terminal of {columns} by {rows} characters is too large; ask for less")
        process.resize(columns, rows)

    def delete(self, id_: str, answer: Callable[[TaskState], None]) -> None:
        """Forget a task that has stopped, or was never started; answers its last state."""
        task, process = self._begin(id_, Verb.DELETE)

        def forget(_exit: Exit) -> None:
            self.forget(task)
            answer(task.view())

        if task.exit:
            forget(task.exit)
        else:
            task.waiters.append(forget)
            process.kill(signal.SIGKILL)

    def connect(self, id_: str) -> int:
        """The pid of the task's process, 0 for an unknown task: a client that reconnects asks for both."""
        task = self._tasks.get(id_)
        return task.process.pid if task and task.process else 0

    def kill_all(self, emptied: Callable[[], None]) -> None:
        """End every process at once; calls `emptied` when the last one has ended."""
        waiting = [task for task in self._tasks.values() if task.process and not task.exit]
        left = len(waiting)
        if not left:
            emptied()
            return

        def one_ended(_exit: Exit) -> None:
            nonlocal left
            left -= 1
            if not left:
                emptied()

        for task in waiting:
            task.waiters.append(one_ended)
            self.kill(task.creation.id, signal.SIGKILL)

    @property
    def empty(self) -> bool:
        """Whether no task is left."""
        return not self._tasks

    def changed(self, task: _Task) -> None:
        """Tell the observer."""
        self._observer(task.view())

    def forget(self, task: _Task) -> None:
        """Drop a task that is deleted, or failed to be made."""
        if self._tasks.get(task.creation.id) is task:  # two may delete at once
            del self._tasks[task.creation.id]

    def _begin(self, id_: str, verb: Verb) -> tuple[_Task, Process]:
        """The task, in its status after the verb, where the table allows it."""
        task = self._tasks.get(id_)
        if task is None or task.process is None:
            raise NotFound(f"no task {id_}; create it first")
        task.status = next_status(task.status, verb)
        return task, task.process

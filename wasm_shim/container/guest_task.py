"""One forked guest as a task's process: signals, freezer, limits, and what is left to do when it ends."""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from wasm_shim.container.cgroup import Cgroup, OomWatch
from wasm_shim.container.control import GO
from wasm_shim.container.nursery import Spawned
from wasm_shim.container.stdio import Stdio
from wasm_shim.container.terminal import Terminal
from wasm_shim.errors import DeadlineExceeded, FailedPrecondition, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.steps import reached
from wasm_shim.task.ports import Creating, Exit, Metrics

_POLL: Final = 0.002  # seconds between looks at a cgroup that changes without telling
_FREEZE_SECONDS: Final = 5.0
_REMOVE_SECONDS: Final = 2.0

Answer = Callable[[WasmShimError | None], None]


class GuestTask:
    """The `task.ports.Process` of one forked guest; `cgroup` and `oom`, its watch, are None on the command line."""

    def __init__(  # noqa: PLR0913 - what the process is made of, and whom to tell
        self,
        loop: EventLoop,
        spawned: Spawned,
        stdio: Stdio,
        terminal: Terminal | None,
        cgroup: Cgroup | None,
        oom: OomWatch | None,
        creating: Creating,
    ) -> None:
        self._loop, self._spawned, self._stdio, self._terminal = loop, spawned, stdio, terminal
        self._cgroup, self._oom, self._creating = cgroup, oom, creating
        self._gone = False  # ended, and perhaps still being listened to
        self._frozen = False
        loop.watch_read(spawned.pidfd, self._exited)

    @property
    def pid(self) -> int:
        """The guest's pid in the shim's PID namespace."""
        return self._spawned.pid

    def start(self) -> None:
        """Tell it to go; one that was killed meanwhile is reported by its exit."""
        try:
            if not self._gone:
                self._spawned.control.send(GO)
                reached("shim.started")
        except BrokenPipeError:
            return

    def kill(self, number: int) -> None:
        """Send a signal."""
        try:
            if not self._gone:
                signal.pidfd_send_signal(self._spawned.pidfd, number)
                if number == signal.SIGKILL and self._frozen:  # which a freezer would keep from its work
                    self._own_cgroup().thaw()
        except ProcessLookupError:  # it has ended, and the loop has not heard of it yet
            return

    def pids(self) -> tuple[int, ...]:
        """All that run in the container."""
        found = self._cgroup.pids() if self._cgroup else ()
        return found or (self.pid,)  # its end is not told yet, and nobody shall take it for a leaked one

    def close_stdin(self) -> None:
        """Release the shim's own writer of stdin."""
        self._stdio.close_stdin()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size."""
        if self._terminal is None:
            raise FailedPrecondition("the task has no terminal; create it with one")
        self._terminal.resize(columns, rows)

    def pause(self, answer: Answer) -> None:
        """Freeze the guest, and answer when it stands still, or has ended."""
        cgroup = self._own_cgroup()
        cgroup.freeze()
        self._frozen = True
        self._await_frozen(cgroup, answer, time.monotonic() + _FREEZE_SECONDS)

    def _await_frozen(self, cgroup: Cgroup, answer: Answer, deadline: float) -> None:
        if self._gone or cgroup.frozen:
            answer(None)
        elif time.monotonic() > deadline:
            try:
                self.resume()
            except WasmShimError as error:
                answer(error)
                return
            answer(DeadlineExceeded(f"the task did not freeze within {_FREEZE_SECONDS:.0f} s; it runs on"))
        else:
            self._loop.call_later(_POLL, lambda: self._await_frozen(cgroup, answer, deadline))

    def resume(self) -> None:
        """Let it go on."""
        self._own_cgroup().thaw()
        self._frozen = False

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change the limits."""
        self._own_cgroup().update(resources)

    def stats(self) -> Metrics:
        """What the container uses."""
        return Metrics(*self._own_cgroup().metrics())

    def _own_cgroup(self) -> Cgroup:
        if self._cgroup is None:
            raise FailedPrecondition("the task has no cgroup; containers of the command line have none")
        return self._cgroup

    def _exited(self) -> None:
        self._loop.unwatch_read(self._spawned.pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(self._spawned.pid, 0)[1])
        exit_ = Exit(code if code >= 0 else 128 - code, time.time())
        reached("shim.exited")
        self._gone = True
        self._spawned.control.close()
        os.close(self._spawned.pidfd)
        if self._oom:
            self._oom.look()  # the loop may not have heard of it yet
            self._oom.close()
        if self._terminal:
            self._stdio.release_outputs()
            self._terminal.when_drained(lambda: self._terminal_drained(exit_))
        else:
            self._stdio.when_drained(lambda: self._finish(exit_))

    def _terminal_drained(self, exit_: Exit) -> None:
        if self._terminal:
            self._terminal.close()
        self._stdio.when_drained(lambda: self._finish(exit_))

    def _finish(self, exit_: Exit) -> None:
        self._stdio.close()
        if self._cgroup:
            remove_cgroup(self._loop, self._cgroup, lambda: self._creating.ended(exit_))
        else:
            self._creating.ended(exit_)


def remove_cgroup(loop: EventLoop, cgroup: Cgroup, done: Callable[[], None]) -> None:
    """Remove a cgroup whose processes have ended, as soon as the kernel agrees; `delete` tries again what stays."""
    deadline = time.monotonic() + _REMOVE_SECONDS

    def attempt() -> None:
        try:
            cgroup.remove()
        except OSError as error:
            if error.errno == errno.EBUSY and time.monotonic() < deadline:
                loop.call_later(_POLL, attempt)
                return
        done()

    attempt()

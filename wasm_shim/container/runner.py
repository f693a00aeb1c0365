"""Makes guests: bundle to plan, plan to compiled program, program to a forked guest; all on the event loop."""

import os
import signal
import time
from collections.abc import Callable

from wasm_shim.container.plan import Plan, make_plan
from wasm_shim.container.process import GO, READY, Forge, Spawned, spawn
from wasm_shim.container.spec import read_bundle
from wasm_shim.container.stdio import Stdio
from wasm_shim.container.terminal import Terminal
from wasm_shim.errors import FailedPrecondition, Internal, InvalidArgument, ResourceExhausted, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.runtime import invoke
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest
from wasm_shim.runtime.compile import Compilation
from wasm_shim.runtime.instance import PreparedCall
from wasm_shim.runtime.program import Program
from wasm_shim.runtime.source import open_program
from wasm_shim.steps import reached
from wasm_shim.task.ports import Creating, Creation, Exit


class GuestRunner:
    """The `task.ports.Runner` of Wasm guests."""

    def __init__(self, loop: EventLoop, forge: Forge, cache: ProgramCache) -> None:
        self._loop, self._forge, self._cache = loop, forge, cache
        self._compiling: set[Compilation] = set()

    def create(self, creation: Creation, creating: Creating) -> None:
        """See `task.ports.Runner`: a program that the cache lacks is compiled first, by another process."""
        try:
            _Creation(self._loop, self._forge, self._cache, creation, creating).begin(self._compiling)
        except WasmShimError as error:
            creating.failed(error)

    def cancel(self) -> None:
        """Compile no more: nobody waits for it, and nothing of it shall stay."""
        for compilation in self._compiling:
            compilation.cancel()


class _Creation:
    """One guest on its way from a request to a process behind its wall."""

    def __init__(
        self, loop: EventLoop, forge: Forge, cache: ProgramCache, creation: Creation, creating: Creating
    ) -> None:
        self._loop, self._forge, self._cache = loop, forge, cache
        self._creation, self._creating = creation, creating

    def begin(self, compiling: set[Compilation]) -> None:
        """Find the program; raises WasmShimError as long as nothing has been left to the loop.

        A compilation that the program needs is in `compiling` while it lasts.
        """
        creation = self._creation
        spec = read_bundle(creation.bundle)
        private = self._forge.wall.private_mounts
        self._plan = make_plan(spec, creation.image, creation.call, private_mounts=private)
        source = open_program(self._plan.program)
        try:
            key = digest(source)
            compiled = self._cache.lookup(key)
            if compiled is None:
                compilation = Compilation(self._cache, key, source, self._plan.name)
                compiling.add(compilation)
                self._loop.watch_read(compilation.pidfd, lambda: self._compiled(compilation, compiling))
                return
        except OSError as error:
            raise InvalidArgument(f"cannot read {self._plan.program}: {error.strerror}; check the file") from error
        finally:
            os.close(source)
        self._fork(compiled)

    def _compiled(self, compilation: Compilation, compiling: set[Compilation]) -> None:
        compiling.discard(compilation)
        self._loop.unwatch_read(compilation.pidfd)
        try:
            self._fork(compilation.result())
        except WasmShimError as error:
            self._creating.failed(error)

    def _fork(self, compiled: Compiled) -> None:
        call = prepare_call(compiled.program, self._plan)
        try:
            loaded = self._forge.host.load(compiled)
            self._stdio = stdio = Stdio(self._creation)
        except OSError as error:
            raise ResourceExhausted(f"cannot prepare the guest: {error.strerror}; try again") from error
        self._terminal: Terminal | None = None
        try:
            if self._plan.guest.terminal:
                self._terminal = Terminal(self._loop, stdio)
            slave = self._terminal.slave if self._terminal else -1
            descriptors = (slave,) * 3 if self._terminal else (stdio.stdin, stdio.stdout, stdio.stderr)
            self._spawned = spawn(self._forge, self._plan, loaded, call, descriptors)
        except OSError as error:
            self._release()
            raise ResourceExhausted(f"cannot start a process for the guest: {error.strerror}; try again") from error
        except WasmShimError:
            self._release()
            raise
        if self._terminal:
            self._terminal.release_slave()
        self._loop.watch_read(self._spawned.control.fileno(), self._walled)

    def _walled(self) -> None:
        control = self._spawned.control
        self._loop.unwatch_read(control.fileno())
        told = control.recv(4096)
        if told == READY:
            reached("shim.created")
            guest = GuestTask(self._loop, self._spawned, self._stdio, self._terminal, self._creating.ended)
            self._creating.made(guest)
            return
        os.waitpid(self._spawned.pid, 0)  # it says why, or has been killed: either way it ends
        control.close()
        os.close(self._spawned.pidfd)
        self._release()
        reason = told[1:].decode(errors="replace") or "the guest's process was killed before its wall stood"
        self._creating.failed(Internal(f"{reason}; try again"))

    def _release(self) -> None:
        if self._terminal:
            self._terminal.close()
        self._stdio.close()


def prepare_call(program: Program, plan: Plan) -> PreparedCall | None:
    """The checked call of a plan, or None for a command; raises InvalidArgument or NotFound with the reason."""
    if not plan.guest.call:
        program.require_command(plan.name)
        return None
    call = invoke.parse(plan.guest.call)
    function = program.function(call.name)
    return PreparedCall(function, invoke.check(call, function), program.kind)


class GuestTask:
    """The `task.ports.Process` of one forked guest."""

    def __init__(
        self,
        loop: EventLoop,
        spawned: Spawned,
        stdio: Stdio,
        terminal: Terminal | None,
        ended: Callable[[Exit], None],
    ) -> None:
        self._loop, self._spawned, self._stdio, self._terminal = loop, spawned, stdio, terminal
        self._ended = ended
        self._gone = False  # ended, and perhaps still being listened to
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
        except BrokenPipeError:
            return

    def kill(self, number: int) -> None:
        """Send a signal."""
        try:
            if not self._gone:
                signal.pidfd_send_signal(self._spawned.pidfd, number)
        except ProcessLookupError:  # it has ended, and the loop has not heard of it yet
            return

    def close_stdin(self) -> None:
        """Release the shim's own writer of stdin."""
        self._stdio.close_stdin()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size."""
        if self._terminal is None:
            raise FailedPrecondition("the task has no terminal; create it with one")
        self._terminal.resize(columns, rows)

    def _exited(self) -> None:
        self._loop.unwatch_read(self._spawned.pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(self._spawned.pid, 0)[1])
        exit_ = Exit(code if code >= 0 else 128 - code, time.time())
        reached("shim.exited")
        self._gone = True
        self._spawned.control.close()
        os.close(self._spawned.pidfd)
        if self._terminal:
            self._terminal.when_drained(lambda: self._finish(exit_))
        else:
            self._finish(exit_)

    def _finish(self, exit_: Exit) -> None:
        if self._terminal:
            self._terminal.close()
        self._stdio.close()
        self._ended(exit_)


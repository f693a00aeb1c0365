"""Makes guests: bundle to plan, plan to compiled program, program to a forked guest; all on the event loop."""

import os
import signal
from collections.abc import Callable
from typing import Final

from wasm_shim.container.cgroup import Cgroup, OomWatch, cgroup_at, path_without_spec
from wasm_shim.container.guest_task import GuestTask, remove_cgroup
from wasm_shim.container.plan import Plan, make_plan, make_rooted_plan
from wasm_shim.container.prepare import Preparation, Prepared
from wasm_shim.container.process import FAULT, READY, Forge, Job, Spawned, spawn
from wasm_shim.container.spec import Spec, read_bundle
from wasm_shim.container.stdio import Stdio
from wasm_shim.container.terminal import Terminal
from wasm_shim.container.wall import Enclosure, Wall
from wasm_shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    WasmShimError,
)
from wasm_shim.eventloop import EventLoop
from wasm_shim.runtime import invoke
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest
from wasm_shim.runtime.compile import Compilation
from wasm_shim.runtime.host import Host, Loaded
from wasm_shim.runtime.instance import PreparedCall
from wasm_shim.runtime.program import Program
from wasm_shim.runtime.source import open_program
from wasm_shim.steps import reached
from wasm_shim.task.ports import Creating, Creation

_WALL_SECONDS: Final = 30.0  # from the fork of a guest until its wall stands

Warn = Callable[[str], None]


class GuestRunner:
    """The `task.ports.Runner` of Wasm guests; `warn` hears what is odd and not fatal."""

    def __init__(self, loop: EventLoop, forge: Forge, cache: ProgramCache, warn: Warn | None = None) -> None:
        self.loop, self.forge, self.cache, self.warn = loop, forge, cache, warn
        self.programs = LoadedPrograms(forge.host)
        self.compiling: set[Compilation] = set()

    def create(self, creation: Creation, creating: Creating) -> None:
        """See `task.ports.Runner`: a program that the cache lacks is compiled first, by another process."""
        making = _Making(self, creation, creating)
        try:
            making.begin()
        except WasmShimError as error:
            making.fail(error)

    def cancel(self) -> None:
        """Compile no more: nobody waits for it, and nothing of it shall stay."""
        for compilation in self.compiling:
            self.loop.unwatch_read(compilation.pidfd)
            compilation.cancel()


class LoadedPrograms:
    """Programs that are mapped into this process: each once, however many guests it has."""

    def __init__(self, host: Host) -> None:
        self._host, self._loaded = host, dict[str, Loaded]()

    def load(self, compiled: Compiled) -> Loaded:
        """Map it, or hand out what is mapped; raises Unavailable for a damaged file, OSError."""
        loaded = self._loaded.get(compiled.path)
        if loaded is None:
            loaded = self._loaded[compiled.path] = self._host.load(compiled)
        return loaded


class _Making:
    """One guest on its way from a request to a process behind its wall. Each step is called by the one before."""

    def __init__(self, runner: GuestRunner, creation: Creation, creating: Creating) -> None:
        self._runner, self._creation, self._creating = runner, creation, creating
        self._loop, self._forge = runner.loop, runner.forge
        self._cgroup: Cgroup | None = None
        self._oom: OomWatch | None = None
        self._made = self._starved = False
        self._counted = False  # whether its threads are
        self._enclosure: Enclosure | None = None
        self._stdio: Stdio | None = None
        self._terminal: Terminal | None = None

    def begin(self) -> None:
        """Read the bundle, and find the program; raises WasmShimError."""
        spec = read_bundle(self._creation.bundle)
        if spec.isolation:
            self._prepare(spec)
            return
        private = self._forge.wall.private_mounts
        self._plan = make_plan(spec, self._creation.image, self._creation.call, private_mounts=private)
        source = open_program(self._plan.program)
        try:
            self._compile(digest(source), source)
        except OSError as error:
            raise InvalidArgument(f"cannot read {self._plan.program}: {error.strerror}; check the file") from error
        finally:
            os.close(source)

    def fail(self, error: WasmShimError) -> None:
        """Release what there is and tell the reason."""
        if self._terminal:
            self._terminal.close()
        if self._stdio:
            self._stdio.close()
        self._close_enclosure()
        if self._oom:
            self._oom.close()
        if self._cgroup:
            remove_cgroup(self._loop, self._cgroup, lambda: self._creating.failed(error))
        else:
            self._creating.failed(error)

    def _prepare(self, spec: Spec) -> None:
        isolation, creation = spec.isolation, self._creation
        if isolation is None or self._forge.wall is not Wall.NAMESPACES:
            raise FailedPrecondition("a container with a root file system needs root; run containerd as root")
        self._plan = make_rooted_plan(spec, creation.call)
        self._counted = bool(isolation.resources.get("pids"))
        cgroup = cgroup_at(isolation.cgroup or path_without_spec(creation.id), systemd=creation.systemd_cgroup)

        def prepared(outcome: Prepared | WasmShimError) -> None:
            try:
                if isinstance(outcome, AlreadyExists):  # the cgroup is another container's
                    self._cgroup = None
                if isinstance(outcome, WasmShimError):
                    raise outcome
                self._enclosure = Enclosure(isolation, outcome.namespace, cgroup.entrances())
                try:
                    self._compile(outcome.digest, outcome.program)
                finally:
                    os.close(outcome.program)
            except WasmShimError as error:
                self.fail(error)

        try:
            Preparation(self._loop, spec, isolation, creation.rootfs, cgroup, prepared)
        except OSError as error:
            raise ResourceExhausted(f"cannot start a process for the mounts: {error.strerror}; try again") from error
        self._cgroup = cgroup

    def _compile(self, key: str, source: int) -> None:
        """Go on with the program of this sha256, at once where the cache has it; raises WasmShimError."""
        compiled = self._runner.cache.lookup(key)
        if compiled is not None:
            self._fork(compiled)
            return
        compilation = Compilation(self._runner.cache, key, source, self._plan.name)
        self._runner.compiling.add(compilation)
        self._loop.watch_read(compilation.pidfd, lambda: self._compiled(compilation))

    def _compiled(self, compilation: Compilation) -> None:
        self._runner.compiling.discard(compilation)
        self._loop.unwatch_read(compilation.pidfd)
        try:
            self._fork(compilation.result())
        except WasmShimError as error:
            self.fail(error)

    def _fork(self, compiled: Compiled) -> None:
        call = prepare_call(compiled.program, self._plan)
        try:
            job = Job(self._plan, self._runner.programs.load(compiled), call, self._enclosure)
            self._stdio = stdio = Stdio(self._loop, self._creation)
            if self._plan.guest.terminal:
                self._terminal = Terminal(self._loop, stdio)
            slave = self._terminal.slave if self._terminal else -1
            descriptors = (slave,) * 3 if self._terminal else (stdio.stdin, stdio.stdout, stdio.stderr)
            if self._cgroup:  # from its first page on: a limit may be too low to start with
                self._oom = self._cgroup.watch_oom(self._loop, self._out_of_memory)
            self._spawned = spawn(self._forge, job, descriptors)
        except OSError as error:
            raise ResourceExhausted(f"cannot start a process for the guest: {error.strerror}; try again") from error
        stdio.forked()
        if self._terminal:
            self._terminal.release_slave()
        self._close_enclosure()
        self._loop.watch_read(self._spawned.control.fileno(), self._walled)
        self._timer = self._loop.call_later(_WALL_SECONDS, self._expired)

    def _expired(self) -> None:
        """The guest's process looks into its directories, and one of them may be that of a dead server."""
        signal.pidfd_send_signal(self._spawned.pidfd, signal.SIGKILL)

    def _walled(self) -> None:
        spawned = self._spawned
        self._timer.cancel()
        self._loop.unwatch_read(spawned.control.fileno())
        told = spawned.control.recv(4096)
        if told[:1] != READY or self._stdio is None:
            # It says why, or has been killed: either way it ends.
            self._loop.watch_read(spawned.pidfd, lambda: self._not_walled(spawned, told[1:]))
            return
        if self._runner.warn and len(told) > 1:
            self._runner.warn(told[1:].decode(errors="replace"))
        reached("shim.created")
        guest = GuestTask(self._loop, spawned, self._stdio, self._terminal, self._cgroup, self._oom, self._creating)
        self._made = True
        self._creating.made(guest)
        if self._starved:
            self._creating.out_of_memory()

    def _out_of_memory(self) -> None:
        self._starved = True
        if self._made:  # nobody has heard of the guest before
            self._creating.out_of_memory()

    def _not_walled(self, spawned: Spawned, said: bytes) -> None:
        self._loop.unwatch_read(spawned.pidfd)
        status = os.waitpid(spawned.pid, 0)[1]
        spawned.control.close()
        os.close(spawned.pidfd)
        lacking = ""
        if self._oom and self._oom.killed:
            lacking = "memory limit"
        elif self._counted and not said and os.WTERMSIG(status) != signal.SIGKILL:  # it has ended itself
            lacking = "limit of processes, which holds for threads, too,"
        if lacking:
            self.fail(ResourceExhausted(f"the container's {lacking} is too low for a guest to start; raise it"))
            return
        reason = said.decode(errors="replace")
        if not reason:
            self.fail(Unavailable("the guest's process was killed before its wall stood; try again"))
        elif reason.startswith(FAULT):
            self.fail(Internal(f"{reason}; try again"))
        else:
            self.fail(FailedPrecondition(f"{reason}; look at its config.json"))

    def _close_enclosure(self) -> None:
        if self._enclosure:
            os.close(self._enclosure.namespace)
            self._enclosure = None


def prepare_call(program: Program, plan: Plan) -> PreparedCall | None:
    """The checked call of a plan, or None for a command; raises InvalidArgument or NotFound with the reason."""
    if not plan.guest.call:
        program.require_command(plan.name)
        return None
    call = invoke.parse(plan.guest.call)
    function = program.function(call.name)
    return PreparedCall(function, invoke.check(call, function), program.kind)

"""Makes guests: a bundle to a job, a job to a forked guest; all on the event loop."""

import os
import signal
from collections.abc import Callable
from typing import Final

from wasm_shim.container.cgroup import Cgroup, OomWatch
from wasm_shim.container.control import FAILED, READY
from wasm_shim.container.forge import Forge
from wasm_shim.container.guest_task import GuestTask, remove_cgroup
from wasm_shim.container.nursery import Nursery, Spawned
from wasm_shim.container.prepare import Outcome, Preparation, Workshop
from wasm_shim.container.stdio import Stdio
from wasm_shim.container.terminal import Terminal
from wasm_shim.errors import FailedPrecondition, ResourceExhausted, Unavailable, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.resolver.client import Containerd
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.runtime.host import Loaded
from wasm_shim.steps import reached
from wasm_shim.task.ports import Creating, Creation

_WALL_SECONDS: Final = 30.0  # from the fork of a guest until its wall stands

Warn = Callable[[str], None]


class GuestRunner:
    """The `task.ports.Runner` of Wasm guests; `warn` hears what is odd and not fatal, `containerd` has their images."""

    def __init__(
        self,
        loop: EventLoop,
        forge: Forge,
        cache: ProgramCache,
        warn: Warn | None = None,
        containerd: Containerd | None = None,
    ) -> None:
        """Needs a nursery, which is forked while there is nothing yet that guests should not see; raises OSError."""
        self.shop, self.warn = Workshop(loop, forge, cache, set(), containerd), warn
        self.nursery = GuardedNursery(loop, forge)

    def create(self, creation: Creation, creating: Creating) -> None:
        """See `task.ports.Runner`: another process prepares it, and a program that the cache lacks is compiled."""
        making = _Making(self, creation, creating)
        try:
            making.begin()
        except WasmShimError as error:
            making.fail(error)

    def close(self) -> None:
        """Compile no more, and fork no more: nobody waits for it, and nothing of it shall stay."""
        while self.shop.compiling:
            compilation = self.shop.compiling.pop()
            self.shop.loop.unwatch_read(compilation.pidfd)
            compilation.cancel()
        self.nursery.close()


class GuardedNursery:
    """A nursery with what it has loaded, each program once; one that was killed has a successor."""

    def __init__(self, loop: EventLoop, forge: Forge) -> None:
        self._loop, self._forge = loop, forge
        self._nursery: Nursery | None = None
        self.living()

    def living(self) -> Nursery:
        """The nursery; raises OSError when there can be none."""
        if self._nursery and self._nursery.broken:
            self.close()
        if self._nursery is None:
            self._loaded = dict[str, Loaded]()
            self._nursery = Nursery(self._forge)
            self._loop.watch_read(self._nursery.pidfd, self.close)
        return self._nursery

    def load(self, path: str, kind: str) -> Loaded:
        """Map a program, or hand out what is mapped; raises Unavailable for a damaged file, OSError."""
        nursery = self.living()
        loaded = self._loaded.get(path)
        if loaded is None:
            loaded = self._loaded[path] = nursery.load(path, kind)
        return loaded

    def close(self) -> None:
        """End it, or bury it."""
        if self._nursery:
            self._loop.unwatch_read(self._nursery.pidfd)
            self._nursery.close()
            self._nursery = None


class _Making:
    """One guest on its way from a request to a process behind its wall. Each step is called by the one before."""

    def __init__(self, runner: GuestRunner, creation: Creation, creating: Creating) -> None:
        self._runner, self._creation, self._creating = runner, creation, creating
        self._loop = runner.shop.loop
        self._preparation: Preparation | None = None
        self._oom: OomWatch | None = None
        self._made = self._starved = False
        self._stdio: Stdio | None = None
        self._terminal: Terminal | None = None

    def begin(self) -> None:
        """Open stdio, and have the rest prepared; raises WasmShimError."""
        try:
            self._stdio = stdio = Stdio(self._loop, self._creation)
            if self._creation.terminal:
                self._terminal = Terminal(self._loop, stdio)
            slave = self._terminal.slave if self._terminal else -1
            self._descriptors = (slave,) * 3 if self._terminal else (stdio.stdin, stdio.stdout, stdio.stderr)
            self._preparation = Preparation(self._runner.shop, self._creation, self._descriptors, self._prepared)
        except OSError as error:
            raise ResourceExhausted(f"cannot start a process for the guest: {error.strerror}; try again") from error

    def fail(self, error: WasmShimError) -> None:
        """Release what there is and tell the reason."""
        if self._terminal:
            self._terminal.close()
        if self._stdio:
            self._stdio.close()
        if self._oom:
            self._oom.close()
        if self._preparation and self._preparation.cgroup:
            remove_cgroup(self._loop, self._preparation.cgroup, lambda: self._creating.failed(error))
        else:
            self._creating.failed(error)

    def _prepared(self, outcome: Outcome | WasmShimError) -> None:
        try:
            if isinstance(outcome, WasmShimError):
                raise outcome
            try:
                self._fork(outcome)
            finally:
                outcome.close()
        except WasmShimError as error:
            self.fail(error)
        except OSError as error:
            reason = error.strerror or str(error)
            self.fail(ResourceExhausted(f"cannot start a process for the guest: {reason}; try again"))

    def _fork(self, outcome: Outcome) -> None:
        prepared, nursery, cgroup = outcome.prepared, self._runner.nursery, self._cgroup
        self._counted = prepared.counted
        if self._stdio:
            self._stdio.require_client()
        loaded = nursery.load(prepared.path, prepared.kind)
        if cgroup:  # from its first page on: a limit may be too low to start with
            self._oom = cgroup.watch_oom(self._loop, self._out_of_memory)
        descriptors = [*self._descriptors, *outcome.namespaces]
        self._spawned = nursery.living().spawn(outcome.read_job(), prepared.parameters, loaded, descriptors)
        if prepared.oom_score is not None:
            self._set_oom_score(prepared.oom_score)
        if self._stdio:
            self._stdio.forked()
        if self._terminal:
            self._terminal.release_slave()
        self._loop.watch_read(self._spawned.control.fileno(), self._walled)
        self._timer = self._loop.call_later(_WALL_SECONDS, self._expired)

    @property
    def _cgroup(self) -> Cgroup | None:
        return self._preparation.cgroup if self._preparation else None

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
            self._loop.watch_read(spawned.pidfd, lambda: self._not_walled(spawned, told))
            return
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
        reason = said[1:].decode(errors="replace") if said.startswith(FAILED) else ""
        if reason:
            self.fail(FailedPrecondition(f"{reason}; look at its config.json"))
        else:
            self.fail(Unavailable("the guest's process was killed before its wall stood; try again"))

    def _set_oom_score(self, value: int) -> None:
        try:
            with open(f"/proc/{self._spawned.pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(value))
        except OSError as error:  # lowering it takes CAP_SYS_RESOURCE, which not every node's containerd has
            if self._runner.warn:
                self._runner.warn(f"cannot set oom_score_adj to {value}: {error.strerror}")

"""Have a container prepared by a process of its own (see `preparer`), on the event loop."""

import os
import signal
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from wasm_shim import errors
from wasm_shim.container.cgroup import Cgroup, cgroup_at
from wasm_shim.container.forge import Forge
from wasm_shim.container.nursery import pidfd_of_child
from wasm_shim.container.preparer import CGROUP, COMPILE, COMPILED, DONE, FAILED, MESSAGE, Prepared, Preparer
from wasm_shim.errors import AlreadyExists, DeadlineExceeded, Unavailable, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.resolver.client import Containerd
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.runtime.compile import Compilation
from wasm_shim.task.ports import Creation

_SECONDS: Final = 30.0  # for mounts and for reading the program
_MOST_DESCRIPTORS: Final = 3


class Outcome(NamedTuple):
    """What was prepared; the descriptors, of the job and of namespaces, are the receiver's to close."""

    prepared: Prepared
    job: int
    namespaces: tuple[int, ...]

    def read_job(self) -> bytearray:
        """The job's block."""
        block = bytearray(os.fstat(self.job).st_size)
        os.preadv(self.job, [block], 0)
        return block

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self.job, *self.namespaces):
            os.close(descriptor)


class Workshop(NamedTuple):
    """What all containers of a shim are prepared with."""

    loop: EventLoop
    forge: Forge
    cache: ProgramCache
    compiling: set[Compilation]  # those at work
    containerd: Containerd | None  # which knows the images, unless this is the command line


class Preparation:
    """The process at work; `cgroup` is the container's, from its first moment on."""

    def __init__(
        self,
        shop: Workshop,
        creation: Creation,
        stdio: tuple[int, int, int],
        answer: Callable[[Outcome | WasmShimError], None],
    ) -> None:
        """Start it (see Preparer); `answer` is called once, from the loop. Raises OSError when there can be none."""
        self._shop, self._creation, self._answer = shop, creation, answer
        self.cgroup: Cgroup | None = None
        self._outcome: Outcome | WasmShimError | None = None
        self._over = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            Preparer(shop.forge, shop.cache, shop.containerd, creation, stdio, theirs).run()
        theirs.close()
        self._socket, self._pidfd = ours, pidfd_of_child(self._pid)
        shop.loop.watch_read(ours.fileno(), self._told)
        shop.loop.watch_read(self._pidfd, self._ended)
        self._timer = shop.loop.call_later(_SECONDS, self._expired)

    def _told(self) -> None:
        try:
            said, descriptors, flags, _ = socket.recv_fds(self._socket, MESSAGE, _MOST_DESCRIPTORS)
        except OSError:
            said, descriptors, flags = b"", [], 0
        if flags & socket.MSG_CTRUNC:
            said = FAILED + b"ResourceExhausted\0the pod shim has no descriptors left; raise its limit of open files"
            os.kill(self._pid, signal.SIGKILL)
        self._take(said[:1], said[1:], descriptors)

    def _take(self, kind: bytes, rest: bytes, descriptors: list[int]) -> None:
        if kind == CGROUP:
            self.cgroup = cgroup_at(os.fsdecode(rest), systemd=self._creation.systemd_cgroup)
        elif kind == COMPILE and descriptors:
            key, _, name = rest.partition(b"\0")
            self._compile(key.decode(), os.fsdecode(name), descriptors.pop())
        elif kind == DONE and descriptors:
            job, *namespaces = descriptors
            self._outcome, descriptors = Outcome(Prepared.from_bytes(rest), job, tuple(namespaces)), []
        elif kind == FAILED:
            self._outcome = _failure(rest.decode(errors="replace"))
        for descriptor in descriptors:
            os.close(descriptor)
        if not kind:
            self._shop.loop.unwatch_read(self._socket.fileno())

    def _compile(self, key: str, name: str, program: int) -> None:
        self._timer.cancel()
        loop, compiling = self._shop.loop, self._shop.compiling
        try:
            compilation = Compilation(self._shop.cache, key, program, name)
        except WasmShimError as error:
            self._go_on(error)
            return
        finally:
            os.close(program)

        def ended() -> None:
            compiling.discard(compilation)
            loop.unwatch_read(compilation.pidfd)
            try:
                compilation.result()
            except WasmShimError as error:
                self._go_on(error)
            else:
                self._go_on(None)

        compiling.add(compilation)
        loop.watch_read(compilation.pidfd, ended)

    def _go_on(self, failure: WasmShimError | None) -> None:
        if self._over:
            return
        self._outcome = failure
        self._timer = self._shop.loop.call_later(_SECONDS, self._expired)
        try:
            self._socket.send(b"-" if failure else COMPILED)
        except OSError:
            return  # it was killed, and its end is told next

    def _expired(self) -> None:
        os.kill(self._pid, signal.SIGKILL)  # in vain while the kernel waits for a dead server: answer anyway
        answer, self._answer = self._answer, _discard
        message = f"to prepare the container took over {_SECONDS:.0f} s; look at its volumes and its program"
        answer(DeadlineExceeded(message))

    def _ended(self) -> None:
        loop, self._over = self._shop.loop, True
        loop.unwatch_read(self._pidfd)
        self._timer.cancel()
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        while self._outcome is None and self._still_said():
            self._told()
        loop.unwatch_read(self._socket.fileno())
        self._socket.close()
        if isinstance(self._outcome, AlreadyExists):  # the cgroup is another container's
            self.cgroup = None
        killed = Unavailable("the process that prepares the container was killed; create it again")
        self._answer(self._outcome or killed)

    def _still_said(self) -> bool:
        """Whether there are packets that the loop has not heard of yet."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


def _failure(told: str) -> WasmShimError:
    name, _, message = told.partition("\0")
    failure: WasmShimError = getattr(errors, name, errors.Internal)(message)
    return failure


def _discard(outcome: Outcome | WasmShimError) -> None:
    if isinstance(outcome, Outcome):
        outcome.close()

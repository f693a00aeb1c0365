"""What a guest's process does from its fork to its end, written down by the preparer and carried out by the nursery.

A command runs without a line of Python: see `kernel.machine`. Only a called function's result is printed by Python,
in `called_guest`.
"""

import os
import struct
import termios
from collections.abc import Sequence
from typing import Final, NamedTuple

from wasm_shim.container.control import (
    CONTROL,
    FAILED,
    NAMESPACE,
    NO_THREAD,
    NOT_STARTED,
    READY,
    SIGNAL_SET,
)
from wasm_shim.container.forge import Forge
from wasm_shim.container.plan import Plan
from wasm_shim.container.wall import Enclosure, close_doors, drop_privileges, enter_private_root
from wasm_shim.guest import Guest, Preopen
from wasm_shim.kernel import calls
from wasm_shim.kernel.hold import reached_here
from wasm_shim.kernel.routine import (
    NO_ERROR_NUMBER,
    NOT_NEGATIVE,
    Address,
    Label,
    Result,
    Routine,
    Sender,
    Value,
    exactly,
    function,
)
from wasm_shim.runtime.called import CalledFunction
from wasm_shim.runtime.command import Command
from wasm_shim.runtime.program import Program

_close, _dup2, _exit, _open = function("close"), function("dup2"), function("_exit"), function("open")
_read, _write, _syscall = function("read"), function("write"), function("syscall")
_umask = function("umask")


class Job(NamedTuple):
    """One guest to fork; without an enclosure it gets an empty root with the plan's mounts."""

    plan: Plan
    program: Program
    called: CalledFunction | None
    enclosure: Enclosure | None
    stdio: tuple[int, int, int]  # descriptors of this process


class Parameters(NamedTuple):
    """What a job learns last, when its program is mapped in the nursery: a place of `PARAMETERS`."""

    place: Address

    @property
    def pointer(self) -> Value:
        """Of the mapped program."""
        return Value(self.place)

    def closed(self, index: int) -> tuple[Value, Value]:
        """A range of descriptors that the guest's process closes."""
        return Value(self.place.after(8 + 8 * index), 4), Value(self.place.after(12 + 8 * index), 4)


RANGES: Final = 4  # of descriptors, around those of a program
PARAMETERS: Final = struct.Struct(f"<Q{2 * RANGES}I")


class GuestRoutine:
    """Writes the steps of one guest's process, from its fork on."""

    def __init__(self, routine: Routine, forge: Forge, job: Job, parameters: Parameters) -> None:
        self._routine, self._forge, self._job, self._parameters = routine, forge, job, parameters
        self._command = Command(routine, forge.host, job.program, parameters.pointer)
        self._lost = Label()

    def write(self, received: Sequence[Value]) -> None:
        """`received` are the child's descriptors of control, stdin, stdout, stderr and the mount namespace."""
        routine, failed, refused = self._routine, Label(), Label()
        routine.on_failure = failed
        name = os.path.basename(self._job.plan.guest.arguments[0])
        routine.call(function("prctl"), calls.PR_SET_NAME, os.fsencode(name))  # for process listings
        reached_here(routine, "guest.forked")
        self._take_descriptors(received)
        guest = self._build_wall()
        # The wall stands: from here on wasmtime starts threads, and each inherits all of it.
        routine.on_failure = refused
        config = self._command.configure(guest)
        routine.on_failure = None
        routine.call(_write, CONTROL, READY, 1)
        if self._job.called:
            called, pointer = self._job.called.to_bytes(), self._parameters.pointer
            routine.call(self._forge.called, routine.data(called), len(called), pointer, config)
        else:
            self._run_command(config)
        self._fail(failed, refused)

    def _take_descriptors(self, received: Sequence[Value]) -> None:
        """Stdio, the control socket and the program's file stay open, and nothing else of the nursery."""
        control, *stdio = received[:4]
        # First: until then this number is the nursery's own socket, and nothing may be told there.
        self._routine.call(_dup2, control, CONTROL, check=NOT_NEGATIVE, otherwise=self._lost)
        for number, place in [*enumerate(stdio), *((NAMESPACE, place) for place in received[4:])]:
            self._routine.call(_dup2, place, number, check=NOT_NEGATIVE, what="take its descriptors")
        for index in range(RANGES):  # one that is not needed is refused: its end lies before its beginning
            self._routine.call(_syscall, calls.SYS_CLOSE_RANGE, *self._parameters.closed(index), 0)

    def _build_wall(self) -> Guest:
        """Everything before WASI; the guest with what it may open."""
        routine, forge, job = self._routine, self._forge, self._job
        guest, enclosure = job.plan.guest, job.enclosure
        if guest.terminal:  # its interrupt key reaches the session that has it as its own
            routine.call(function("setsid"))
            routine.call(function("ioctl"), 0, termios.TIOCSCTTY, 0, check=NOT_NEGATIVE, what="get its terminal")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptors = routine.call(_open, b"/proc/self/fd", flags, check=NOT_NEGATIVE, what="/proc/self/fd")
        routine.call(_umask, 0o022)
        if enclosure:
            enclosure.enter(routine, NAMESPACE)
        elif forge.wall.private_mounts:
            enter_private_root(routine, job.plan.mounts)
        drop_privileges(routine, enclosure.isolation.user if enclosure else None, job.stdio)
        if enclosure and len(guest.preopens) > 1:
            tops = (Preopen(path, path, writable=True, optional=True) for path in enclosure.directories)
            guest = guest._replace(preopens=(*guest.preopens, *tops))
        # The guest gets no /proc, but its stdio is opened by name.
        routine.call(function("fchdir"), descriptors, check=NOT_NEGATIVE, what="/proc/self/fd")
        routine.call(_close, descriptors)
        close_doors(routine, forge.wall, guest.preopens, forge.seccomp, job.stdio)
        return guest

    def _run_command(self, config: Result) -> None:
        """The guest runs in a second thread; this one waits for signals, for which guests have no handlers."""
        routine, thread, no_thread, no_go = self._routine, Label(), Label(), Label()
        arguments = routine.cell(), None, self._forge.machine.run, thread
        routine.call(function("pthread_create"), *arguments, check=NO_ERROR_NUMBER, otherwise=no_thread)
        signals, waiting = routine.data(SIGNAL_SET), routine.here()
        # A blocked signal stays pending even for process 1.
        number = routine.call(
            function("sigwaitinfo"), signals, None, check=NOT_NEGATIVE, otherwise=waiting, bias=128
        )
        routine.call(_exit, number)
        routine.place(thread)
        routine.call(_read, CONTROL, routine.cell(), 1, check=exactly(1), otherwise=no_go)
        routine.call(_close, CONTROL)
        self._command.run(config)
        routine.place(no_thread)  # a limit of processes
        routine.call(_write, 2, NO_THREAD, len(NO_THREAD))
        routine.place(no_go)
        routine.call(_exit, NOT_STARTED)

    def _fail(self, failed: Label, refused: Label) -> None:
        """Tell the shim what cannot be done, and, where the kernel refused, why."""
        routine, print_ = self._routine, function("dprintf")
        routine.place(failed)
        error = routine.call(function("__errno_location"))
        number = routine.cell()
        routine.call(function("memcpy"), number, error, 4)
        reason = routine.call(function("strerror"), Value(number, 4))
        routine.call(print_, CONTROL, FAILED + b"cannot wall in the guest: %s (%s)", reason, Value(Sender(failed)))
        routine.call(_exit, NOT_STARTED)
        routine.place(refused)
        routine.call(print_, CONTROL, FAILED + b"cannot %s for the guest", Value(Sender(refused)))
        routine.place(self._lost)
        routine.call(_exit, NOT_STARTED)

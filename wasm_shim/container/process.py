"""Fork a guest: the parent prepares everything, the child builds its wall and runs.

The child's Python is kept short: every page that it touches is copied, per guest.
"""

import _thread
import fcntl
import os
import signal
import socket
import termios
from typing import Final, NamedTuple, NoReturn

from wasm_shim.container.plan import Plan, add_top_directories
from wasm_shim.container.wall import (
    Enclosure,
    Wall,
    close_doors,
    detach_pids,
    drop_privileges,
    enter_private_root,
    strongest_wall,
)
from wasm_shim.errors import Internal
from wasm_shim.kernel import calls
from wasm_shim.kernel.seccomp import Filter, guest_filter
from wasm_shim.runtime.binding import WasmtimeFailure
from wasm_shim.runtime.host import Host, Loaded
from wasm_shim.runtime.instance import GuestProcess, PreparedCall, write_all
from wasm_shim.steps import reached

# Signals that end a guest. Faults stay unblocked: wasmtime turns them into traps.
_FAULTS: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
_HARMLESS: Final = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}  # ignored by default
_STOPPING: Final = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGKILL}
DEADLY: Final = signal.valid_signals() - _FAULTS - _HARMLESS - _STOPPING

READY, GO, FAILED = b"R", b"G", b"F"
FAULT: Final = "fault while walling in the guest"  # how the reason begins where it is ours
_NOT_STARTED: Final = 125  # exit status of a child that never became a guest


class Forge(NamedTuple):
    """What all guests of this process are made with; warm, and made before any fork."""

    host: Host
    wall: Wall
    seccomp: Filter


def make_forge(host: Host) -> Forge:
    """A forge with the strongest wall that this process may build. Needs a single thread."""
    return Forge(host, strongest_wall(), guest_filter())


class Job(NamedTuple):
    """One guest to fork; without an enclosure it gets an empty root with the plan's mounts."""

    plan: Plan
    loaded: Loaded
    call: PreparedCall | None
    enclosure: Enclosure | None


class Spawned(NamedTuple):
    """A forked guest: `control` tells READY or FAILED and a reason, and takes GO; EOF ends the guest."""

    pid: int
    pidfd: int
    control: socket.socket


def spawn(forge: Forge, job: Job, stdio: tuple[int, int, int]) -> Spawned:
    """Fork the guest of a job; it waits behind its wall for GO. `stdio` stays the caller's.

    Raises Internal when this process has threads, and OSError when the kernel refuses.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise Internal("a process with threads cannot fork a guest; this is a fault of wasm-shim")
    ours, theirs = socket.socketpair()
    own_pids = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    # Blocked across the fork: process 1 of a namespace loses a signal that it neither blocks nor handles.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEADLY)
    try:
        detach_pids(forge.wall, job.enclosure.isolation if job.enclosure else None)
        try:
            pid = os.fork()
            if pid == 0:
                _Child(forge, job).run(stdio, theirs.fileno())
        finally:
            if forge.wall is Wall.NAMESPACES:
                calls.setns(own_pids, calls.CLONE_NEWPID)
        return Spawned(pid, os.pidfd_open(pid), ours)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(own_pids)
        theirs.close()


class _Child:
    """The guest's process, from the fork to its end."""

    def __init__(self, forge: Forge, job: Job) -> None:
        self._forge, self._plan, self._enclosure = forge, job.plan, job.enclosure
        self._kept = [*job.loaded.descriptors, *([job.enclosure.namespace] if job.enclosure else [])]
        self._loaded, self._call = job.loaded, job.call

    def run(self, stdio: tuple[int, int, int], control: int) -> None:
        """Never returns. `control` is read and written, not received and sent: the filter allows no socket calls."""
        self._control = control
        try:
            reached("guest.forked")
            self._keep_descriptors(stdio)
            warning = self._build()
            os.write(control, READY + warning.encode())
        except OSError as error:
            what = f" ({error.filename})" if error.filename else ""
            self._give_up(f"cannot wall in the guest: {error.strerror or error}{what}")
        except WasmtimeFailure as error:
            self._give_up(f"cannot wall in the guest: {error}")
        except MemoryError:
            self._give_up("cannot wall in the guest: its limits leave it too little memory")
        except BaseException as error:  # noqa: BLE001 - a process boundary: nothing may return into the shim's loop
            self._give_up(f"{FAULT}: {error!r}")
        try:
            _thread.start_new_thread(self._guest_thread, ())
        except RuntimeError:  # a limit of processes; nothing may return into the shim's loop
            write_all(2, b"wasm-shim: the kernel lets the guest have no second thread; raise its limit of processes\n")
            os._exit(_NOT_STARTED)
        number = signal.sigwait(DEADLY)  # a blocked signal stays pending even for process 1
        os._exit(128 + number)

    def _give_up(self, reason: str) -> NoReturn:
        try:
            os.write(self._control, FAILED + reason.encode())
        finally:  # without the shim, too
            os._exit(_NOT_STARTED)

    def _keep_descriptors(self, stdio: tuple[int, int, int]) -> None:
        """Stdio, the control socket and the program's file stay open, and nothing else of the shim."""
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number, inheritable=False)
        calls.close_descriptors_except({self._control, *self._kept})

    def _build(self) -> str:
        """Everything up to the guest's first instruction; a warning for the log, or nothing."""
        forge, plan, enclosure, warning = self._forge, self._plan, self._enclosure, ""
        if plan.guest.terminal:  # its interrupt key reaches the session that has it as its own
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.umask(0o022)
        if enclosure:
            warning = enclosure.enter()
            os.close(enclosure.namespace)
        elif forge.wall.private_mounts:
            enter_private_root(plan.mounts)
        drop_privileges(enclosure.isolation.user if enclosure else None)
        guest = plan.guest
        if enclosure and len(guest.preopens) > 1:
            guest = add_top_directories(guest)
        self._process = GuestProcess(forge.host, self._loaded, guest, self._call)
        os.fchdir(descriptors)  # the guest gets no /proc, but its stdio is opened by name
        os.close(descriptors)
        close_doors(forge.wall, guest.preopens, forge.seccomp)
        # The wall stands: from here on wasmtime starts threads, and each inherits all of it.
        self._process.configure()
        return warning

    def _guest_thread(self) -> None:
        try:
            if not self._told_to_go():
                os._exit(_NOT_STARTED)
            os.close(self._control)
            status = self._process.run()
        except BaseException as error:  # noqa: BLE001 - the guest's last chance to say what happened
            write_all(2, f"fault while running the guest: {error!r}\n".encode())
            os._exit(_NOT_STARTED)
        os._exit(status)  # of all threads: it ends the main thread's wait

    def _told_to_go(self) -> bool:
        try:
            return os.read(self._control, 1) == GO
        except ConnectionResetError:  # the shim is gone, and has not even read that we are ready
            return False

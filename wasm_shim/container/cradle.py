"""How a nursery is born, and what it does: written down once, in the zygote, and carried out without Python."""

import errno
import os
import signal
import socket
import struct
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from typing import Final

from wasm_shim.container.control import FIRST_FREE, HEADER, NURSERY_NAME, NURSERY_SOCKET, OWN_PIDS, SIGNAL_SET
from wasm_shim.kernel import calls
from wasm_shim.kernel.machine import Machine
from wasm_shim.kernel.routine import (
    NO_ERROR_NUMBER,
    NOT_NEGATIVE,
    ZERO,
    Address,
    Check,
    Label,
    Routine,
    Value,
    exactly,
    function,
    read_int,
)

_MAX_DESCRIPTORS: Final = 8  # of a job
_CONTROL_SIZE: Final = 16 + 4 * _MAX_DESCRIPTORS  # of a control message: cmsghdr and the numbers (cmsg(3))
_MAP_FIXED: Final = 0x10
_MADV_DONTNEED: Final = 4
_ALL: Final = (1 << 64) - 1

_close, _dup2, _memcpy, _syscall = function("close"), function("dup2"), function("memcpy"), function("syscall")


class Cradle:
    """The routine at `base` forks a nursery; `received` is where that keeps the numbers of a job's descriptors.

    `ground` is where jobs lie in its memory.
    """

    def __init__(self, machine: Machine, ground: int) -> None:
        """Raises OSError where there is no memory for it."""
        self._machine = machine
        routine, born = Routine(), Label()
        sockets = routine.cell()
        routine.call(
            function("socketpair"), socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0, sockets,
            check=NOT_NEGATIVE,
        )  # fmt: skip
        self._forked = routine.call(function("fork"), check=exactly(0), otherwise=born)
        received = _serve(routine, machine, ground, Value(sockets.after(4), 4))
        routine.on_failure = None
        routine.place(born)
        routine.call(_close, Value(sockets.after(4), 4))
        routine.end()
        self.base = routine.lay_down()
        self.received = routine.locate(self.base, received)
        self._sockets = routine.locate(self.base, sockets)

    @property
    def pid(self) -> int:
        """Of a nursery that was born with this process and not taken yet, or 0."""
        return max(self._forked.read_int(self.base), 0)

    @property
    def socket(self) -> int:
        """The descriptor of the socket to that nursery, or -1."""
        return read_int(self._sockets) if self.pid else -1

    def bury(self) -> None:
        """End a nursery that was born with this process, and that nobody has taken."""
        pid = self.pid
        if pid:
            os.close(self.socket)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._forked.write(self.base, 0)

    def take(self) -> tuple[int, int]:
        """The pid of a nursery that is a child of this process, and the descriptor of the socket to it.

        One that was born before this process began to work, else a new one. Raises OSError.
        """
        pid = self.pid
        if not pid:
            stopped, pid = self._machine.carry_out(self.base), self.pid
            if stopped or not pid:
                if not stopped:
                    os.close(read_int(self._sockets))
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._forked.write(self.base, 0)
        return pid, read_int(self._sockets)


def _serve(routine: Routine, machine: Machine, ground: int, connection: Value) -> Address:
    """What the nursery does, from its fork on; where it keeps the numbers of a job's descriptors."""
    gone = routine.on_failure = Label()
    _settle(routine, connection)
    header, control = routine.cell(HEADER.size), routine.cell(_CONTROL_SIZE)
    message, control_size = _message(routine, header, control)
    next_job = routine.here()
    routine.call(_memcpy, message.after(40), control_size, 8)  # the kernel has written what it was
    # Of descriptors that do not come, for want of room for them, there shall be no numbers.
    routine.call(function("memset"), control, 0xFF, _CONTROL_SIZE)
    routine.call(function("recvmsg"), NURSERY_SOCKET, message, socket.MSG_WAITALL, check=exactly(HEADER.size))
    flags = MAP_PRIVATE | MAP_ANONYMOUS | _MAP_FIXED
    memory = ground, Value(header), PROT_READ | PROT_WRITE, flags, -1, 0
    routine.call(function("mmap"), *memory, check=Check(_ALL, ground))
    size = routine.cell()
    routine.keep(routine.call(function("recv"), NURSERY_SOCKET, ground, Value(header), socket.MSG_WAITALL), size)
    routine.call(function("memcmp"), size, header, 8, check=NO_ERROR_NUMBER)
    routine.call(machine.run, ground, check=ZERO)
    routine.call(function("madvise"), ground, Value(header), _MADV_DONTNEED)  # it may hold secrets
    routine.jump(next_job)
    routine.place(gone)
    routine.call(function("_exit"), 0)
    return control.after(16)


def _settle(routine: Routine, connection: Value) -> None:
    """It ends with the shim, has a session and few descriptors of its own, and blocks signals that guests wait for."""
    routine.call(function("setsid"))
    kill = calls.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0
    routine.call(function("prctl"), *kill, check=NOT_NEGATIVE)
    routine.call(function("prctl"), calls.PR_SET_NAME, NURSERY_NAME.encode())
    routine.call(_dup2, connection, NURSERY_SOCKET, check=NOT_NEGATIVE)
    pids = routine.call(function("open"), b"/proc/self/ns/pid_for_children", os.O_RDONLY, check=NOT_NEGATIVE)
    routine.call(_dup2, pids, OWN_PIDS, check=NOT_NEGATIVE)
    routine.call(_syscall, calls.SYS_CLOSE_RANGE, FIRST_FREE, 0xFFFFFFFF, 0, check=NOT_NEGATIVE)
    # Process 1 of a namespace loses a signal that it neither blocks nor handles.
    routine.call(function("sigprocmask"), signal.SIG_BLOCK, routine.data(SIGNAL_SET), None, check=NOT_NEGATIVE)


def _message(routine: Routine, header: Address, control: Address) -> tuple[Address, Address]:
    """`struct msghdr` for a header with descriptors (recvmsg(2)), and the size of the control data's room."""
    vector, message = routine.data(struct.pack("QQ", 0, HEADER.size)), routine.cell(56)
    size = routine.data(struct.pack("Q", _CONTROL_SIZE))
    one = struct.pack("Q", 1)
    routine.point(vector, header)
    routine.point(message.after(16), vector)
    routine.write(message.after(24), one)
    routine.point(message.after(32), control)
    return message, size

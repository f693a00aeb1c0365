"""The nursery: a process beside the pod shim that forks its guests.

A guest shares the pages of the process that forked it until one of the two writes to them. The pod shim is busy with
objects and writes everywhere; the nursery is forked before it begins, and never runs a line of Python: it carries out
the routines that the shim sends. So a guest has next to nothing of its own, and nothing of what the shim has read for
others. (Only a nursery that takes the place of a killed one comes from a busy shim.) Guests are the shim's children
all the same (CLONE_PARENT): it waits for them, and they end with it.

A job travels on a socket: its size, with the descriptors, and then the block, written for a place in the nursery's
memory that the zygote has set apart. What comes back is an answer: the result, and errno.
"""

import os
import signal
import socket
import struct
from errno import EINVAL
from typing import Final, NamedTuple

from wasm_shim.container.control import ANSWER, GROUND_SIZE, HEADER, NAMESPACE, NURSERY_SOCKET, OWN_PIDS
from wasm_shim.container.forge import Forge
from wasm_shim.container.process import PARAMETERS, RANGES, GuestRoutine, Job, Parameters
from wasm_shim.container.wall import Wall, detach_pids
from wasm_shim.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable
from wasm_shim.kernel import calls
from wasm_shim.kernel.routine import Label, Result, Routine, Value, exactly, function
from wasm_shim.runtime.host import Loaded

_SECONDS: Final = 30.0  # for an answer: the nursery forks, or maps a file
_GONE: Final = "the process that forks guests was killed or does not answer; create the container again"

_LAST: Final = 0xFFFFFFFF  # higher than any descriptor
_memcpy = function("memcpy")


class Spawned(NamedTuple):
    """A forked guest: `control` tells READY or FAILED and a reason, and takes GO; EOF ends the guest."""

    pid: int
    pidfd: int
    control: socket.socket


class Nursery:
    """The shim's side of it."""

    def __init__(self, forge: Forge) -> None:
        """Take the one that was forked with this process, or fork one; raises OSError. Needs a single thread."""
        if len(os.listdir("/proc/self/task")) != 1:
            raise Internal("a process with threads cannot fork a nursery; this is a fault of wasm-shim")
        self._forge = forge
        self._pid, descriptor = forge.cradle.take()
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(_SECONDS)
        self.pidfd = pidfd_of_child(self._pid)
        self.broken = False  # whether it has answered in vain, or may answer late

    def load(self, path: str, kind: str) -> Loaded:
        """Map a program; raises Unavailable for a file that is damaged or gone, and for a nursery that is gone."""
        try:
            file = os.stat(path)
        except OSError as error:
            raise Unavailable(f"cannot load {path}: {error.strerror}; run it again") from error
        job = _JobRoutine(self._forge, 0)
        pointer = self._forge.host.write_load(job.routine, path, kind)
        answer = self._ask(job.end(Value(pointer)), [])
        if not answer.result:
            self._forge.host.load(path, kind)  # here, for the reason
            raise Unavailable(f"cannot load {path}; run it again")
        return Loaded(answer.result, self._descriptors_of(file))

    def spawn(self, job: bytearray, parameters: int, loaded: Loaded, descriptors: list[int]) -> Spawned:
        """Fork the guest of a job that `write_job` has made; it waits behind its wall for GO.

        `descriptors` are the guest's stdio and those of namespaces, and stay the caller's. Raises Unavailable for a
        nursery that is gone, InvalidArgument for a job too big for it, FailedPrecondition, and OSError where the
        kernel refuses.
        """
        first = NAMESPACE + (len(descriptors) > 3)  # behind stdio, control and, where it has one, its mount namespace
        PARAMETERS.pack_into(job, parameters, loaded.pointer, *_gaps(loaded.descriptors, first))
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = self._fork(job, [theirs.fileno(), *descriptors])
            return Spawned(pid, pidfd_of_child(pid), ours)
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """End it; its guests go on."""
        self._socket.close()
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # it has nothing to tidy up
        os.close(self.pidfd)
        os.waitpid(self._pid, 0)

    def _fork(self, job: bytearray, descriptors: list[int]) -> int:
        answer = self._ask(job, descriptors)
        if answer.result > 0:
            return answer.result
        if self._forge.wall is Wall.USER_NAMESPACE and answer.error == EINVAL:
            message = "a pod shim without root has one container; run the next one in a pod shim of its own"
            raise FailedPrecondition(message)
        raise OSError(answer.error, os.strerror(answer.error))

    def _ask(self, job: bytes | bytearray, descriptors: list[int]) -> "_Answer":
        if len(job) > GROUND_SIZE:
            size, most = (len(job) >> 20) + 1, GROUND_SIZE >> 20
            raise InvalidArgument(f"arguments and environment take {size} MiB; a guest gets {most} at most")
        try:
            socket.send_fds(self._socket, [HEADER.pack(len(job))], descriptors)
            self._socket.sendall(job)
            return _Answer(*ANSWER.unpack(self._socket.recv(ANSWER.size)))
        except (OSError, struct.error) as error:
            self.broken = True
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # what it has not done yet, it shall not do late
            raise Unavailable(_GONE) from error

    def _descriptors_of(self, wanted: os.stat_result) -> tuple[int, ...]:
        """The nursery's open descriptors that are the file."""
        directory = f"/proc/{self._pid}/fd"
        names = os.listdir(directory)
        return tuple(int(name) for name in names if os.path.samestat(os.stat(f"{directory}/{name}"), wanted))


def pidfd_of_child(pid: int) -> int:
    """A pidfd of a child, which is ended where there can be none; raises OSError."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class _Answer(NamedTuple):
    result: int
    error: int  # errno


def write_job(forge: Forge, job: Job) -> tuple[bytes, int]:
    """The block of a guest's job, and where its parameters are in it."""
    count = 4 + len(job.enclosure.namespaces) if job.enclosure else 4
    written = _JobRoutine(forge, count)
    routine, for_guest = written.routine, written.received
    if job.enclosure and job.enclosure.pid_namespace >= 0:
        for_guest, joined = for_guest[:-1], for_guest[-1]
        detach_pids(routine, forge.wall, joined)
    else:
        detach_pids(routine, forge.wall)
    flags = calls.CLONE_PARENT | signal.SIGCHLD
    clone = routine.call(function("syscall"), calls.SYS_CLONE, flags, 0, 0, 0, 0, check=exactly(0))
    parameters = Parameters(routine.cell(PARAMETERS.size))
    GuestRoutine(routine, forge, job, parameters).write(for_guest)
    block = written.end(clone)
    return block, routine.locate(0, parameters.place)


class _JobRoutine:
    """What the nursery does for a job of so many descriptors, and what it answers."""

    def __init__(self, forge: Forge, count: int) -> None:
        self.routine, self._forge, self._after = Routine(), forge, Label()
        self.routine.on_failure = self._after
        self.received = [Value(forge.cradle.received + 4 * index, 4) for index in range(count)]

    def end(self, result: Result | Value) -> bytes:
        """Answer, from wherever it was left, with a result of the routine or a value."""
        routine = self.routine
        routine.on_failure = None
        routine.place(self._after)
        error, answer = routine.call(function("__errno_location")), routine.cell(ANSWER.size)
        routine.call(_memcpy, answer.after(8), error, 4)
        routine.call(_memcpy, answer, result.place if isinstance(result, Value) else result.slot, 8)
        if self._forge.wall is Wall.NAMESPACES:
            routine.call(function("setns"), OWN_PIDS, calls.CLONE_NEWPID)
        routine.call(function("write"), NURSERY_SOCKET, answer, ANSWER.size)
        for descriptor in self.received:
            routine.call(function("close"), descriptor)
        return routine.encode(self._forge.ground)


def _gaps(kept: tuple[int, ...], first: int) -> list[int]:
    """Ranges of descriptors from `first` on without those kept, as pairs; empty ones have their end before it."""
    pairs: list[int] = []
    for descriptor in sorted(kept):
        if descriptor > first:
            pairs += (first, descriptor - 1)
        first = descriptor + 1
    pairs += (first, _LAST)
    return pairs + [_LAST, 0] * (RANGES - len(pairs) // 2)

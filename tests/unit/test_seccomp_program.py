"""The seccomp filters, run by a small interpreter of classic BPF over every system call."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.kernel import seccomp
from wasm_shim.kernel.seccomp import Filter, compiler_filter, guest_filter

X86_64, I386, AARCH64, X32_BIT = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000000
KILL, ALLOW, EPERM, ENOSYS = 0x80000000, 0x7FFF0000, 0x00050001, 0x00050026
MMAP, MPROTECT, IOCTL, CLONE, CLONE3 = 9, 10, 16, 56, 435
TCGETS, TIOCSTI = 0x5401, 0x5412
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
THREAD_FLAGS = 0x3D0F00  # what glibc's pthread_create passes
SIGCHLD = 17

# By number, as the kernel counts them: what no guest and no compiler may do.
FORBIDDEN = {
    "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "fork": 57,
    "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "setuid": 105, "setpgid": 109, "pivot_root": 155,
    "chroot": 161, "mount": 165, "umount2": 166, "init_module": 175, "mknod": 133, "unshare": 272, "setns": 308,
    "perf_event_open": 298, "process_vm_writev": 311, "seccomp": 317, "bpf": 321, "userfaultfd": 323,
    "execveat": 322, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "mount_setattr": 442,
    "process_madvise": 440, "keyctl": 250, "personality": 135, "modify_ldt": 154, "add_key": 248, "shmget": 29,
}  # fmt: skip


class Instruction(NamedTuple):
    code: int
    then: int
    otherwise: int
    value: int


def program_of(made: Filter) -> list[Instruction]:
    """The instructions that `load` hands to the kernel, read through its `struct sock_fprog`."""
    length, address = struct.unpack("H6xQ", made._program)
    return [Instruction(*fields) for fields in struct.iter_unpack("HBBI", ctypes.string_at(address, 8 * length))]


def verdict(program: list[Instruction], number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What the program says of a call."""
    data = struct.pack("IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    at = accumulator = 0
    while True:
        code, then, otherwise, value = program[at]
        match code:
            case 0x20:  # load a word
                (accumulator,) = struct.unpack_from("I", data, value)
                jump = 0
            case 0x15:  # jump if equal
                jump = then if accumulator == value else otherwise
            case 0x45:  # jump if any bit is set
                jump = then if accumulator & value else otherwise
            case 0x06:
                return value
            case _:
                pytest.fail(f"instruction {code:#x} is none that we use")
        at += 1 + jump


GUEST, COMPILER = program_of(guest_filter()), program_of(compiler_filter())
GUEST_CALLS = {seccomp._NUMBERS[name] for name in seccomp._GUEST}
COMPILER_CALLS = {seccomp._NUMBERS[name] for name in seccomp._COMPILER}
BOTH = pytest.mark.parametrize("program", [GUEST, COMPILER], ids=["guest", "compiler"])


def verdicts(program: list[Instruction], allowed: set[int]) -> dict[int, int]:
    """The verdicts on all calls without arguments that differ from the list."""
    expected = dict.fromkeys(range(501), EPERM) | {CLONE3: ENOSYS} | dict.fromkeys(allowed, ALLOW)
    return {number: found for number in expected if (found := verdict(program, number)) != expected[number]}


def test_guest_calls() -> None:
    """A guest may make the listed calls, and memory that is not code; all else is EPERM."""
    assert verdicts(GUEST, GUEST_CALLS | {MMAP, MPROTECT}) == {}


def test_compiler_calls() -> None:
    """The same for the compiler, whose list has mmap and mprotect in it."""
    assert verdicts(COMPILER, COMPILER_CALLS) == {}


def test_numbers_are_those_of_the_kernel() -> None:
    """No name is given another call's number, and no number twice."""
    numbers = seccomp._NUMBERS
    assert len(set(numbers.values())) == len(numbers)
    known = {"read": 0, "write": 1, "close": 3, "mmap": 9, "clone": 56, "openat": 257, "prctl": 157, "statx": 332}
    assert {name: numbers[name] for name in known} == known


@BOTH
@pytest.mark.parametrize("name", FORBIDDEN)
def test_rejects_dangerous_calls(program: list[Instruction], name: str) -> None:
    """Networks, processes, mounts, privileges and other processes' memory are out of reach."""
    assert verdict(program, FORBIDDEN[name]) == EPERM


@BOTH
@pytest.mark.parametrize("architecture", [I386, AARCH64, 0])
@pytest.mark.parametrize("number", [0, 1, 11, 102, 231])
def test_rejects_other_architectures(program: list[Instruction], architecture: int, number: int) -> None:
    """A call by another architecture's numbers ends the process."""
    assert verdict(program, number, architecture=architecture) == KILL


@BOTH
@pytest.mark.parametrize("number", [0, 1, 9, 56, 257, 520, 521])
def test_rejects_the_x32_numbers(program: list[Instruction], number: int) -> None:
    """The numbers of x32, which have the same architecture, are none of ours."""
    assert verdict(program, number | X32_BIT) == EPERM


@pytest.mark.parametrize("number", [MMAP, MPROTECT])
@given(bits=st.integers(0, (1 << 64) - 1))
def test_guest_makes_no_code(number: int, bits: int) -> None:
    """A guest's memory never becomes executable, whatever other bits are set."""
    expected = EPERM if bits & PROT_EXEC else ALLOW
    assert verdict(GUEST, number, 0, 4096, bits) == expected
    assert verdict(COMPILER, number, 0, 4096, bits) == ALLOW


@given(request_=st.integers(0, (1 << 32) - 1) | st.sampled_from([TCGETS, TIOCSTI]))
def test_guest_asks_for_a_terminal_only(request_: int) -> None:
    """Of all requests to a device, a guest may make the one of isatty: none that types into a terminal."""
    assert verdict(GUEST, IOCTL, 0, request_) == (ALLOW if request_ == TCGETS else EPERM)


@BOTH
@given(flags=st.integers(0, (1 << 64) - 1))
def test_threads_but_no_processes(program: list[Instruction], flags: int) -> None:
    """clone makes threads only; where flags are out of sight, in clone3, glibc is told to use clone."""
    assert verdict(program, CLONE, flags) == (ALLOW if flags & 0x10000 else EPERM)
    assert verdict(program, CLONE3, flags) == ENOSYS


@BOTH
def test_usual_ways_to_start(program: list[Instruction]) -> None:
    """pthread_create passes, fork does not."""
    assert verdict(program, CLONE, THREAD_FLAGS) == ALLOW
    assert verdict(program, CLONE, 0x1200000 | SIGCHLD) == EPERM


@BOTH
@given(
    number=st.integers(0, (1 << 32) - 1),
    architecture=st.sampled_from([X86_64, I386]) | st.integers(0, (1 << 32) - 1),
    arguments=st.lists(st.integers(0, (1 << 64) - 1), min_size=6, max_size=6),
)
def test_every_path_ends_in_a_known_verdict(
    program: list[Instruction], number: int, architecture: int, arguments: list[int]
) -> None:
    """No call runs off the program's end, and unknown ones are never allowed."""
    outcome = verdict(program, number, *arguments, architecture=architecture)
    assert outcome in {KILL, ALLOW, EPERM, ENOSYS}
    if outcome == ALLOW:
        assert architecture == X86_64
        assert number in GUEST_CALLS | COMPILER_CALLS | {CLONE, IOCTL}


def test_rejects_unknown_names() -> None:
    """A name without a number is a fault at once, not a hole in the list."""
    with pytest.raises(KeyError):
        Filter(["read", "no_such_call"], executable_memory=False)


def test_the_kernel_takes_and_obeys_it() -> None:
    """Loaded into a child, the filter lets it write and end, and refuses it a socket."""
    reader, writer = os.pipe()
    filters = guest_filter()
    pid = os.fork()
    if pid == 0:
        _try_filter(filters, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"EPERM"
    assert os.waitpid(pid, 0)[1] == 0


def _try_filter(filters: Filter, writer: int) -> None:
    import socket

    from wasm_shim.kernel.calls import set_no_new_privileges

    try:
        set_no_new_privileges()
        filters.load()
        socket.socket()
    except PermissionError:
        os.write(writer, b"EPERM")
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TMPFILE | os.O_RDWR])
def test_compiler_opens_files_for_reading_only(flags: int) -> None:
    """A compiler may open what exists to read it; a guest may open what its wall leaves it in any way."""
    openat = seccomp._NUMBERS["openat"]
    compiler, guest = program_of(compiler_filter()), program_of(guest_filter())
    assert verdict(compiler, openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == verdict(guest, openat, 0, 0, flags)
    assert verdict(compiler, openat, 0, 0, flags) != verdict(compiler, openat, 0, 0, os.O_RDONLY)

"""seccomp allow-lists as classic BPF, assembled here: no library, a few KiB, loaded with one system call.

Source of the rules: seccomp(2); the program sees `struct seccomp_data` {nr, arch, ip, args[6]}. x86-64 only.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from wasm_shim.kernel.calls import syscall
from wasm_shim.kernel.routine import NOT_NEGATIVE, Routine, function

_SYS_SECCOMP: Final = 317
_SET_MODE_FILTER: Final = 1
_AUDIT_ARCH_X86_64: Final = 0xC000003E

_KILL: Final = 0x80000000  # the whole process
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EPERM, _ENOSYS = 1, 38
_REFUSE: Final = _ERRNO | _EPERM

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ARGUMENTS: Final = 16

_MAPPINGS: Final = ("mmap", "mprotect")
_PROT_EXEC: Final = 4
_OPEN_TO_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CLONE_THREAD: Final = 0x10000
_TCGETS: Final = 0x5401  # ioctl(2): what isatty(3) asks

_NUMBERS: Final = {
    name: int(number)
    for name, _, number in (
        pair.partition(":")
        for pair in """
    read:0 write:1 close:3 fstat:5 poll:7 lseek:8 mmap:9 mprotect:10 munmap:11 brk:12 rt_sigaction:13
    rt_sigprocmask:14 rt_sigreturn:15 ioctl:16 pread64:17 pwrite64:18 readv:19 writev:20 sched_yield:24 mremap:25
    madvise:28 dup:32 nanosleep:35 getpid:39 clone:56 exit:60 uname:63 fcntl:72 flock:73 fsync:74 fdatasync:75
    ftruncate:77 getcwd:79 chdir:80 sigaltstack:131 prctl:157 arch_prctl:158 gettid:186 futex:202
    sched_getaffinity:204 getdents64:217 restart_syscall:219 fadvise64:221 clock_gettime:228 clock_getres:229
    clock_nanosleep:230 exit_group:231 epoll_wait:232 epoll_ctl:233 tgkill:234 openat:257 mkdirat:258
    newfstatat:262 unlinkat:263 renameat:264 linkat:265 symlinkat:266 readlinkat:267 ppoll:271 set_robust_list:273
    utimensat:280 epoll_pwait:281 fallocate:285 eventfd2:290 epoll_create1:291 preadv:295 pwritev:296 prlimit64:302
    renameat2:316 getrandom:318 statx:332 rseq:334 clone3:435 openat2:437 rt_sigtimedwait:128 getuid:102
    geteuid:107 getgid:104 getegid:108 sysinfo:99 sched_setaffinity:203 membarrier:324 lstat:6 stat:4 access:21
    faccessat2:439 memfd_create:319 getrusage:98
    """.split()
    )
}

# What a guest needs once the filter stands, and the Python that prints what --invoke returns; a test forces each one
# that is left out.
_GUEST: Final = """
    read write close openat openat2 statx getdents64 pread64 pwrite64 fcntl chdir set_robust_list rseq gettid prctl
    sigaltstack rt_sigaction rt_sigprocmask rt_sigreturn futex epoll_create1 epoll_ctl epoll_wait eventfd2 getrandom
    rt_sigtimedwait exit_group
    munmap mremap madvise brk exit sched_yield clock_nanosleep clock_gettime clock_getres poll ppoll epoll_pwait
    restart_syscall getpid tgkill sched_getaffinity fstat newfstatat lseek readv writev preadv pwritev ftruncate
    fallocate fadvise64 fsync fdatasync unlinkat mkdirat renameat renameat2 linkat symlinkat readlinkat utimensat
    dup
""".split()

# A compiler reads one file, writes two that are open, and starts threads; it may make code executable. Its
# Python reads source files while it reports an error.
_COMPILER: Final = """
    read write close openat statx stat lstat getdents64 pread64 pwrite64 fcntl set_robust_list rseq gettid prctl
    sigaltstack rt_sigaction rt_sigprocmask rt_sigreturn futex getrandom exit_group munmap mremap madvise brk exit
    sched_yield clock_gettime clock_nanosleep restart_syscall getpid tgkill sched_getaffinity fstat newfstatat lseek
    readv writev ftruncate flock access faccessat2 readlinkat getcwd ioctl poll eventfd2 epoll_create1 epoll_ctl
    epoll_wait arch_prctl membarrier prlimit64 sysinfo uname getuid geteuid getgid getegid memfd_create mmap mprotect
""".split()


class Filter:
    """An allow-list: the named calls pass, threads may start, everything else answers EPERM.

    Made once in a warm parent; `load` in a child is one system call.
    """

    def __init__(self, names: Iterable[str], *, executable_memory: bool, writable_files: bool = True) -> None:
        """Without `writable_files`, openat opens for reading only. Raises KeyError for a name without a number here."""
        rules = [_THREADS_ONLY, _ISATTY_ONLY]
        if not executable_memory:  # all code is mapped before the filter is loaded
            rules += [
                _argument_rule(name, 2, _JUMP_IF_ANY_BIT, _PROT_EXEC, then=_REFUSE, otherwise=_ALLOW)
                for name in _MAPPINGS
            ]
        if not writable_files:
            rules.append(
                _argument_rule("openat", 2, _JUMP_IF_ANY_BIT, _OPEN_TO_WRITE, then=_REFUSE, otherwise=_ALLOW)
            )
            names = [name for name in names if name != "openat"]
        program = _assemble([_NUMBERS[name] for name in names], rules)
        self._instructions = ctypes.create_string_buffer(program, len(program))
        self._program = struct.pack("H6xQ", len(program) // 8, ctypes.addressof(self._instructions))

    def load(self) -> None:
        """Put the filter on this thread and all that it starts later; needs no_new_privs. Raises OSError."""
        syscall(_SYS_SECCOMP, _SET_MODE_FILTER, 0, self._program)

    def write(self, routine: Routine) -> None:
        """The same, written down for a child of this process."""
        arguments = _SYS_SECCOMP, _SET_MODE_FILTER, 0, routine.data(self._program)
        routine.call(function("syscall"), *arguments, check=NOT_NEGATIVE, what="seccomp")


def guest_filter() -> Filter:
    """What guests may call: no sockets, no processes, no new executable memory."""
    return Filter(_GUEST, executable_memory=False)


def compiler_filter() -> Filter:
    """What the compiler process may call: no sockets, no processes, no file to be opened for writing."""
    return Filter(_COMPILER, executable_memory=True, writable_files=False)


def _assemble(allowed: Sequence[int], rules: Iterable[list[bytes]]) -> bytes:
    code = [
        _operation(_LOAD, _ARCHITECTURE),
        _operation(_JUMP_IF_EQUAL, _AUDIT_ARCH_X86_64, then=1),
        _operation(_RETURN, _KILL),
        _operation(_LOAD, _NUMBER),
    ]
    for number in allowed:
        code += [_operation(_JUMP_IF_EQUAL, number, otherwise=1), _operation(_RETURN, _ALLOW)]
    for rule in rules:
        code += rule
    code += [_operation(_JUMP_IF_EQUAL, _NUMBERS["clone3"], otherwise=1), _operation(_RETURN, _ERRNO | _ENOSYS)]
    code.append(_operation(_RETURN, _REFUSE))
    return b"".join(code)


def _argument_rule(  # noqa: PLR0913 - a condition and its two outcomes
    name: str, argument: int, test: int, value: int, *, then: int, otherwise: int
) -> list[bytes]:
    """A call judged by the low half of an argument: _JUMP_IF_EQUAL or _JUMP_IF_ANY_BIT of the value."""
    return [
        _operation(_JUMP_IF_EQUAL, _NUMBERS[name], otherwise=4),
        _operation(_LOAD, _ARGUMENTS + 8 * argument),
        _operation(test, value, otherwise=1),
        _operation(_RETURN, then),
        _operation(_RETURN, otherwise),
    ]


def _operation(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One `struct sock_filter`: code, jump if true, jump if false, k."""
    return struct.pack("HBBI", code, then, otherwise, value)


# Threads yes, processes no. clone3 keeps its flags out of a filter's sight: glibc falls back to clone.
_THREADS_ONLY: Final = _argument_rule(
    "clone", 0, _JUMP_IF_ANY_BIT, _CLONE_THREAD, then=_ALLOW, otherwise=_REFUSE
)
# One may learn whether it has a terminal; no other request reaches a device.
_ISATTY_ONLY: Final = _argument_rule("ioctl", 1, _JUMP_IF_EQUAL, _TCGETS, then=_ALLOW, otherwise=_REFUSE)

"""Which system calls the filters of guests and of the compiler let through, tried one by one behind each."""

import json
import mmap
import os
import signal
import subprocess
import sys
from typing import Any, Final

import pytest

from tests.integration.support import DEADLINE

# Loads a filter, tries every call of a JSON object {name: [number, argument...]} on stdin, and tells each outcome.
# A string stands for its bytes, "fd:PATH" for a descriptor that was opened before.
PROBE: Final = """
import errno, json, os, sys
from wasm_shim.kernel import calls, seccomp
tried = json.load(sys.stdin)
def argument(value):
    if isinstance(value, str) and value.startswith("fd:"):
        return os.open(value[3:], os.O_RDONLY)
    return value.encode() if isinstance(value, str) else value
tried = {name: [argument(value) for value in call] for name, call in tried.items()}
outcomes = {}
calls.set_no_new_privileges()
if sys.argv[1] != "none":
    getattr(seccomp, sys.argv[1])().load()
for name, call in tried.items():
    try:
        calls.syscall(*call)
        outcomes[name] = "works"
    except OSError as error:
        outcomes[name] = errno.errorcode[error.errno]
os.write(1, json.dumps(outcomes).encode())
os._exit(0)
"""

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
READ_WRITE, ALL = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
X32: Final = 0x40000000

# Arguments make each call harmless where it is let through.
NETWORK = {
    "socket": [41, 1, 1, 0],
    "socket inet": [41, 2, 1, 0],
    "socket netlink": [41, 16, 3, 0],
    "socket of x32": [X32 | 41, 1, 1, 0],
    "connect": [42, -1, None, 0],
    "accept": [43, -1, None, None],
    "sendto": [44, -1, None, 0, 0, None, 0],
    "sendmsg": [46, -1, None, 0],
    "recvmsg": [47, -1, None, 0],
    "bind": [49, -1, None, 0],
    "socketpair": [53, 1, 1, 0, None],
    "io_uring_setup": [425, 0, None],
}
PROCESSES = {
    "fork": [57],
    "clone": [56, signal.SIGCHLD, 0, 0, 0, 0],
    "execve": [59, "/nowhere", None, None],
    "execveat": [322, -1, "/nowhere", None, None, 0],
    "ptrace": [101, 16, 1, 0, 0],
    "process_vm_readv": [310, 1, None, 0, None, 0, 0],
    "process_vm_writev": [311, 1, None, 0, None, 0, 0],
    "kill": [62, 1, 0],
    "tkill": [200, 1, 0],
    "pidfd_open": [434, 1, 0],
    "pidfd_getfd": [438, -1, 0, 0],
    "pidfd_send_signal": [424, -1, 0, None, 0],
    "setsid": [112],
    "kcmp": [312, 1, 1, 0, 0, 0],
}
PRIVILEGES = {
    "setuid": [105, 0],
    "setresuid": [117, -1, -1, -1],
    "setgroups": [116, 0, None],
    "capset": [126, None, None],
    "seccomp": [317, 1, 0, None],
    "unshare": [272, 0],
    "unshare user": [272, 0x10000000],
    "setns": [308, -1, 0],
    "mount": [165, None, None, None, 0, None],
    "umount2": [166, "/nowhere", 0],
    "pivot_root": [155, "/nowhere", "/nowhere"],
    "chroot": [161, "/nowhere"],
    "open_tree": [428, -1, "", 0],
    "move_mount": [429, -1, "", -1, "", 0],
    "fsopen": [430, "tmpfs", 0],
    "mount_setattr": [442, -1, "", 0, None, 0],
    "open_by_handle_at": [304, -1, None, 0],
    "chmod": [90, "/nowhere", 0],
    "fchmodat": [268, -1, "/nowhere", 0],
    "fchownat": [260, -1, "/nowhere", 0, 0, 0],
    "mknodat": [259, -1, "/nowhere", 0, 0],
    "setxattr": [188, "/nowhere", "user.x", "", 0, 0],
}
KERNEL = {
    "bpf": [321, 0, None, 0],
    "perf_event_open": [298, None, 0, 0, -1, 0],
    "userfaultfd": [323, 1 << 30],
    "keyctl": [250, 0, 0, 0],
    "add_key": [248, "user", "x", None, 0, 0],
    "request_key": [249, "user", "x", None, 0],
    "init_module": [175, None, 0, None],
    "finit_module": [313, -1, None, 0],
    "kexec_load": [246, 0, 0, None, 1 << 40],
    "reboot": [169, 0, 0, 0],
    "swapon": [167, "/nowhere", 0],
    "acct": [163, "/nowhere"],
    "sethostname": [170, None, -1],
    "settimeofday": [164, None, 1],
    "clock_settime": [227, 99, None],
    "iopl": [172, 9],
    "ioperm": [173, -1, -1, 0],
    "personality": [135, 0xFFFFFFFF],
    "modify_ldt": [154, 9, None, 0],
    "shmget": [29, 1, 0, 0],
    "msgget": [68, 1, 0],
    "mq_open": [240, "nowhere", 0, 0, None],
    "quotactl": [179, 0, None, 0, None],
    "lookup_dcookie": [212, 0, None, 0],
    "nfsservctl": [180, 0, None, None],
    "vhangup": [153],
    "syslog": [103, 9, None, 0],
    "fanotify_init": [300, -1, -1],
    "inotify_init1": [294, -1],
}
EXECUTABLE = {
    "mmap executable": [9, 0, 4096, ALL, PRIVATE, -1, 0],
    "mmap code of a file": [9, 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, "fd:/proc/self/exe", 0],
    "mprotect executable": [10, 0, 0, mmap.PROT_READ | mmap.PROT_EXEC],
    "pkey_mprotect": [329, 0, 0, mmap.PROT_READ, -1],
    "shmat": [30, -1, 0, 0o100000],
}
DEVICES = {"ioctl": [16, 0, 0, None], "memfd_create": [319, "x", 0], "dup2": [33, 1, 77]}
ALLOWED = {
    "read": [0, "fd:/dev/null", None, 0],
    "write nothing": [1, 1, "", 0],
    "openat": [257, -100, "/", os.O_DIRECTORY, 0],
    "fstat of a bad descriptor": [72, 1, 1],  # fcntl F_GETFD
    "mmap": [9, 0, 4096, READ_WRITE, PRIVATE, -1, 0],
    "mprotect": [10, 0, 0, READ_WRITE],
    "clock_gettime": [228, 99, None],
    "getrandom": [318, None, 0, 0],
    "epoll_create1": [291, 0],
    "eventfd2": [290, 0, 0],
    "sched_yield": [24],
    "getpid": [39],
    "gettid": [186],
}


def outcomes(filter_name: str, tried: dict[str, Any]) -> dict[str, str]:
    """How the kernel answers each call behind a filter of wasm_shim.kernel.seccomp."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, filter_name],
        input=json.dumps(tried), capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("tried", [NETWORK, PROCESSES, PRIVILEGES, KERNEL, EXECUTABLE, DEVICES])
def test_guests_are_refused(tried: dict[str, Any]) -> None:
    """A guest's filter refuses sockets, processes, privileges, the kernel's own business, new code and devices."""
    assert outcomes("guest_filter", tried) == dict.fromkeys(tried, "EPERM")


def test_the_filter_is_what_refuses() -> None:
    """Without the filter the same calls are let through to the kernel, which answers otherwise."""
    tried = NETWORK | EXECUTABLE | DEVICES
    del tried["socket of x32"]
    found = outcomes("none", tried)
    assert [name for name, outcome in found.items() if outcome == "EPERM"] == []
    assert {found[name] for name in ("socket", "mmap executable", "memfd_create", "dup2")} == {"works"}


def test_clone3_looks_absent() -> None:
    """clone3, whose flags no filter can see, is answered as by a kernel that lacks it, so that clone is tried."""
    for name in ("guest_filter", "compiler_filter"):
        assert outcomes(name, {"clone3": [435, None, 0]}) == {"clone3": "ENOSYS"}


@pytest.mark.parametrize("name", ["guest_filter", "compiler_filter"])
def test_what_a_runtime_needs_passes(name: str) -> None:
    """Files, memory without code, clocks, random bytes and events stay usable."""
    found = outcomes(name, ALLOWED)
    assert found == dict.fromkeys(ALLOWED, "works") | {"clock_gettime": "EINVAL"}


@pytest.mark.parametrize("tried", [NETWORK, PROCESSES, PRIVILEGES, KERNEL])
def test_the_compiler_is_refused(tried: dict[str, Any]) -> None:
    """The compiler's filter refuses sockets, processes, privileges and the kernel's own business, too."""
    assert outcomes("compiler_filter", tried) == dict.fromkeys(tried, "EPERM")


def test_the_compiler_makes_code() -> None:
    """What a compiler is for stays possible: memory that becomes executable."""
    tried = {name: EXECUTABLE[name] for name in ("mmap executable", "mprotect executable")}
    assert set(outcomes("compiler_filter", tried).values()) == {"works"}


THREAD = """
import threading
from wasm_shim.kernel import calls, seccomp
calls.set_no_new_privileges()
seccomp.guest_filter().load()
thread = threading.Thread(target=print, args=("from a thread",))
thread.start()
thread.join()
"""

# mov eax, 20 (getpid of 32-bit x86); int 0x80; ret
OLD_CALL = """
import ctypes, mmap
from wasm_shim.kernel import calls, seccomp
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex("b814000000cd80c3"))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
calls.set_no_new_privileges()
seccomp.guest_filter().load()
call()
"""


def test_threads_start_behind_the_filter() -> None:
    """Threads are no processes: a guest's runtime may start them."""
    done = subprocess.run([sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "from a thread\n"


def test_calls_of_32_bits_kill() -> None:
    """A system call by the 32-bit convention, whose numbers mean other calls, ends the process."""
    done = subprocess.run([sys.executable, "-c", OLD_CALL], capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode in (-signal.SIGSYS, -signal.SIGSEGV)  # the latter where the kernel has no such calls

"""What a guest's process, the nursery and the pod shim agree on: descriptors, signals, and words between them."""

import signal
import struct
from typing import Final

# Signals that end a guest. Faults stay unblocked: wasmtime turns them into traps.
_FAULTS: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
_HARMLESS: Final = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}  # ignored by default
_STOPPING: Final = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGKILL}
DEADLY: Final = signal.valid_signals() - _FAULTS - _HARMLESS - _STOPPING
SIGNAL_SET: Final = sum(1 << number - 1 for number in DEADLY).to_bytes(128, "little")  # sigset_t

# Descriptors in the guest's process; 0 to 2 are its stdio. The second one is open until it has its mounts.
CONTROL, NAMESPACE = 3, 4
READY, GO, FAILED = b"R", b"G", b"F"  # a sentence follows the last one
NOT_STARTED: Final = 125  # exit status of a child that never became a guest
NO_THREAD: Final = b"wasm-shim: the kernel lets the guest have no second thread; raise its limit of processes\n"

# Descriptors in the nursery; what it receives gets higher numbers, behind those of the programs that it has mapped.
NURSERY_SOCKET, OWN_PIDS, FIRST_FREE = 3, 4, 5
HEADER: Final = struct.Struct("<Q")  # of a job: the size of its block
ANSWER: Final = struct.Struct("<qi4x")  # result, errno
GROUND_SIZE: Final = 32 << 20  # bytes of a job: arguments and environment are its bulk, and a spec has 8 MiB
NURSERY_NAME, PREPARER_NAME = "wasm-nursery", "wasm-preparer"  # as process listings show them

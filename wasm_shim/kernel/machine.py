"""The few bytes of machine code that carry out C calls where no Python shall run. x86-64, System V calling convention.

Python counts references inside its objects, so every line of it in a forked child copies pages: 1.9 MiB per guest on
Python 3.11. A child that only makes calls which its parent wrote down (see `routine`) needs a loop, and that is all
that stands here. Its source is below, and a test assembles it anew:

    run:    push rbx                # long run(struct step *first): 0 at the end, or the step that stopped it
            mov  rbx, rdi
    next:   mov  rax, [rbx]         # its function; none ends the routine
            test rax, rax
            jz   done
            mov  rdi, [rbx + 8]     # eight arguments
            mov  rsi, [rbx + 16]
            mov  rdx, [rbx + 24]
            mov  rcx, [rbx + 32]
            mov  r8, [rbx + 40]
            mov  r9, [rbx + 48]
            push qword ptr [rbx + 64]
            push qword ptr [rbx + 56]
            mov  r10, rax
            xor  eax, eax           # a variadic function gets no vector registers
            call r10
            add  rsp, 16
            mov  rcx, rax
            add  rcx, [rbx + 80]    # the result is kept, with the step's bias
            mov  [rbx + 72], rcx
            and  rax, [rbx + 88]    # and judged: masked, is it what the step wants?
            cmp  rax, [rbx + 96]
            mov  rax, [rbx + 104]
            jne  other
            add  rbx, 128
            jmp  next
    other:  test rax, rax           # no other step to go on with
            jz   stop
            mov  rcx, [rbx + 112]   # it learns the name of the step that sent us there
            mov  [rax + 120], rcx
            mov  rbx, rax
            jmp  next
    stop:   mov  rax, rbx
    done:   pop  rbx
            ret
    leave:  movzx edi, byte ptr [rdx + 8]   # a host function of one i32: exit with it
            mov  eax, 231                   # exit_group
            syscall
"""

import ctypes
from ctypes import c_int, c_long, c_size_t, c_void_p
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, PROT_EXEC, PROT_READ, PROT_WRITE
from typing import Final

_RUN: Final = bytes.fromhex(
    "534889fb488b034885c07461488b7b08488b7310488b5318488b4b204c8b43284c8b4b30ff7340ff73384989c231c041ffd24883c410"
    "4889c148034b5048894b4848234358483b4360488b436875094881c380000000ebac4885c0740d488b4b70488948784889c3eb9a4889d85bc3"
)
_LEAVE: Final = bytes.fromhex("0fb67a08b8e70000000f05")
STEP_SIZE: Final = 128  # bytes: function, 8 arguments, result, bias, mask, wanted, other step, name, sender's name

MAP_NORESERVE: Final = 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _mprotect = _libc.mmap, _libc.mprotect
_mmap.argtypes, _mmap.restype = (c_void_p, c_size_t, c_int, c_int, c_int, c_long), c_void_p
_mprotect.argtypes = c_void_p, c_size_t, c_int
_FAILED: Final = (1 << 64) - 1


def new_memory(size: int, protection: int = PROT_READ | PROT_WRITE) -> int:
    """The address of so many bytes of zeros, which stay; raises OSError. What is not touched costs nothing."""
    address = _mmap(None, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), f"the kernel has no {size} bytes of memory for wasm-shim")
    return int(address)


class Machine:
    """The code in memory; `run` and `leave` are its addresses, the same in every process forked later."""

    def __init__(self) -> None:
        """Map it; raises OSError where the kernel lets no memory become executable."""
        self.run = new_memory(PAGESIZE)
        self.leave = self.run + len(_RUN)
        ctypes.memmove(self.run, _RUN + _LEAVE, len(_RUN + _LEAVE))
        if _mprotect(self.run, PAGESIZE, PROT_READ | PROT_EXEC):
            raise OSError(ctypes.get_errno(), "cannot make code executable; allow this process executable memory")
        self._run = ctypes.CFUNCTYPE(c_void_p, c_void_p, use_errno=True)(self.run)

    def carry_out(self, first: int) -> int:
        """Make the calls from the step at this address on; 0 at their end, or the address of the step that stopped.

        ctypes.get_errno() tells why it did.
        """
        return self._run(first) or 0

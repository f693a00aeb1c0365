"""Steps at which a test holds a process, for one that runs no Python there: see `wasm_shim.steps`."""

import os
import socket
import struct

from wasm_shim.kernel.routine import NOT_NEGATIVE, Label, Routine, function
from wasm_shim.steps import holder_of


def reached_here(routine: Routine, step: str) -> None:
    """Write down what `steps.reached` does, if a test holds this step."""
    holder = os.fsencode(holder_of(step))
    if not holder:
        return
    free = Label()
    address = struct.pack("<H", socket.AF_UNIX) + holder + b"\0"
    gate = routine.call(function("socket"), socket.AF_UNIX, socket.SOCK_STREAM, 0)
    arguments = gate, routine.data(address), len(address)
    routine.call(function("connect"), *arguments, check=NOT_NEGATIVE, otherwise=free)
    routine.call(function("write"), gate, step.encode(), len(step))
    routine.call(function("read"), gate, routine.cell(), 1)
    routine.place(free)
    routine.call(function("close"), gate)

"""What all guests of a process are made with; warm, and made in the zygote before any fork."""

import ctypes
from ctypes import c_size_t, c_void_p
from typing import Final, NamedTuple

from wasm_shim.container.called_guest import run_called
from wasm_shim.container.control import GROUND_SIZE
from wasm_shim.container.cradle import Cradle
from wasm_shim.container.wall import Wall, strongest_wall
from wasm_shim.kernel.machine import Machine, new_memory
from wasm_shim.kernel.routine import address_of
from wasm_shim.kernel.seccomp import Filter, guest_filter
from wasm_shim.runtime.host import Host


class Forge(NamedTuple):
    """`ground` is the address where a job lies in a nursery's memory, `called` that of a function of C that runs
    `run_called` for its arguments: address and size of a CalledFunction, the program and the WASI configuration.
    """

    machine: Machine
    host: Host
    wall: Wall
    seccomp: Filter
    ground: int
    cradle: Cradle
    called: int


def make_forge() -> Forge:
    """A forge with the strongest wall that this process may build. Needs a single thread.

    Raises Unimplemented on machines that it cannot serve, OSError.
    """
    machine = Machine()
    host = Host(machine)

    def called(address: int, size: int, pointer: int, config: int) -> None:
        run_called(host, ctypes.string_at(address, size), pointer, config)

    callback = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p, c_void_p)(called)
    _KEPT.append(callback)
    ground = new_memory(GROUND_SIZE, protection=0)
    wall, cradle = strongest_wall(machine), Cradle(machine, ground)
    return Forge(machine, host, wall, guest_filter(), ground, cradle, address_of(callback))


_KEPT: Final[list[object]] = []  # nobody else holds a function that only C knows

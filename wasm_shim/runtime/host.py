"""The warm half of the runtime: library, engine and linkers, made once before any fork.

Nothing here makes a WASI configuration: its random generator is seeded when it is made, and every process
forked later would hand out the same "secure" bytes. Nothing compiles, and nothing starts a thread.
"""

import ctypes
import os
from ctypes import byref, c_void_p
from typing import Any, NamedTuple

from wasm_shim.errors import Unavailable
from wasm_shim.kernel.machine import Machine
from wasm_shim.kernel.routine import ZERO, Address, Routine, address_of
from wasm_shim.runtime.binding import Library, WasmtimeFailure, library_path
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.program import CORE

_I32 = 0  # WASM_I32 of wasm_valkind_t


class Host:
    """An engine that can load and run precompiled programs; shared by all forked guests."""

    def __init__(self, machine: Machine) -> None:
        """Load libwasmtime; raises Unimplemented on machines it cannot serve, OSError."""
        # One worker for a guest's async I/O instead of one per CPU; read when the first WASI call starts it.
        os.environ["TOKIO_WORKER_THREADS"] = "1"
        self.library = library = Library(library_path())
        self.engine_id = engine_id()
        self.engine = library.wasm_engine_new()
        self.core_linker = self._make_core_linker(machine)
        self.component_linker = library.wasmtime_component_linker_new(self.engine)
        library.check(library.wasmtime_component_linker_add_wasip2(self.component_linker))
        library.check(library.wasmtime_component_linker_add_wasi_http(self.component_linker))

    def _make_core_linker(self, machine: Machine) -> int:
        library = self.library
        linker: int = library.wasmtime_linker_new(self.engine)
        library.check(library.wasmtime_linker_define_wasi(linker))
        # The library's own proc_exit refuses codes above 125; ours ends the process at once.
        library.wasmtime_linker_allow_shadowing(linker, True)
        module, name = b"wasi_snapshot_preview1", b"proc_exit"
        library.check(
            library.wasmtime_linker_define_func(
                linker, module, len(module), name, len(name), self._i32_to_nothing(), machine.leave, None, None
            )
        )
        return linker

    def _i32_to_nothing(self) -> int:
        library = self.library
        parameters, results = (ctypes.c_size_t * 2)(), (ctypes.c_size_t * 2)()  # wasm_valtype_vec_t {size, data}
        library.wasm_valtype_vec_new(parameters, 1, (c_void_p * 1)(library.wasm_valtype_new(_I32)))
        library.wasm_valtype_vec_new(results, 0, None)
        kind: int = library.wasm_functype_new(parameters, results)
        return kind

    def load(self, path: str, kind: str) -> int:
        """Map a program's native code; raises Unavailable when the file is damaged or gone."""
        pointer = c_void_p()
        try:
            self.library.check(self._deserialize(kind)(self.engine, os.fsencode(path), byref(pointer)))
        except WasmtimeFailure as error:
            message = f"cannot load {path}: {' '.join(str(error).split())}; remove it and run again"
            raise Unavailable(message) from error
        return pointer.value or 0

    def write_load(self, routine: Routine, path: str, kind: str) -> Address:
        """The same, written down for another process; where it leaves the pointer."""
        pointer = routine.cell()
        routine.call(address_of(self._deserialize(kind)), self.engine, os.fsencode(path), pointer, check=ZERO)
        return pointer

    def _deserialize(self, kind: str) -> Any:
        library = self.library
        return library.wasmtime_module_deserialize_file if kind == CORE else library.wasmtime_component_deserialize_file


class Loaded(NamedTuple):
    """A program whose code is mapped into a nursery, and into the guests that it forks.

    `pointer` is a wasmtime_module_t or wasmtime_component_t, by the program's kind. `descriptors` must stay open in
    a guest: wasmtime maps its memory from them.
    """

    pointer: int
    descriptors: tuple[int, ...]

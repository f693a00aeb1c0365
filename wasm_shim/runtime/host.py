"""The warm half of the runtime: library, engine and linkers, made once before any fork.

Nothing here makes a WASI configuration: its random generator is seeded when it is made, and every process
forked later would hand out the same "secure" bytes. Nothing compiles, and nothing starts a thread.
"""

import ctypes
import os
from ctypes import byref, c_void_p
from typing import Any

from wasm_shim.errors import Unavailable
from wasm_shim.runtime.binding import FUNC_CALLBACK, Library, WasmtimeFailure, library_path
from wasm_shim.runtime.cache import Compiled
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.program import CORE, Program

_I32 = 0  # WASM_I32 of wasm_valkind_t


class Host:
    """An engine that can load and run precompiled programs; shared by all forked guests."""

    def __init__(self) -> None:
        """Load libwasmtime; raises Unimplemented on machines it cannot serve, OSError."""
        # One worker for a guest's async I/O instead of one per CPU; read when the first WASI call starts it.
        os.environ["TOKIO_WORKER_THREADS"] = "1"
        self.library = library = Library(library_path())
        self.engine_id = engine_id()
        self.engine = library.wasm_engine_new()
        self.exit_code = -1  # of a core module's proc_exit, which comes back as a trap
        self.core_linker = self._make_core_linker()
        self.component_linker = library.wasmtime_component_linker_new(self.engine)
        library.check(library.wasmtime_component_linker_add_wasip2(self.component_linker))
        library.check(library.wasmtime_component_linker_add_wasi_http(self.component_linker))

    def _make_core_linker(self) -> int:
        library = self.library
        linker: int = library.wasmtime_linker_new(self.engine)
        library.check(library.wasmtime_linker_define_wasi(linker))
        # The library's own proc_exit refuses codes above 125; ours notes any code and unwinds by a trap.
        library.wasmtime_linker_allow_shadowing(linker, True)
        self._proc_exit = FUNC_CALLBACK(self._on_proc_exit)
        module, name = b"wasi_snapshot_preview1", b"proc_exit"
        library.check(
            library.wasmtime_linker_define_func(
                linker, module, len(module), name, len(name), self._i32_to_nothing(), self._proc_exit, None, None
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

    def _on_proc_exit(self, _env: Any, _caller: Any, arguments: int, *_rest: Any) -> int:
        self.exit_code = ctypes.c_uint32.from_address(arguments + 8).value & 0xFF
        trap: int = self.library.wasmtime_trap_new(b"exit", 4)
        return trap

    def load(self, compiled: Compiled) -> "Loaded":
        """Map a program's native code; raises Unavailable when the file is damaged or gone."""
        library, pointer = self.library, c_void_p()
        core = compiled.program.kind == CORE
        deserialize = (
            library.wasmtime_module_deserialize_file if core else library.wasmtime_component_deserialize_file
        )
        try:
            library.check(deserialize(self.engine, os.fsencode(compiled.path), byref(pointer)))
        except WasmtimeFailure as error:
            message = f"cannot load {compiled.path}: {' '.join(str(error).split())}; remove it and run again"
            raise Unavailable(message) from error
        return Loaded(compiled.program, pointer.value or 0, _descriptors_of(compiled.path))


def _descriptors_of(path: str) -> tuple[int, ...]:
    """The open descriptors of this process that are the file."""
    wanted, found = os.stat(path), []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), wanted):
                found.append(int(name))
        except OSError:  # the listing's own descriptor
            continue
    return tuple(found)


class Loaded:
    """A program whose code is mapped into this process, and into those that it forks."""

    def __init__(self, program: Program, pointer: int, descriptors: tuple[int, ...]) -> None:
        """`pointer` is a wasmtime_module_t or wasmtime_component_t, by the program's kind.

        `descriptors` must stay open in a forked child: wasmtime maps the guest's memory from them.
        """
        self.program, self.pointer, self.descriptors = program, pointer, descriptors

"""`wasm_shim.load`: exported functions of a program as Python functions, in this process.

The Wasm wall holds here too (the program sees no file, no variable and no network), the kernel's wall does
not: that takes a process of its own, as `wasm-shim run` makes it.
"""

import os
from typing import Any

import wasmtime
from wasmtime import component as wc

from wasm_shim.errors import InvalidArgument, NotFound
from wasm_shim.images.start import is_path
from wasm_shim.paths import user_paths
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.runtime.compile import compile_now
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.invoke import check_range
from wasm_shim.runtime.program import CORE, Function


class Trap(Exception):
    """The program stopped itself: unreachable code, a bad memory access, an integer division by zero, …

    The text is wasmtime's, with the Wasm backtrace.
    """


class Exit(Exception):
    """The program called exit; `code` is its exit status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the program exited with status {code}")
        self.code = code


class LoadedProgram:
    """An instance of a program; its exported functions are attributes.

    A name that is no Python identifier is reached with underscores for dashes, or as an item:
    `program["run-once"]`; a function of an exported interface as `program["example:fraction/ops#add"]`, or
    by its own name where that is the only one.
    """

    def __init__(self, path: str) -> None:
        cache = ProgramCache(user_paths(os.environ).programs, engine_id())
        compiled = compile_now(cache, path)
        self._path, self._program = path, compiled.program
        if self._program.refusal:
            raise InvalidArgument(f"cannot load {path}: {self._program.refusal}")
        if any(line.startswith("wasi:http/") for line in self._program.imports):
            message = "it imports wasi:http, and programs that are loaded get no network; start it with wasm-shim run"
            raise InvalidArgument(f"cannot load {path}: {message}")
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        self._store.set_wasi(wasmtime.WasiConfig())
        self._core = self._program.kind == CORE
        if self._core:
            linker = wasmtime.Linker(engine)
            linker.define_wasi()
            linker.allow_shadowing = True  # the library's own proc_exit refuses codes above 125
            kind = wasmtime.FuncType([wasmtime.ValType.i32()], [])
            linker.define_func("wasi_snapshot_preview1", "proc_exit", kind, _exit)
            module = wasmtime.Module.deserialize_file(engine, compiled.path)
            self._instance: Any = self._guarded(linker.instantiate, self._store, module)
            if any(function.name == "_initialize" for function in self._program.functions):
                self._guarded(self._instance.exports(self._store)["_initialize"], self._store)
        else:
            component_linker = wc.Linker(engine)
            component_linker.add_wasip2()
            self._component = wc.Component.deserialize_file(engine, compiled.path)
            self._instance = self._guarded(component_linker.instantiate, self._store, self._component)

    def __getitem__(self, name: str) -> Any:
        """The exported function of that name; KeyError where there is none."""
        try:
            function = self._program.function(name)
        except NotFound as error:
            raise KeyError(error.message) from error
        return self._callable(function)

    def __getattr__(self, name: str) -> Any:
        """The exported function of that name, dashes written as underscores; AttributeError where there is none."""
        if name.startswith("__"):
            raise AttributeError(name)
        for candidate in (name, name.replace("_", "-")):
            try:
                return self[candidate]
            except KeyError:
                continue
        there = ", ".join(function.signature for function in self._program.functions) or "none"
        raise AttributeError(f"{self._path} exports no function {name}; its functions: {there}")

    def __dir__(self) -> list[str]:
        """The names of the exported functions, for completion."""
        return [function.name.replace("-", "_") for function in self._program.functions]

    def _callable(self, function: Function) -> Any:
        if self._core:
            raw = self._instance.exports(self._store)[function.name]
        else:
            index = None
            for part in function.name.split("#"):
                index = self._component.get_export_index(part, index)
            raw = self._instance.get_func(self._store, index)

        def call(*arguments: Any) -> Any:
            if len(arguments) != len(function.parameters):
                wanted, given = len(function.parameters), len(arguments)
                raise TypeError(f"{function.name} takes {wanted} arguments, not {given}: {function.signature}")
            for argument, (_, kind) in zip(arguments, function.parameters, strict=True):
                check_range(argument, kind, function.signature)
            return self._guarded(raw, self._store, *arguments)

        call.__name__ = call.__qualname__ = function.name
        call.__doc__ = function.signature
        return call

    @staticmethod
    def _guarded(function: Any, *arguments: Any) -> Any:
        """Call into wasmtime; its errors become Exit and Trap."""
        try:
            return function(*arguments)
        except wasmtime.ExitTrap as end:
            raise Exit(end.code) from None
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise Trap(str(error).strip()) from None


def _exit(code: int) -> None:
    raise Exit(code & 0xFF)


def load(program: str | os.PathLike[str]) -> LoadedProgram:
    """Load a .wasm or .wat file, or an image, which is pulled where it is missing: `load("addition.wasm").add(27, 6)`.

    A string is a file where there is such a file, or where it looks like one. Raises NotFound, InvalidArgument and
    the other errors of `wasm_shim.errors`, each with a sentence.
    """
    if isinstance(program, str) and not is_path(program) and not os.path.exists(program):
        from wasm_shim.images.library import program_of  # not for files

        return LoadedProgram(program_of(program))
    return LoadedProgram(os.path.abspath(os.fspath(program)))

"""Call an exported function in the guest's process, and print what it returns: the one thing that Python does there.

Everything up to the wall, and WASI's configuration, has been done by then (see `command`).
"""

import ctypes
import marshal
import os
from ctypes import byref, c_void_p
from typing import Any, NamedTuple

from wasm_shim.runtime import invoke
from wasm_shim.runtime.binding import FUNCTION_SIZE, INSTANCE_SIZE, VAL_SIZE, VALUE_OFFSET, WasmtimeFailure
from wasm_shim.runtime.command import TRAPPED
from wasm_shim.runtime.host import Host
from wasm_shim.runtime.program import CORE, Function, Program


class CalledFunction(NamedTuple):
    """A checked call."""

    kind: str  # of the program
    initializes: bool  # whether it is a WASI reactor
    function: Function
    values: tuple[Any, ...]

    @classmethod
    def of(cls, program: Program, function: Function, values: tuple[Any, ...]) -> "CalledFunction":
        """A call of `checked_call`."""
        initializes = any(exported.name == "_initialize" for exported in program.functions)
        return cls(program.kind, initializes, function, values)

    def to_bytes(self) -> bytes:
        """For another process of the same installation."""
        return marshal.dumps((self.kind, self.initializes, tuple(self.function), self.values))

    @classmethod
    def from_bytes(cls, data: bytes) -> "CalledFunction":
        """Read `to_bytes` back."""
        kind, initializes, function, values = marshal.loads(data)  # noqa: S302 - our own shim wrote it
        return cls(kind, initializes, Function(*function), values)


def checked_call(text: str, program: Program) -> tuple[Function, tuple[Any, ...]]:
    """The function that a text such as `add(27, 6)` calls, and its arguments; raises InvalidArgument or NotFound."""
    call = invoke.parse(text)
    function = program.function(call.name)
    return function, invoke.check(call, function)


class Caller:
    """One call in this process."""

    def __init__(self, host: Host, called: CalledFunction, pointer: int) -> None:
        """`pointer` is that of the program, mapped."""
        self._host, self._called, self._pointer = host, called, pointer
        self._call = PreparedCall(called.function, called.values, called.kind)

    def run(self, config: int) -> int:
        """Instantiate with this WASI configuration and call; the exit status.

        A trap's message and backtrace go to stderr.
        """
        try:
            context = self._store(config)
            return self._run_core(context) if self._called.kind == CORE else self._run_component(context)
        except WasmtimeFailure as error:
            return self._trapped(str(error))

    def _store(self, config: int) -> int:
        library = self._host.library
        self._stored = library.wasmtime_store_new(self._host.engine, None, None)
        context: int = library.wasmtime_store_context(self._stored)
        library.check(library.wasmtime_context_set_wasi(context, config))
        library.wasmtime_context_set_wasi_http(context)
        return context

    def _trapped(self, message: str) -> int:
        write_all(2, f"{message.rstrip()}\n".encode())
        return TRAPPED

    # Core modules

    def _run_core(self, context: int) -> int:
        library, trap = self._host.library, c_void_p()
        instance = ctypes.create_string_buffer(INSTANCE_SIZE)
        error = library.wasmtime_linker_instantiate(
            self._host.core_linker, context, self._pointer, instance, byref(trap)
        )
        status = self._core_outcome(error, trap)
        if status is None and self._called.initializes:
            status = self._call_core(context, instance, "_initialize", None)
        if status is None:
            status = self._call_core(context, instance, self._called.function.name, self._call)
        if status is None:
            self._call.print_results()
        return status or 0

    def _call_core(self, context: int, instance: Any, name: str, call: "PreparedCall | None") -> int | None:
        """Call an export; the exit status, or None when it came back normally."""
        library, trap = self._host.library, c_void_p()
        export = ctypes.create_string_buffer(VAL_SIZE)
        encoded = name.encode()
        if not library.wasmtime_instance_export_get(context, instance, encoded, len(encoded), export):
            return self._trapped(f"no export {name}")
        function = byref(export, VALUE_OFFSET)
        buffers = call.buffers() if call else (None, 0, None, 0)
        return self._core_outcome(library.wasmtime_func_call(context, function, *buffers, byref(trap)), trap)

    def _core_outcome(self, error: int | None, trap: c_void_p) -> int | None:
        """The exit status, or None when the call came back normally."""
        if error:
            return self._outcome(error)
        return self._trapped(self._host.library.trap_message(trap.value)) if trap.value else None

    # Components

    def _run_component(self, context: int) -> int:
        library = self._host.library
        instance = ctypes.create_string_buffer(INSTANCE_SIZE)
        error = library.wasmtime_component_linker_instantiate(
            self._host.component_linker, context, self._pointer, instance
        )
        if error:
            return self._outcome(error)
        function = self._component_function(context, instance, self._called.function.name)
        error = library.wasmtime_component_func_call(function, context, *self._call.buffers())
        if error:
            return self._outcome(error)
        self._call.print_results()
        return 0

    def _component_function(self, context: int, instance: Any, name: str) -> Any:
        library, index = self._host.library, None
        for part in name.split("#"):  # an interface, then the function in it; or just a function
            encoded = part.encode()
            index = library.wasmtime_component_get_export_index(self._pointer, index, encoded, len(encoded))
        function = ctypes.create_string_buffer(FUNCTION_SIZE)
        if not library.wasmtime_component_instance_get_func(instance, context, index, function):
            raise WasmtimeFailure(f"no export {name}")
        return function

    def _outcome(self, error: int) -> int:
        """The exit status of what came back as an error."""
        code = self._host.library.exit_status(error)
        return code & 0xFF if code is not None else self._trapped(self._host.library.error_message(error))


class PreparedCall:
    """A checked call with its value buffers."""

    def __init__(self, function: Function, values: tuple[Any, ...], program_kind: str) -> None:
        """`values` come from `invoke.check`."""
        self.function, self._program_kind = function, program_kind
        self._arguments = ctypes.create_string_buffer(VAL_SIZE * max(len(values), 1))
        self._results = ctypes.create_string_buffer(VAL_SIZE * max(len(function.results), 1))
        kinds = [kind for _, kind in function.parameters]
        self._kept = [
            invoke.pack(kind, program_kind, value, self._arguments, index)
            for index, (kind, value) in enumerate(zip(kinds, values, strict=True))
        ]
        self._count = len(values)

    def buffers(self) -> tuple[Any, int, Any, int]:
        """Arguments, their count, results, their count, as the C API takes them."""
        return self._arguments, self._count, self._results, len(self.function.results)

    def print_results(self) -> None:
        """Write the results as one line to stdout; nothing for a function without any."""
        kinds = self.function.results
        values = [(kind, invoke.unpack(kind, self._program_kind, self._results, i)) for i, kind in enumerate(kinds)]
        text = invoke.render(values)
        if text:
            write_all(1, f"{text}\n".encode())


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; a reader that has gone is no error."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BrokenPipeError:
        return

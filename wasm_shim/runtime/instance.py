"""Run one guest in this process: WASI configuration, instance, call, exit status.

Made after the fork and after the wall stands: the first stdio call starts threads, and a thread keeps the
root directory, credentials and filters that it was started with.
"""

import ctypes
import os
from ctypes import byref, c_char_p, c_void_p
from typing import Any, Final

from wasm_shim.guest import Guest
from wasm_shim.runtime import invoke
from wasm_shim.runtime.binding import FUNCTION_SIZE, INSTANCE_SIZE, VAL_SIZE, VALUE_OFFSET, WasmtimeFailure
from wasm_shim.runtime.host import Host, Loaded
from wasm_shim.runtime.program import CORE, Function

TRAPPED: Final = 134  # exit status of a trap: that of SIGABRT, as for any program that aborts


class GuestProcess:
    """The guest that this process is. Use in the order: `configure`, `run`."""

    def __init__(self, host: Host, loaded: Loaded, guest: Guest, call: "PreparedCall | None") -> None:
        """Nothing happens yet; `call` is None for a command."""
        self._host, self._loaded, self._guest, self._call = host, loaded, guest, call

    def configure(self) -> None:
        """Give the guest its arguments, environment, directories and stdio.

        The current directory must be the process's /proc/self/fd, whose entries 0, 1 and 2 are pipes that
        we opened: opening them by name truncates, so a file would lose its content. Raises WasmtimeFailure.
        """
        library, guest = self._host.library, self._guest
        self._config = config = library.wasi_config_new()
        arguments = [os.fsencode(argument) for argument in guest.arguments]
        if not library.wasi_config_set_argv(config, len(arguments), (c_char_p * len(arguments))(*arguments)):
            raise WasmtimeFailure("an argument is not UTF-8")
        names = [os.fsencode(name) for name, _ in guest.environment]
        values = [os.fsencode(value) for _, value in guest.environment]
        array = c_char_p * len(names)
        if not library.wasi_config_set_env(config, len(names), array(*names), array(*values)):
            raise WasmtimeFailure("an environment variable is not UTF-8")
        if guest.terminal:  # the only stdio that the guest sees as a terminal
            library.wasi_config_inherit_stdin(config)
            library.wasi_config_inherit_stdout(config)
            library.wasi_config_inherit_stderr(config)
        else:
            self._open_stdio(config)
        os.chdir("/")
        for preopen in guest.preopens:
            if not library.wasi_config_preopen_dir(
                config, os.fsencode(preopen.path), os.fsencode(preopen.name), preopen.writable
            ):
                raise WasmtimeFailure(f"cannot open the directory {preopen.name} for the guest")

    def _open_stdio(self, config: int) -> None:
        library = self._host.library
        setters = (
            library.wasi_config_set_stdin_file,
            library.wasi_config_set_stdout_file,
            library.wasi_config_set_stderr_file,
        )
        for number, setter in enumerate(setters):
            if not setter(config, b"%d" % number):
                raise WasmtimeFailure(f"cannot open descriptor {number} for the guest")

    def run(self) -> int:
        """Instantiate and call; the exit status. A trap's message and backtrace go to stderr."""
        try:
            context = self._store()
            if self._loaded.program.kind == CORE:
                return self._run_core(context)
            return self._run_component(context)
        except WasmtimeFailure as error:
            return self._trapped(str(error))

    def _store(self) -> int:
        library = self._host.library
        self._stored = library.wasmtime_store_new(self._host.engine, None, None)
        context: int = library.wasmtime_store_context(self._stored)
        library.check(library.wasmtime_context_set_wasi(context, self._config))
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
            self._host.core_linker, context, self._loaded.pointer, instance, byref(trap)
        )
        status = self._core_outcome(error, trap)
        if status is not None:
            return status
        if self._call is None:
            return self._call_core(context, instance, self._loaded.program.command, None)
        if any(function.name == "_initialize" for function in self._loaded.program.functions):  # a WASI reactor
            status = self._call_core(context, instance, "_initialize", None)
            if status:
                return status
        return self._call_core(context, instance, self._call.function.name, self._call)

    def _call_core(self, context: int, instance: Any, name: str, call: "PreparedCall | None") -> int:
        library, trap = self._host.library, c_void_p()
        export = ctypes.create_string_buffer(VAL_SIZE)
        encoded = name.encode()
        if not library.wasmtime_instance_export_get(context, instance, encoded, len(encoded), export):
            return self._trapped(f"no export {name}")
        function = byref(export, VALUE_OFFSET)
        arguments, count, results, expected = call.buffers() if call else (None, 0, None, 0)
        error = library.wasmtime_func_call(context, function, arguments, count, results, expected, byref(trap))
        status = self._core_outcome(error, trap)
        if status is not None:
            return status
        if call:
            call.print_results()
        return 0

    def _core_outcome(self, error: int | None, trap: c_void_p) -> int | None:
        """The exit status, or None when the call came back normally."""
        if not error and not trap.value:
            return None
        if self._host.exit_code >= 0:
            return self._host.exit_code
        library = self._host.library
        if error:
            code = library.exit_status(error)
            return code if code is not None else self._trapped(library.error_message(error))
        return self._trapped(library.trap_message(trap.value or 0))

    # Components

    def _run_component(self, context: int) -> int:
        library = self._host.library
        instance = ctypes.create_string_buffer(INSTANCE_SIZE)
        error = library.wasmtime_component_linker_instantiate(
            self._host.component_linker, context, self._loaded.pointer, instance
        )
        if error:
            return self._component_outcome(error)
        command = self._loaded.program.command
        name = self._call.function.name if self._call else f"{command}#run"
        function = self._component_function(context, instance, name)
        if self._call is None:
            result = ctypes.create_string_buffer(VAL_SIZE)
            error = library.wasmtime_component_func_call(function, context, None, 0, result, 1)
            return self._component_outcome(error) if error else 0 if result[VALUE_OFFSET] == b"\1" else 1
        error = library.wasmtime_component_func_call(function, context, *self._call.buffers())
        if error:
            return self._component_outcome(error)
        self._call.print_results()
        return 0

    def _component_function(self, context: int, instance: Any, name: str) -> Any:
        library, index = self._host.library, None
        for part in name.split("#"):  # an interface, then the function in it; or just a function
            encoded = part.encode()
            index = library.wasmtime_component_get_export_index(self._loaded.pointer, index, encoded, len(encoded))
        function = ctypes.create_string_buffer(FUNCTION_SIZE)
        if not library.wasmtime_component_instance_get_func(instance, context, index, function):
            raise WasmtimeFailure(f"no export {name}")
        return function

    def _component_outcome(self, error: int) -> int:
        code = self._host.library.exit_status(error)
        return code & 0xFF if code is not None else self._trapped(self._host.library.error_message(error))


class PreparedCall:
    """A checked call with its value buffers, made before the fork."""

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

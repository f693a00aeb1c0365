"""Run a guest's command, written down for the guest's process: WASI configuration, instance, call, exit status.

Nothing of it may happen before the wall stands: the first stdio call starts threads, and a thread keeps the root
directory, credentials and filters that it was started with.
"""

import os
from typing import Final

from wasm_shim.guest import Guest
from wasm_shim.kernel.routine import (
    NO_ERROR_NUMBER,
    NOT_NEGATIVE,
    TRUE,
    Address,
    Argument,
    Label,
    Result,
    Routine,
    Value,
    address_of,
    function,
)
from wasm_shim.runtime.binding import FUNCTION_SIZE, INSTANCE_SIZE, VAL_SIZE, VALUE_OFFSET
from wasm_shim.runtime.host import Host
from wasm_shim.runtime.program import CORE, Program

TRAPPED: Final = 134  # exit status of a trap: that of SIGABRT, as for any program that aborts

_chdir, _exit, _print, _compare = function("chdir"), function("_exit"), function("dprintf"), function("memcmp")


class Command:
    """Writes the steps of one guest; in the order `configure`, and, as what a thread does, `run`."""

    def __init__(self, routine: Routine, host: Host, program: Program, pointer: Value) -> None:
        """`pointer` is that of the program, mapped."""
        self._routine, self._host, self._program, self._pointer = routine, host, program, pointer
        self._failed = Label()
        self._error = routine.cell()
        self._zero = routine.cell()

    def configure(self, guest: Guest) -> Result:
        """Give the guest its arguments, environment, directories and stdio; its result is the configuration.

        The current directory must be the process's /proc/self/fd, whose entries 0, 1 and 2 are pipes that
        we opened: opening them by name truncates, so a file would lose its content. It becomes `/`.
        """
        config = self._call("wasi_config_new")
        arguments = [os.fsencode(argument) for argument in guest.arguments]
        array = self._routine.pointers(arguments)
        self._require("pass an argument that is no UTF-8", "wasi_config_set_argv", config, len(arguments), array)
        names = self._routine.pointers([os.fsencode(name) for name, _ in guest.environment])
        values = self._routine.pointers([os.fsencode(value) for _, value in guest.environment])
        what = "pass an environment variable that is no UTF-8"
        self._require(what, "wasi_config_set_env", config, len(guest.environment), names, values)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if guest.terminal:  # the only stdio that the guest sees as a terminal
                self._call(f"wasi_config_inherit_{name}", config)
            else:
                self._require(f"open its {name}", f"wasi_config_set_{name}_file", config, b"%d" % number)
        self._routine.call(_chdir, b"/", check=NOT_NEGATIVE, what="enter /")
        for preopen in guest.preopens:
            skipped = Label() if preopen.optional else None
            self._routine.call(
                self._address("wasi_config_preopen_dir"), config, os.fsencode(preopen.path),
                os.fsencode(preopen.name), preopen.writable,
                check=TRUE, otherwise=skipped, what=f"open the directory {preopen.name}",
            )  # fmt: skip
            if skipped:
                self._routine.place(skipped)
        return config

    def run(self, config: Result) -> None:
        """Instantiate and call, and exit. A trap's message and backtrace go to stderr."""
        store = self._call("wasmtime_store_new", self._host.engine, None, None)
        context = self._call("wasmtime_store_context", store)
        self._guard("wasmtime_context_set_wasi", context, config)
        self._call("wasmtime_context_set_wasi_http", context)
        instance = self._routine.cell(INSTANCE_SIZE)
        if self._program.kind == CORE:
            self._run_core(context, instance)
        else:
            self._run_component(context, instance)
        self._end_failed()

    def _run_core(self, context: Result, instance: Address) -> None:
        trap, trapped, missing = self._routine.cell(), Label(), Label()
        linker, name = self._host.core_linker, self._program.command
        self._guard("wasmtime_linker_instantiate", linker, context, self._pointer, instance, trap)
        self._require_zero(trap, trapped)
        export, place = self._routine.cell(VAL_SIZE), name.encode()
        self._require(
            "", "wasmtime_instance_export_get", context, instance, place, len(place), export, otherwise=missing
        )
        self._guard("wasmtime_func_call", context, export.after(VALUE_OFFSET), None, 0, None, 0, trap)
        self._require_zero(trap, trapped)
        self._routine.call(_exit, 0)
        self._routine.place(trapped)
        text = self._message("wasm_trap_message", Value(trap))
        self._end_trapped(text, self._routine.call(function("strlen"), text))  # it counts its NUL
        self._end_without(missing, name)

    def _run_component(self, context: Result, instance: Address) -> None:
        linker, pointer, name = self._host.component_linker, self._pointer, self._program.command
        missing, refused = Label(), Label()
        self._guard("wasmtime_component_linker_instantiate", linker, context, pointer, instance)
        index: Argument = None
        for part in (name.encode(), b"run"):
            index = self._call("wasmtime_component_get_export_index", pointer, index, part, len(part))
        run = self._routine.cell(FUNCTION_SIZE)
        self._require(
            "", "wasmtime_component_instance_get_func", instance, context, index, run, otherwise=missing
        )
        result = self._routine.cell(VAL_SIZE)
        self._guard("wasmtime_component_func_call", run, context, None, 0, result, 1)
        outcome = result.after(VALUE_OFFSET)
        self._routine.call(_compare, outcome, b"\1", 1, check=NO_ERROR_NUMBER, otherwise=refused)
        self._routine.call(_exit, 0)
        self._routine.place(refused)
        self._routine.call(_exit, 1)
        self._end_without(missing, f"{name}#run")

    # Endings

    def _end_failed(self) -> None:
        """What returned an error: an exit with a code, or a trap."""
        code, trapped = self._routine.cell(), Label()
        self._routine.place(self._failed)
        self._require("", "wasmtime_error_exit_status", Value(self._error), code, otherwise=trapped)
        self._routine.call(_exit, Value(code, 4))
        self._routine.place(trapped)
        text = self._message("wasmtime_error_message", Value(self._error))
        self._end_trapped(text, self._size)

    def _message(self, name: str, pointer: Value) -> Value:
        """The text of an error or trap."""
        vector = self._routine.cell(16)  # wasm_byte_vec_t {size, data}
        self._call(name, pointer, vector)
        self._size = Value(vector)
        return Value(vector.after(8))

    def _end_trapped(self, text: Value, size: Value | Result) -> None:
        """Write the text, as a line of its own, and exit."""
        routine, unended = self._routine, Label()
        end, last = routine.cell(), routine.cell()
        routine.keep(routine.call(function("mempcpy"), text, text, size), end)  # onto itself, for its end
        routine.keep(routine.call(function("memrchr"), text, ord("\n"), size, bias=1), last)
        routine.call(_print, 2, b"%.*s", size, text)
        routine.call(_compare, end, last, 8, check=NO_ERROR_NUMBER, otherwise=unended)
        routine.call(_exit, TRAPPED)
        routine.place(unended)
        routine.call(_print, 2, b"\n")
        routine.call(_exit, TRAPPED)

    def _end_without(self, label: Label, export: str) -> None:
        self._routine.place(label)
        self._routine.call(_print, 2, b"no export %s\n", export.encode())
        self._routine.call(_exit, TRAPPED)

    # Calls

    def _address(self, name: str) -> int:
        return address_of(getattr(self._host.library, name))

    def _call(self, name: str, *arguments: Argument) -> Result:
        return self._routine.call(self._address(name), *arguments)

    def _require(self, what: str, name: str, *arguments: Argument, otherwise: Label | None = None) -> Result:
        """A call that returns whether it worked."""
        return self._routine.call(self._address(name), *arguments, check=TRUE, otherwise=otherwise, what=what)

    def _guard(self, name: str, *arguments: Argument) -> None:
        """A call that returns an error, or none."""
        self._routine.keep(self._call(name, *arguments), self._error)
        self._require_zero(self._error, self._failed)

    def _require_zero(self, cell: Address, otherwise: Label) -> None:
        self._routine.call(_compare, cell, self._zero, 8, check=NO_ERROR_NUMBER, otherwise=otherwise)

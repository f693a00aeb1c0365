"""Verbs about programs that run nothing: `wit`, `compile`, `version`."""

import os
from typing import Any

from wasm_shim.cli.output import OURS, Refusal, complain, refusal_of_program, say
from wasm_shim.errors import PermissionDenied, WasmShimError
from wasm_shim.paths import user_paths
from wasm_shim.runtime.binding import wasmtime_version
from wasm_shim.runtime.cache import Compiled, ProgramCache
from wasm_shim.runtime.compile import compile_now
from wasm_shim.runtime.engine import engine_id
from wasm_shim.version import VERSION


def _compiled(path: str) -> Compiled:
    cache = ProgramCache(user_paths(os.environ).programs, engine_id())
    try:
        return compile_now(cache, path)
    except PermissionDenied:
        raise
    except WasmShimError as error:
        raise refusal_of_program(error) from error


def wit(values: dict[str, Any]) -> int:
    """Print kind, imports and exports."""
    program = _compiled(values["FILE"]).program
    say(program.kind)
    for title, lines in (("imports", program.imports), ("exports", program.exports)):
        say(f"{title}:" if lines else f"{title}: none")
        for line in lines:
            say(f"  {line}")
    if program.refusal:
        say(f"cannot run here: {program.refusal}")
    return 0


def compile_(values: dict[str, Any]) -> int:
    """Compile every file; the exit code is that of the last failure."""
    code = 0
    for path in values["FILE"]:
        try:
            say(f"{path}: {_compiled(path).path}")
        except (Refusal, WasmShimError) as error:
            complain(str(error))
            code = error.code if isinstance(error, Refusal) else OURS
    return code


def version(_values: dict[str, Any]) -> int:
    """Print versions, and the wall that guests get here."""
    from wasm_shim.container.wall import strongest_wall
    from wasm_shim.kernel.machine import Machine

    say(f"wasm-shim {VERSION}")
    say(f"wasmtime {wasmtime_version()}")
    say(f"guests are walled in by: {strongest_wall(Machine()).value}")
    return 0

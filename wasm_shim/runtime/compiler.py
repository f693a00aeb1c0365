"""The compiler process: one untrusted program in, native code out, without network and under limits.

Descriptors at start: 0 the program, 1 the file for the code, 2 the report, 3 the lock. Argument: the path
that the code will get, to see whether another process finished it while we waited for the lock. The report
is JSON: {"done": true}, {"program": …}, {"error": …} or {"errno": …}. As root it works as nobody. Ends with its parent.
"""

import hashlib
import json
import os
import resource
import signal
import sys
from typing import Any

from oci.wasm_binary import InvalidWasm, inspect, looks_like_wat
from wasm_shim.kernel.calls import (
    drop_bounding_set,
    drop_capabilities,
    set_no_new_privileges,
    set_parent_death_signal,
)
from wasm_shim.kernel.seccomp import compiler_filter
from wasm_shim.runtime.cache import take_lock
from wasm_shim.steps import Gate, reached

PROGRAM, CODE, REPORT, LOCK = 0, 1, 2, 3

_NOBODY = 65534
_LIMITS = (
    (resource.RLIMIT_CPU, 900),  # seconds
    (resource.RLIMIT_AS, 16 << 30),
    (resource.RLIMIT_FSIZE, 4 << 30),
    (resource.RLIMIT_CORE, 0),
)


class _Refused(Exception):
    """The program cannot be compiled; the message says why."""


def main() -> None:
    """Compile, report, exit 0; any other exit is a fault of ours."""
    set_parent_death_signal(signal.SIGKILL)
    _offer_to_the_oom_killer()
    key = os.path.basename(sys.argv[1]).removesuffix(".cwasm")
    take_lock(LOCK, key)
    reached("compiler.locked")
    reported = Gate("compiler.reported")
    if os.path.exists(sys.argv[1]):
        report: dict[str, Any] = {"done": True}
    else:
        report = _compile(key)
    os.write(REPORT, json.dumps(report).encode())
    reported.reached()
    os._exit(0)


def _offer_to_the_oom_killer() -> None:
    """A program may make us take all memory: then we go first, and not what runs. A shim's score would protect us."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        return  # no /proc that can be written: then nobody has set a score either


def _compile(key: str) -> dict[str, Any]:
    from wasm_shim.runtime import describe  # after the wait for the lock: 80 ms and 20 MiB

    _confine()
    try:
        with open(PROGRAM, "rb", closefd=False) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != key:
            return {"error": "the file changed while it was read; run it again"}
        program, code = _build(describe, data)
    except _Refused as refused:
        return {"error": str(refused)}
    view = memoryview(code)
    try:
        while view:
            view = view[os.write(CODE, view) :]
    except OSError as error:  # no room for it
        return {"errno": error.errno}
    return {"program": program.to_json().decode()}


def _build(describe: Any, data: bytes) -> tuple[Any, bytes]:
    """The description and the native code of a program's bytes; raises _Refused."""
    wasmtime, components = describe.wasmtime, describe.wc
    try:
        if looks_like_wat(data):
            data = bytes(wasmtime.wat2wasm(data.decode()))
        is_component = inspect(data).kind == "component"
        engine = wasmtime.Engine()
        if is_component:
            component = components.Component(engine, data)
            return describe.describe_component(engine, component), bytes(component.serialize())
        module = wasmtime.Module(engine, data)
        return describe.describe_module(engine, module), bytes(module.serialize())
    except UnicodeDecodeError as error:
        raise _Refused(f"WebAssembly text that is not UTF-8 (at offset {error.start}); write it as UTF-8") from error
    except InvalidWasm as error:
        reason = str(error)
        raise _Refused(reason if ";" in reason else f"{reason}; build it, or copy it, again") from error
    except wasmtime.WasmtimeError as error:
        raise _Refused(one_line(str(error))) from error


def _confine() -> None:
    """No privileges, no network, bounded time and memory. All modules are loaded by now."""
    for limit, value in _LIMITS:
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:  # a user namespace without nobody: no capability then, as root of nothing
            drop_bounding_set()
            drop_capabilities()
        set_parent_death_signal(signal.SIGKILL)  # the change of user cleared it
    set_no_new_privileges()
    compiler_filter().load()


def one_line(message: str) -> str:
    """The causes of a wasmtime error in one sentence: outermost first, without numbering and source view."""
    lines = [line.strip() for line in message.splitlines()]
    place = next((line.removeprefix("--> <anon>:") for line in lines if line.startswith("--> ")), "")
    causes = [line for line in lines if line and line != "Caused by:" and not line.startswith(("-->", "|"))]
    if place:  # WAT: the first line is the reason, the rest shows the source
        line_number, _, column = place.partition(":")
        return f"{causes[0]} at line {line_number}, column {column}"
    causes = [cause.partition(": ")[2] if cause.partition(": ")[0].isdigit() else cause for cause in causes]
    dull = ("failed to compile", "WebAssembly translation error", "failed to parse WebAssembly module")
    telling = [cause for cause in causes if not cause.startswith(dull)]
    return ": ".join(telling or causes)


if __name__ == "__main__":
    main()

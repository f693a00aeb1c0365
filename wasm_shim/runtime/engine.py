"""The engine's settings in one place, and the identity of code compiled under them.

Everything compiles and loads with wasmtime's defaults: no epochs and no fuel, since a guest is a process
and dies by signal; `parallel_compilation` matters to the compiler process only.
"""

import hashlib

from wasm_shim.runtime.binding import wasmtime_version
from wasm_shim.runtime.program import FORMAT

SETTINGS = "default"


def engine_id() -> str:
    """Names the code that this machine's engine makes: 16 hex of version, settings, CPU features, format.

    Precompiled code is loaded only from a directory of this name, so an upgrade or a move to another CPU
    compiles again instead of running what does not fit.
    """
    parts = (wasmtime_version(), SETTINGS, _cpu_features(), str(FORMAT))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _cpu_features() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return " ".join(sorted(line.partition(":")[2].split()))
    return ""

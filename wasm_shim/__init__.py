"""Run WebAssembly programs as containers.

Importing this imports nothing else: the command line's start-up time is counted. `load`, `Trap` and `Exit`
come when they are asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasm_shim.runtime.library import Exit, Trap, load

__all__ = ["Exit", "Trap", "load"]


def __getattr__(name: str) -> object:
    """Import the Python API at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'wasm_shim' has no attribute {name!r}")
    from wasm_shim.runtime import library

    return getattr(library, name)

"""A slim ctypes binding of libwasmtime: the functions that the hot path calls, and nothing else.

The `wasmtime` package's own classes cost 50 ms to import and 7 MiB to keep; this loads the same shared
library and types about forty of its functions. Layouts and names: wasmtime's C API headers, version 50.
"""

import ctypes
import importlib.util
import os
import platform
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_ubyte, c_void_p
from typing import Any

from wasm_shim.errors import Unimplemented

VAL_SIZE = 32  # of wasmtime_val_t, wasmtime_component_val_t and wasmtime_extern_t alike
VALUE_OFFSET = 8  # of the union behind their kind byte
INSTANCE_SIZE, FUNCTION_SIZE = 16, 32

_P, _N, _S, _B = c_void_p, c_size_t, c_char_p, c_bool
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasm_engine_new": (_P, ()),
    "wasmtime_store_new": (_P, (_P, _P, _P)),
    "wasmtime_store_context": (_P, (_P,)),
    "wasmtime_context_set_wasi": (_P, (_P, _P)),
    "wasmtime_context_set_wasi_http": (None, (_P,)),
    "wasmtime_error_message": (None, (_P, _P)),
    "wasmtime_error_exit_status": (_B, (_P, _P)),
    "wasmtime_error_delete": (None, (_P,)),
    "wasm_trap_message": (None, (_P, _P)),
    "wasi_config_new": (_P, ()),
    "wasi_config_set_argv": (_B, (_P, _N, _P)),
    "wasi_config_set_env": (_B, (_P, _N, _P, _P)),
    "wasi_config_set_stdin_file": (_B, (_P, _S)),
    "wasi_config_set_stdout_file": (_B, (_P, _S)),
    "wasi_config_set_stderr_file": (_B, (_P, _S)),
    "wasi_config_inherit_stdin": (None, (_P,)),
    "wasi_config_inherit_stdout": (None, (_P,)),
    "wasi_config_inherit_stderr": (None, (_P,)),
    "wasi_config_preopen_dir": (_B, (_P, _S, _S, _B)),
    "wasmtime_linker_new": (_P, (_P,)),
    "wasmtime_linker_define_wasi": (_P, (_P,)),
    "wasmtime_linker_allow_shadowing": (None, (_P, _B)),
    "wasmtime_linker_define_func": (_P, (_P, _S, _N, _S, _N, _P, _P, _P, _P)),
    "wasmtime_linker_instantiate": (_P, (_P, _P, _P, _P, _P)),
    "wasm_valtype_new": (_P, (c_ubyte,)),
    "wasm_valtype_vec_new": (None, (_P, _N, _P)),
    "wasm_functype_new": (_P, (_P, _P)),
    "wasmtime_module_deserialize_file": (_P, (_P, _S, _P)),
    "wasmtime_instance_export_get": (_B, (_P, _P, _S, _N, _P)),
    "wasmtime_func_call": (_P, (_P, _P, _P, _N, _P, _N, _P)),
    "wasmtime_component_linker_new": (_P, (_P,)),
    "wasmtime_component_linker_add_wasip2": (_P, (_P,)),
    "wasmtime_component_linker_add_wasi_http": (_P, (_P,)),
    "wasmtime_component_linker_instantiate": (_P, (_P, _P, _P, _P)),
    "wasmtime_component_deserialize_file": (_P, (_P, _S, _P)),
    "wasmtime_component_get_export_index": (_P, (_P, _P, _S, _N)),
    "wasmtime_component_instance_get_func": (_B, (_P, _P, _P, _P)),
    "wasmtime_component_func_call": (_P, (_P, _P, _P, _N, _P, _N)),
}


class WasmtimeFailure(Exception):
    """An error or trap that libwasmtime returned; the text is wasmtime's own, backtrace included."""


class Library:
    """libwasmtime with typed functions as attributes, named as in C."""

    def __init__(self, path: str) -> None:
        """Load the shared library at `path`; raises OSError."""
        self.path = path
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        """Only for the type checker: every function is set in the constructor."""
        raise AttributeError(name)

    def check(self, error: int | None) -> None:
        """Raise WasmtimeFailure for a returned error."""
        if error:
            text = self.error_message(error)
            self.wasmtime_error_delete(error)
            raise WasmtimeFailure(text)

    def error_message(self, error: int) -> str:
        """The text of an error, which stays the caller's."""
        return self._text(self.wasmtime_error_message, error)

    def trap_message(self, trap: int) -> str:
        """The text of a trap, backtrace included."""
        return self._text(self.wasm_trap_message, trap).rstrip("\0")

    def exit_status(self, error: int) -> int | None:
        """The code of an exit that came back as an error, or None for any other error."""
        code = c_int()
        return code.value if self.wasmtime_error_exit_status(error, ctypes.byref(code)) else None

    @staticmethod
    def _text(function: Any, pointer: int) -> str:
        vector = (c_size_t * 2)()  # wasm_byte_vec_t {size, data}
        function(pointer, vector)
        return ctypes.string_at(vector[1], vector[0]).decode(errors="replace")


def library_path() -> str:
    """Where the `wasmtime` distribution keeps its shared library, found without importing it.

    Raises Unimplemented on machines other than Linux x86-64: the kernel wall and this layout are bound to
    it.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        here = f"{platform.system()} {platform.machine()}"
        raise Unimplemented(f"wasm-shim runs guests on Linux x86-64 only, not on {here}")
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise Unimplemented("the Python package wasmtime is not installed; run: pip install 'wasmtime>=50,<51'")
    return os.path.join(os.path.dirname(spec.origin), "linux-x86_64", "_libwasmtime.so")


def wasmtime_version() -> str:
    """The version of the installed `wasmtime` distribution, from its metadata directory's name."""
    spec = importlib.util.find_spec("wasmtime")
    if spec is not None and spec.origin is not None:
        for name in os.listdir(os.path.dirname(os.path.dirname(spec.origin))):
            if name.startswith("wasmtime-") and name.endswith(".dist-info"):
                return name[len("wasmtime-") : -len(".dist-info")]
    return "unknown"

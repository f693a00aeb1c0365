"""WebAssembly text to binary, for artifacts: these hold binaries."""

import wasmtime

from wasm_shim.errors import InvalidArgument
from wasm_shim.runtime.compiler import one_line


def translate(text: bytes, name: str) -> bytes:
    """The binary of WebAssembly text; raises InvalidArgument, which calls it `name`, with the reason and its place."""
    try:
        return bytes(wasmtime.wat2wasm(text.decode()))
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"cannot pack {name}: text that is not UTF-8 (at offset {error.start})") from error
    except wasmtime.WasmtimeError as error:
        raise InvalidArgument(f"cannot pack {name}: {one_line(str(error))}") from error

"""Images for `wasm_shim.load`, whose errors are those of `wasm_shim.errors`."""

import os
from typing import Final

from oci import errors as oci_errors
from oci.errors import OciError
from wasm_shim import errors
from wasm_shim.errors import WasmShimError
from wasm_shim.images.program import start_of
from wasm_shim.images.start import recall
from wasm_shim.paths import images_path, user_paths

_ERRORS: Final[dict[type[OciError], type[WasmShimError]]] = {
    oci_errors.InvalidWasm: errors.InvalidArgument,
    oci_errors.InvalidReference: errors.InvalidArgument,
    oci_errors.InvalidContent: errors.InvalidArgument,
    oci_errors.UnsupportedArtifact: errors.InvalidArgument,
    oci_errors.NotFound: errors.NotFound,
    oci_errors.Unauthorized: errors.PermissionDenied,
    oci_errors.Denied: errors.PermissionDenied,
    oci_errors.Unavailable: errors.Unavailable,
    oci_errors.StorageError: errors.ResourceExhausted,
}


def program_of(reference: str) -> str:
    """The path of an image's program, pulled where it is missing. Raises WasmShimError."""
    store, cache = images_path(os.environ), user_paths(os.environ).cache
    known = recall(cache, store, reference)
    if known:
        return known.program
    from wasm_shim.images.transfer import pull  # oras and requests: 200 ms

    try:
        return start_of(store, cache, reference, pull).program
    except OciError as error:
        raise _ERRORS.get(type(error), errors.Internal)(str(error)) from error

"""Domain errors as google.rpc codes and back: the one table, for both ends of a connection."""

from wasm_shim import errors
from wasm_shim.ttrpc.envelope import Code

_CODES: dict[type[errors.WasmShimError], Code] = {
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.FailedPrecondition: Code.FAILED_PRECONDITION,
    errors.PermissionDenied: Code.PERMISSION_DENIED,
    errors.ResourceExhausted: Code.RESOURCE_EXHAUSTED,
    errors.Unavailable: Code.UNAVAILABLE,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.Unimplemented: Code.UNIMPLEMENTED,
    errors.Internal: Code.INTERNAL,
}


def code_of(error: errors.WasmShimError) -> Code:
    """The google.rpc code that stands for a domain error on the wire."""
    return _CODES[type(error)]


def error_of(code: int, message: str) -> errors.WasmShimError:
    """The domain error behind a code on the wire; Internal for a code that we never send."""
    kinds: dict[int, type[errors.WasmShimError]] = {number: kind for kind, number in _CODES.items()}
    return kinds.get(code, errors.Internal)(message)

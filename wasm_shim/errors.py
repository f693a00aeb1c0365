"""What can go wrong, named as containerd's errdefs names it; each edge translates these once.

    WasmShimError
    ├── InvalidArgument      the request or the program is wrong: nothing the caller repeats will help
    ├── NotFound             a container, program, file or export that is not there
    ├── AlreadyExists        an id or a name in use
    ├── FailedPrecondition   right request, wrong moment (kill of a stopped task)
    ├── PermissionDenied     the file system or the kernel refused
    ├── ResourceExhausted    no space, no descriptors, no memory
    ├── Unavailable          the other process went away
    ├── DeadlineExceeded     no answer in time
    ├── Unimplemented        a method we do not serve
    └── Internal             a fault of ours

The message of each is one sentence for a person: the cause and, after a semicolon, the remedy.
"""


class WasmShimError(Exception):
    """An expected failure with a message fit to be shown."""

    @property
    def message(self) -> str:
        """The sentence to show."""
        return str(self)


class InvalidArgument(WasmShimError):
    """The request or the program itself is wrong."""


class NotFound(WasmShimError):
    """Something named in the request does not exist."""


class AlreadyExists(WasmShimError):
    """An id or a name is in use."""


class FailedPrecondition(WasmShimError):
    """The request does not fit the present state."""


class PermissionDenied(WasmShimError):
    """The file system or the kernel refused."""


class ResourceExhausted(WasmShimError):
    """Space, descriptors or memory ran out."""


class Unavailable(WasmShimError):
    """The process that should answer is gone."""


class DeadlineExceeded(WasmShimError):
    """No answer came in time."""


class Unimplemented(WasmShimError):
    """A method that this version does not serve."""


class Internal(WasmShimError):
    """A fault of our own."""

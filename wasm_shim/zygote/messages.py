"""What a client tells the zygote and hears back; bytes in, bytes out, simple enough for a client in `_socket` alone.

A request is a 4-byte big-endian length and that many bytes of fields, each again a 4-byte length and its
bytes: socket path, container directory or empty, "1" to remove it at the end or empty, working directory,
then NAME=VALUE for each variable. Descriptors that travel with it: the container's lock, if any. The answer
is `+` and the address of the pod shim's socket, or `-` and a sentence, ended by a newline.

The connection stays: a client that closes it before the container has been deleted has died, and the pod shim
ends the container.
"""

import struct
from typing import Final, NamedTuple

from wasm_shim.errors import InvalidArgument

LIMIT: Final = 4 << 20  # bytes of a request: an environment has at most 2 MiB (execve(2))

_LENGTH = struct.Struct(">I")


class SpawnRequest(NamedTuple):
    """Ask for a pod shim that serves `address`."""

    address: str
    directory: str
    remove: bool
    working_directory: str
    environment: tuple[tuple[str, str], ...]


def encode_request(request: SpawnRequest) -> bytes:
    """The request with its length in front."""
    fields = [request.address, request.directory, "1" if request.remove else "", request.working_directory]
    fields += [f"{name}={value}" for name, value in request.environment]
    encoded = [field.encode(errors="surrogateescape") for field in fields]
    body = b"".join(_LENGTH.pack(len(field)) + field for field in encoded)
    return _LENGTH.pack(len(body)) + body


def request_size(head: bytes) -> int:
    """How many bytes a request has in all, 0 while that is unknown; raises InvalidArgument when too many."""
    if len(head) < _LENGTH.size:
        return 0
    size: int = _LENGTH.unpack_from(head)[0] + _LENGTH.size
    if size > LIMIT:
        raise InvalidArgument(f"a request of {size} bytes is too long; unset large environment variables")
    return size


def decode_request(data: bytes) -> SpawnRequest:
    """Read a whole request; raises InvalidArgument for a damaged one."""
    fields, position = [], _LENGTH.size
    try:
        while position < len(data):
            (size,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            if position + size > len(data):
                raise InvalidArgument("a request to the zygote is damaged")
            fields.append(data[position : position + size].decode(errors="surrogateescape"))
            position += size
        address, directory, remove, working_directory, *variables = fields
    except (struct.error, ValueError) as error:
        raise InvalidArgument("a request to the zygote is damaged") from error
    pairs = (variable.partition("=") for variable in variables)
    environment = tuple((name, value) for name, _, value in pairs)
    return SpawnRequest(address, directory, remove == "1", working_directory, environment)


def encode_answer(address: str, error: str) -> bytes:
    """`error` is empty on success."""
    return (f"-{' '.join(error.split())}\n" if error else f"+{address}\n").encode()

"""What a client tells the zygote and hears back; bytes in, bytes out, simple enough for a client in `_socket` alone.

A request is a 4-byte big-endian length and that many bytes of fields, each again a 4-byte length and its
bytes, in the order of SpawnRequest. Descriptors that travel with it: the container's lock. The answer is `+`
and the address of the pod shim's socket, or `-` and a sentence, ended by a newline.

The connection stays: a client that closes it before the container has been deleted has died, and the pod shim
ends the container.
"""

import struct
from typing import Final, NamedTuple

from wasm_shim.errors import InvalidArgument

LIMIT: Final = 64 << 10  # bytes of a request

_LENGTH = struct.Struct(">I")


class SpawnRequest(NamedTuple):
    """Ask for a pod shim."""

    address: str  # the path of the socket that it shall serve
    directory: str  # the container's, its name being the id
    remove: bool  # remove the container when its owner has gone
    programs: str  # the directory of precompiled programs
    hold: str  # the value of steps.VARIABLE, for tests


def encode_request(request: SpawnRequest) -> bytes:
    """The request with its length in front."""
    fields = (request.address, request.directory, "1" if request.remove else "", request.programs, request.hold)
    encoded = [field.encode(errors="surrogateescape") for field in fields]
    body = b"".join(_LENGTH.pack(len(field)) + field for field in encoded)
    return _LENGTH.pack(len(body)) + body


def request_size(head: bytes) -> int:
    """How many bytes a request has in all, 0 while that is unknown; raises InvalidArgument when too many."""
    if len(head) < _LENGTH.size:
        return 0
    size: int = _LENGTH.unpack_from(head)[0] + _LENGTH.size
    if size > LIMIT:
        raise InvalidArgument(f"a request of {size} bytes is too long; use shorter paths")
    return size


def decode_request(data: bytes) -> SpawnRequest:
    """Read a whole request; raises InvalidArgument for a damaged one."""
    fields, position = [], _LENGTH.size
    try:
        if request_size(data) != len(data):
            raise InvalidArgument("a request to the zygote is damaged")
        while position < len(data):
            (size,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            if position + size > len(data):
                raise InvalidArgument("a request to the zygote is damaged")
            fields.append(data[position : position + size].decode(errors="surrogateescape"))
            position += size
        address, directory, remove, programs, hold = fields
        if not all(path.startswith("/") and "\0" not in path for path in (address, directory, programs)):
            raise InvalidArgument("a request to the zygote holds a path that is not absolute")
    except (struct.error, ValueError) as error:
        raise InvalidArgument("a request to the zygote is damaged") from error
    return SpawnRequest(address, directory, remove == "1", programs, hold)


def encode_answer(address: str, error: str) -> bytes:
    """`error` is empty on success."""
    return (f"-{' '.join(error.split())}\n" if error else f"+{address}\n").encode(errors="surrogateescape")

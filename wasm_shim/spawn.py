"""What a client tells the zygote and hears back; bytes in, bytes out, simple enough for a client in `_socket` alone.

A request is a 4-byte big-endian length and that many bytes of fields, each again a 4-byte length and its bytes.
The first field names the kind:

- `pod`, from the command line, with the fields of SpawnRequest; the container's lock travels with it. The answer is
  `+` and the address of the pod shim's socket, or `-` and a sentence, ended by a newline. The connection stays: a
  client that closes it before the container has been deleted has died, and the pod shim ends the container.
- `command`, from the script that containerd runs, with those of CommandRequest; the script's descriptor 0 travels
  with it. The answer ends with the connection: `+` and what goes to standard output, or `-` and a sentence. A `>` may
  come before: from then on descriptor 0 is being read, so the same request cannot be made again. A lone `?` says
  that the zygote is older than the packages on disk, and serves no commands any more.
"""

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from wasm_shim.errors import InvalidArgument
from wasm_shim.steps import VARIABLE

LIMIT: Final = 64 << 10  # bytes of a request

BEGUN: Final = b">"
STALE: Final = b"?"

_LENGTH = struct.Struct(">I")
_POD, _COMMAND = b"pod", b"command"
_DAMAGED = "a request to the zygote is damaged"


class SpawnRequest(NamedTuple):
    """Ask for a pod shim that belongs to this connection."""

    address: str  # the path of the socket that it shall serve
    directory: str  # the container's, its name being the id
    remove: bool  # remove the container when its owner has gone
    programs: str  # the directory of precompiled programs
    hold: str  # the value of steps.VARIABLE, for tests


class CommandRequest(NamedTuple):
    """Ask for a command of containerd's to be carried out."""

    arguments: tuple[str, ...]
    directory: str  # where the command was run
    environment: Mapping[str, str]  # its variables that matter: containerd's addresses and our own

    @property
    def hold(self) -> str:
        """The value of steps.VARIABLE, for tests."""
        return self.environment.get(VARIABLE, "")


def encode_request(request: SpawnRequest | CommandRequest) -> bytes:
    """The request with its length in front; raises InvalidArgument when that is too long."""
    if isinstance(request, SpawnRequest):
        flag = "1" if request.remove else ""
        texts = (request.address, request.directory, flag, request.programs, request.hold)
        fields = [_POD, *(_bytes(text) for text in texts)]
    else:
        variables = [f"{name}={value}" for name, value in request.environment.items()]
        fields = [_COMMAND, _bytes(request.directory), _joined(request.arguments), _joined(variables)]
    body = b"".join(_LENGTH.pack(len(field)) + field for field in fields)
    encoded = _LENGTH.pack(len(body)) + body
    request_size(encoded)
    return encoded


def request_size(head: bytes) -> int:
    """How many bytes a request has in all, 0 while that is unknown; raises InvalidArgument when too many."""
    if len(head) < _LENGTH.size:
        return 0
    size: int = _LENGTH.unpack_from(head)[0] + _LENGTH.size
    if size > LIMIT:
        raise InvalidArgument(f"a request of {size} bytes is too long; use shorter paths")
    return size


def decode_request(data: bytes) -> SpawnRequest | CommandRequest:
    """Read a whole request; raises InvalidArgument for a damaged one."""
    kind, *fields = _fields(data)
    try:
        if kind == _POD:
            return _pod(*map(_text, fields))
        if kind == _COMMAND:
            return _command(*fields)
    except TypeError as error:  # too many or too few of them
        raise InvalidArgument(_DAMAGED) from error
    raise InvalidArgument(_DAMAGED)


def _fields(data: bytes) -> list[bytes]:
    fields, position = [], _LENGTH.size
    try:
        if request_size(data) != len(data) or len(data) <= _LENGTH.size:
            raise InvalidArgument(_DAMAGED)
        while position < len(data):
            (size,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            if position + size > len(data):
                raise InvalidArgument(_DAMAGED)
            fields.append(data[position : position + size])
            position += size
    except struct.error as error:
        raise InvalidArgument(_DAMAGED) from error
    return fields


def _pod(address: str, directory: str, remove: str, programs: str, hold: str) -> SpawnRequest:
    if not all(_is_absolute(path) for path in (address, directory, programs)):
        raise InvalidArgument("a request to the zygote holds a path that is not absolute")
    return SpawnRequest(address, directory, remove == "1", programs, hold)


def _command(directory: bytes, arguments: bytes, variables: bytes) -> CommandRequest:
    if not _is_absolute(_text(directory)):
        raise InvalidArgument("a request to the zygote holds a path that is not absolute")
    environment = {}
    for variable in _split(variables):
        name, equals, value = variable.partition("=")
        if not name or not equals:
            raise InvalidArgument(_DAMAGED)
        environment[name] = value
    return CommandRequest(_split(arguments), _text(directory), environment)


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and "\0" not in path


def _joined(texts: tuple[str, ...] | list[str]) -> bytes:
    """Texts as the kernel keeps arguments: each ended by a NUL."""
    return b"".join(_bytes(text) + b"\0" for text in texts)


def _split(data: bytes) -> tuple[str, ...]:
    if data and not data.endswith(b"\0"):
        raise InvalidArgument(_DAMAGED)
    return tuple(map(_text, data.split(b"\0")[:-1]))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def encode_answer(address: str, error: str) -> bytes:
    """The answer to a SpawnRequest, and a command's refusal; `error` is empty on success."""
    return _bytes(f"-{' '.join(error.split())}\n" if error else f"+{address}\n")


def encode_output(output: bytes) -> bytes:
    """The answer to a CommandRequest that was carried out."""
    return b"+" + output

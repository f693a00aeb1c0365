"""What a ttrpc frame carries: the request, the response, and how a failure is written.

Field numbers: request.proto of containerd/ttrpc; codes: google.rpc.Code.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from wasm_shim.ttrpc import well_known
from wasm_shim.ttrpc.protobuf import Message, bytes_, int32, int64, message, repeated, string

_LONGEST_MESSAGE: Final = 1500  # characters


class Code(IntEnum):
    """google.rpc.Code: why a call failed."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that failed, with a google.rpc code and a sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class KeyValue(Message):
    """One pair of a request's metadata; `map<string, string>` entries look the same on the wire."""

    key: str = string(1)
    value: str = string(2)


class Request(Message):
    """A call: `service` is the full protobuf name, `timeout_nano` 0 means none."""

    service: str = string(1)
    method: str = string(2)
    payload: bytes = bytes_(3)
    timeout_nano: int = int64(4)
    metadata: list[KeyValue] = repeated(5, KeyValue)


class Status(Message):
    """google.rpc.Status."""

    code: int = int32(1)
    message: str = string(2)
    details: list[well_known.Any] = repeated(3, well_known.Any)


class Response(Message):
    """The answer to a call: it failed if `status` has a code other than OK."""

    status: Status | None = message(1, Status)
    payload: bytes = bytes_(2)


def failure(code: int, message: str) -> Response:
    """The response that fails a call.

    A message may quote what the client sent, of any length: it is cut, and what would not print is escaped.
    """
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    if not message.isprintable():  # also characters that UTF-8 cannot hold, of odd file names
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return Response(status=Status(code=code, message=message))

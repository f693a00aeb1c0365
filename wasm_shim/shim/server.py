"""What the zygote's child becomes: a pod shim of the command line, or what containerd asked for."""

import os
import socket
import time
from _signal import (  # type: ignore[import-not-found] # the C functions: `signal` makes enums of what they take
    SIG_DFL,
    SIGCHLD,
    signal,
)
from collections.abc import Callable
from typing import Final, NoReturn

from wasm_shim.container.forge import Forge
from wasm_shim.errors import InvalidArgument, WasmShimError
from wasm_shim.kernel.calls import close_descriptors_except, peer_of
from wasm_shim.shim import command
from wasm_shim.shim.local import LocalPod
from wasm_shim.spawn import STALE, SpawnRequest, decode_request, encode_answer, request_size
from wasm_shim.steps import hold_at

_PATIENCE: Final = 1.0  # seconds that a client may take for its request
_MAX_DESCRIPTORS: Final = 4


def serve(forge: Forge, connection: socket.socket, is_stale: Callable[[], bool]) -> NoReturn:
    """Do what the connection asks for and never return: the zygote's child calls this straight after the fork.

    `is_stale` tells whether the packages on disk are others than those loaded here.
    """
    status = 1
    try:
        _shed_inheritance({connection.fileno(), forge.cradle.socket})
        descriptors: list[int] = []
        data = _receive(connection, descriptors)
        if data:
            request = decode_request(data)
            hold_at(request.hold)
            if isinstance(request, SpawnRequest):
                LocalPod(forge, request, connection).run()
            elif is_stale():
                _answer(connection, STALE)
            else:
                command.run(forge, request, connection, descriptors)
        status = 0
    except (WasmShimError, OSError) as error:
        _answer(connection, encode_answer("", str(error)))
    except BaseException as error:  # noqa: BLE001 - a process boundary: nothing may return into the zygote's loop
        _answer(connection, encode_answer("", f"fault in the pod shim: {error!r}"))
    forge.cradle.bury()
    os._exit(status)


def _receive(connection: socket.socket, descriptors: list[int]) -> bytes | None:
    """A whole request, None when the client has gone; its descriptors are added to the list.

    Raises InvalidArgument for one too long and for another user, OSError for one who is too slow.
    """
    _, uid = peer_of(connection)
    if uid not in (0, os.geteuid()):
        raise InvalidArgument(f"user {uid} may not use the processes of user {os.geteuid()}")
    data, deadline = b"", time.monotonic() + _PATIENCE
    while not (size := request_size(data)) or len(data) < size:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))  # 0 would mean not to wait at all
        part, received, _, _ = socket.recv_fds(connection, 64 << 10, _MAX_DESCRIPTORS)
        descriptors += received
        if not part:
            return None
        data += part
    connection.settimeout(None)
    return data[:size]


def _answer(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.send(answer)
    except OSError:
        return  # nobody waits for it any more


def _shed_inheritance(kept: set[int]) -> None:
    """No descriptor of the zygote's or of another pod's, and a session of its own.

    The zygote has default signals, / as its directory and an environment without secrets.
    """
    close_descriptors_except(kept - {-1})
    os.setsid()
    signal(SIGCHLD, SIG_DFL)  # the zygote's children need no reaping, ours do

"""What the zygote's child becomes: a pod shim of the command line, or what containerd asked for."""

import os
import socket
from _signal import (  # type: ignore[import-not-found] # the C functions: `signal` makes enums of what they take
    SIG_DFL,
    SIGCHLD,
    signal,
)
from collections.abc import Callable
from typing import NoReturn

from wasm_shim.container.process import Forge
from wasm_shim.errors import WasmShimError
from wasm_shim.kernel.calls import close_descriptors_except
from wasm_shim.shim import command
from wasm_shim.shim.local import LocalPod
from wasm_shim.spawn import STALE, SpawnRequest, decode_request, encode_answer
from wasm_shim.steps import hold_at


def serve(
    forge: Forge, data: bytes, connection: socket.socket, descriptors: list[int], is_stale: Callable[[], bool]
) -> NoReturn:
    """Do what the request says and never return: the zygote's child calls this straight after the fork.

    `is_stale` tells whether the packages on disk are others than those loaded here.
    """
    status = 1
    try:
        _shed_inheritance({connection.fileno(), *descriptors})
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
    os._exit(status)


def _answer(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.send(answer)
    except OSError:
        return  # nobody waits for it any more


def _shed_inheritance(keep: set[int]) -> None:
    """No descriptor of the zygote's or of another pod's, and a session of its own.

    The zygote has default signals, / as its directory and an environment without secrets.
    """
    close_descriptors_except(keep)
    os.setsid()
    signal(SIGCHLD, SIG_DFL)  # the zygote's children need no reaping, ours do

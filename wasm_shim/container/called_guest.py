"""The rest of a guest's process that calls a function, behind its wall."""

import _thread
import os
import signal
from typing import NoReturn

from wasm_shim.container.control import CONTROL, DEADLY, GO, NO_THREAD, NOT_STARTED
from wasm_shim.runtime.called import CalledFunction, Caller, write_all
from wasm_shim.runtime.host import Host


def run_called(host: Host, data: bytes, pointer: int, config: int) -> NoReturn:
    """Wait for GO, call the CalledFunction that `data` encodes, and exit.

    `pointer` is that of the program, mapped; `config` the WASI configuration.
    """

    def guest_thread() -> None:
        try:
            if os.read(CONTROL, 1) != GO:
                os._exit(NOT_STARTED)
            os.close(CONTROL)
            status = Caller(host, CalledFunction.from_bytes(data), pointer).run(config)
        except ConnectionResetError:  # the shim is gone, and has not even read that we are ready
            os._exit(NOT_STARTED)
        except BaseException as error:  # noqa: BLE001 - the guest's last chance to say what happened
            write_all(2, f"fault while running the guest: {error!r}\n".encode())
            os._exit(NOT_STARTED)
        os._exit(status)  # of all threads: it ends the main thread's wait

    try:
        _thread.start_new_thread(guest_thread, ())
    except RuntimeError:
        write_all(2, NO_THREAD)
        os._exit(NOT_STARTED)
    os._exit(128 + signal.sigwait(DEADLY))

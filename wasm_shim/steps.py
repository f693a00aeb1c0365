"""Named points in the life of a container, at which a test can hold a process and kill it.

WASM_SHIM_HOLD=STEP:SOCKET in the environment makes a process that reaches the step connect to the test's
Unix socket (which tells the test its pid) and wait there until the test answers or kills it. Without the
variable a step costs one dictionary look-up.
"""

import os
import socket
from typing import Final

VARIABLE: Final = "WASM_SHIM_HOLD"

STEPS: Final = (
    "cli.prepared",  # the container's directory exists, no process yet
    "zygote.forked",  # in the zygote, just after the fork of a pod shim
    "shim.listening",  # the pod shim has its socket and has told nobody
    "compiler.locked",  # the compiler holds the program's lock
    "compiler.reported",  # its work is done, it has not ended
    "guest.forked",  # first line of the guest's process
    "shim.created",  # the guest is walled in; Create is not answered yet
    "cli.created",  # the task is created, not started
    "cli.started",  # it runs
    "shim.exited",  # the shim has seen the guest's end and told nobody
    "cli.exited",  # the exit status is known, nothing is removed yet
)


def reached(step: str) -> None:
    """Wait here if a test asks for it."""
    held, _, address = os.environ.get(VARIABLE, "").partition(":")
    if held == step:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            connection.sendall(step.encode())
            connection.recv(1)

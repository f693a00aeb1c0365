"""Named points in the life of a container, at which a test can hold a process and kill it.

WASM_SHIM_HOLD=STEP:SOCKET in the environment of the command line or of containerd-shim-wasm-v1 makes whichever
process reaches the step connect to the test's Unix socket (which tells the test its pid) and wait there until the test
answers or kills it. Without the variable a step costs one comparison.
"""

import os
import socket
from typing import Final

VARIABLE: Final = "WASM_SHIM_HOLD"

# What every container passes, in this order.
SHARED_STEPS: Final = (
    "zygote.forked",  # in the zygote, just after the fork of a pod shim
    "shim.listening",  # the pod shim has its socket and has told nobody
    "compiler.locked",  # the compiler holds the program's lock
    "compiler.reported",  # its work is done, it has not ended
    "guest.forked",  # first line of the guest's process
    "shim.created",  # the guest is walled in; Create is not answered yet
    "shim.started",  # it runs; Start is not answered yet
    "shim.exited",  # the shim has seen the guest's end and told nobody
    "shim.leaving",  # nothing is left to serve, the socket is still there
)

# What a container of the command line passes, too.
COMMAND_LINE_STEPS: Final = (
    "cli.prepared",  # the container's directory exists, no process yet
    "cli.created",  # the task is created, not started
    "cli.started",  # it runs
    "cli.exited",  # the exit status is known, nothing is removed yet
)

# What one of containerd passes, too.
CONTAINERD_STEPS: Final = (
    "shim.answered",  # containerd knows the pod shim's socket, and nobody serves it yet
    "preparer.forked",  # first line of the process that mounts for a container with a root file system
    "preparer.mounted",  # cgroup and mounts stand, nobody knows yet
    "shim.telling",  # the cgroup has gone, the news of the guest's end has not been sent
    "delete.begun",  # a `delete` has done nothing yet
    "delete.told",  # the pod shim, if it lives, has ended the container
    "delete.emptied",  # nothing runs in its cgroup, which is gone; the socket is still there
)

# What one passes whose program is in no file of its root file system.
IMAGE_STEPS: Final = ("resolver.asked",)  # the image resolver has a question and has not answered it

STEPS: Final = SHARED_STEPS + COMMAND_LINE_STEPS + CONTAINERD_STEPS + IMAGE_STEPS

_held, _, _address = os.environ.get(VARIABLE, "").partition(":")


def hold_at(value: str) -> None:
    """Do as if the variable had this value: the zygote's children get it with their request."""
    global _held, _address
    _held, _, _address = value.partition(":")


def held_at() -> str:
    """The variable's present value, to be handed on to a new process."""
    return f"{_held}:{_address}" if _held else ""


def holder_of(step: str) -> str:
    """The path of the socket of a test that holds this step, or empty: for a process that runs no Python there."""
    return _address if _held == step else ""


def reached(step: str) -> None:
    """Wait here if a test asks for it."""
    if _held == step:
        Gate(step).reached()


class Gate:
    """A step that is prepared now and reached behind a filter that allows no socket calls any more."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._socket: socket.socket | None = None
        if _held == step:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(_address)
                self._socket = connection
            except OSError:  # the test holds nobody any more
                connection.close()

    def reached(self) -> None:
        """Wait here if a test asks for it; to be called once."""
        if self._socket:
            try:
                os.write(self._socket.fileno(), self._step.encode())
                os.read(self._socket.fileno(), 1)
            except ConnectionError:  # the test let everybody go meanwhile
                pass
            self._socket.close()

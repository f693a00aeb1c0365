"""What happens to a task, as its observer hears it.

For each task in this order: Created, Started unless it ended before, Paused and Resumed in turns, Exited, Deleted.
OutOfMemory may come anywhere in between. A creation that failed is never heard of.
"""

from typing import NamedTuple

from wasm_shim.task.ports import Creation, Exit


class Created(NamedTuple):
    """Its process waits for `start`."""

    creation: Creation
    pid: int


class Started(NamedTuple):
    """Its process runs, or ran."""

    id: str
    pid: int


class Exited(NamedTuple):
    """Its process has ended."""

    id: str
    pid: int
    exit: Exit


class Deleted(NamedTuple):
    """It is forgotten; `exit` is how its process ended."""

    id: str
    pid: int
    exit: Exit | None


class Paused(NamedTuple):
    """All its processes are frozen."""

    id: str


class Resumed(NamedTuple):
    """Its processes go on."""

    id: str


class OutOfMemory(NamedTuple):
    """The kernel killed a process of it for lack of memory."""

    id: str


TaskEvent = Created | Started | Exited | Deleted | Paused | Resumed | OutOfMemory

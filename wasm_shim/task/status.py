"""Which verb a task allows in which status, and what it becomes: the one table, pure.

A task is CREATED (its process waits behind its wall), RUNNING, then STOPPED; deleted is absence, not a status.
The refusals are those that containerd and its clients expect of runc's shim (cmd/containerd-shim-runc-v2,
process/init_state.go): kill of a stopped task is NotFound, which means "there is nothing left to kill".
"""

import enum

from wasm_shim.errors import FailedPrecondition, NotFound, WasmShimError


class Status(enum.Enum):
    """Where a task is in its life."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class Verb(enum.Enum):
    """What can happen to a task."""

    START = "start"
    EXIT = "exit"
    STATE = "state"
    WAIT = "wait"
    KILL = "kill"
    PIDS = "pids"
    CLOSE_IO = "close the stdin of"
    RESIZE = "resize the terminal of"
    DELETE = "delete"


_Outcome = Status | type[WasmShimError]

TABLE: dict[Status, dict[Verb, _Outcome]] = {
    Status.CREATED: {
        Verb.START: Status.RUNNING,
        Verb.EXIT: Status.STOPPED,
        Verb.STATE: Status.CREATED,
        Verb.WAIT: Status.CREATED,
        Verb.KILL: Status.CREATED,
        Verb.PIDS: Status.CREATED,
        Verb.CLOSE_IO: Status.CREATED,
        Verb.RESIZE: Status.CREATED,
        Verb.DELETE: Status.CREATED,  # the process that waits is killed first
    },
    Status.RUNNING: {
        Verb.START: FailedPrecondition,
        Verb.EXIT: Status.STOPPED,
        Verb.STATE: Status.RUNNING,
        Verb.WAIT: Status.RUNNING,
        Verb.KILL: Status.RUNNING,
        Verb.PIDS: Status.RUNNING,
        Verb.CLOSE_IO: Status.RUNNING,
        Verb.RESIZE: Status.RUNNING,
        Verb.DELETE: FailedPrecondition,
    },
    Status.STOPPED: {
        Verb.START: FailedPrecondition,
        Verb.EXIT: FailedPrecondition,
        Verb.STATE: Status.STOPPED,
        Verb.WAIT: Status.STOPPED,
        Verb.KILL: NotFound,
        Verb.PIDS: Status.STOPPED,
        Verb.CLOSE_IO: Status.STOPPED,
        Verb.RESIZE: FailedPrecondition,
        Verb.DELETE: Status.STOPPED,
    },
}


def next_status(status: Status, verb: Verb) -> Status:
    """The status after `verb`; raises the table's error when it is refused."""
    outcome = TABLE[status][verb]
    if isinstance(outcome, Status):
        return outcome
    if outcome is NotFound:
        raise NotFound("process already finished")  # the words that containerd's clients look for
    raise outcome(f"cannot {verb.value} a {status.value} task")

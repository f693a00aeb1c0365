"""Which verb a task allows in which status, and what it becomes: the one table, pure.

A task is CREATED (its process waits behind its wall), RUNNING, perhaps PAUSING and PAUSED, then STOPPED; deleted is
absence, not a status. The refusals are those that containerd and its clients expect of runc's shim
(cmd/containerd-shim-runc-v2, process/init_state.go): kill of a stopped task is NotFound, which means "there is
nothing left to kill".
"""

import enum

from wasm_shim.errors import FailedPrecondition, NotFound, WasmShimError


class Status(enum.Enum):
    """Where a task is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"  # the kernel has been asked to freeze it, and is at it
    PAUSED = "paused"
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
    PAUSE = "pause"
    FROZEN = "freeze"  # what PAUSE asked for has come true
    RESUME = "resume"
    UPDATE = "update"
    STATS = "measure"
    DELETE = "delete"


_Outcome = Status | type[WasmShimError]

# While it lives, these change nothing.
_ALIVE = (Verb.STATE, Verb.WAIT, Verb.KILL, Verb.PIDS, Verb.CLOSE_IO, Verb.RESIZE, Verb.UPDATE, Verb.STATS)


def _row(status: Status, same: tuple[Verb, ...], **others: _Outcome) -> dict[Verb, _Outcome]:
    """One status: `same` verbs leave it, `others` are named by their outcome, the rest are refused."""
    row: dict[Verb, _Outcome] = dict.fromkeys(Verb, FailedPrecondition)
    row.update(dict.fromkeys(same, status))
    row.update({Verb[name]: outcome for name, outcome in others.items()})
    return row


TABLE: dict[Status, dict[Verb, _Outcome]] = {
    Status.CREATED: _row(
        Status.CREATED,
        (*_ALIVE, Verb.DELETE),  # to delete it, the process that waits is killed first
        START=Status.RUNNING,
        EXIT=Status.STOPPED,
    ),
    Status.RUNNING: _row(Status.RUNNING, _ALIVE, EXIT=Status.STOPPED, PAUSE=Status.PAUSING),
    Status.PAUSING: _row(Status.PAUSING, _ALIVE, EXIT=Status.STOPPED, FROZEN=Status.PAUSED),
    Status.PAUSED: _row(Status.PAUSED, _ALIVE, EXIT=Status.STOPPED, RESUME=Status.RUNNING),
    Status.STOPPED: _row(
        Status.STOPPED,
        (Verb.STATE, Verb.WAIT, Verb.PIDS, Verb.CLOSE_IO, Verb.STATS, Verb.DELETE),
        KILL=NotFound,
    ),
}


def next_status(status: Status, verb: Verb) -> Status:
    """The status after `verb`; raises the table's error when it is refused."""
    outcome = TABLE[status][verb]
    if isinstance(outcome, Status):
        return outcome
    if outcome is NotFound:
        raise NotFound("process already finished")  # the words that containerd's clients look for
    raise outcome(f"cannot {verb.value} a {status.value} task")

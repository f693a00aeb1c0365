"""The status table: every pair of status and verb."""

from __future__ import annotations

import itertools

import pytest

from wasm_shim.errors import FailedPrecondition, NotFound, WasmShimError
from wasm_shim.task.status import TABLE, Status, Verb, next_status

C, R, Z, P, S = Status.CREATED, Status.RUNNING, Status.PAUSING, Status.PAUSED, Status.STOPPED
REFUSED, GONE = FailedPrecondition, NotFound
EXPECTED: dict[Verb, tuple[Status | type[WasmShimError], ...]] = {  # in the order C, R, Z, P, S
    Verb.START: (R, REFUSED, REFUSED, REFUSED, REFUSED),
    Verb.EXIT: (S, S, S, S, REFUSED),
    Verb.STATE: (C, R, Z, P, S),
    Verb.WAIT: (C, R, Z, P, S),
    Verb.KILL: (C, R, Z, P, GONE),
    Verb.PIDS: (C, R, Z, P, S),
    Verb.CLOSE_IO: (C, R, Z, P, S),
    Verb.RESIZE: (C, R, Z, P, REFUSED),
    Verb.PAUSE: (REFUSED, Z, REFUSED, REFUSED, REFUSED),
    Verb.FROZEN: (REFUSED, REFUSED, P, REFUSED, REFUSED),
    Verb.RESUME: (REFUSED, REFUSED, REFUSED, R, REFUSED),
    Verb.UPDATE: (C, R, Z, P, REFUSED),
    Verb.STATS: (C, R, Z, P, S),
    Verb.DELETE: (C, REFUSED, REFUSED, REFUSED, S),
}
PAIRS = [
    pytest.param(status, verb, outcome, id=f"{verb.name}-{status.name}".lower())
    for verb, outcomes in EXPECTED.items()
    for status, outcome in zip((C, R, Z, P, S), outcomes, strict=True)
]


def test_every_pair_is_expected() -> None:
    """The table and this test speak of all pairs, so that none is decided by accident."""
    pairs = set(itertools.product(Status, Verb))
    assert {(status, verb) for status, verbs in TABLE.items() for verb in verbs} == pairs
    assert {(param.values[0], param.values[1]) for param in PAIRS} == pairs


@pytest.mark.parametrize(("status", "verb", "outcome"), PAIRS)
def test_verb_in_status(status: Status, verb: Verb, outcome: Status | type[WasmShimError]) -> None:
    """A verb leads to a status, or is refused with the error and the words that clients know."""
    if isinstance(outcome, Status):
        assert next_status(status, verb) is outcome
        return
    words = "process already finished" if outcome is GONE else f"cannot {verb.value} a {status.value} task"
    with pytest.raises(outcome) as refusal:
        next_status(status, verb)
    assert type(refusal.value) is outcome
    assert refusal.value.message == words


def test_stopped_is_the_end() -> None:
    """No verb leads out of STOPPED, and none back to CREATED."""
    reached = {
        (status, outcome)
        for status, verbs in TABLE.items()
        for outcome in verbs.values()
        if isinstance(outcome, Status) and outcome is not status
    }
    assert reached == {(C, R), (R, Z), (Z, P), (P, R), (C, S), (R, S), (Z, S), (P, S)}

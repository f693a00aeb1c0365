"""What a task manager does with any runner that has cgroups: freezing, limits, measuring, want of memory."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.contracts.bench import Bench, create, ended, told
from tests.contracts.memory_runner import ENDS, GROWS, RUNS
from wasm_shim.errors import FailedPrecondition, InvalidArgument, WasmShimError
from wasm_shim.task.events import Created, Deleted, Exited, OutOfMemory, Paused, Resumed, Started
from wasm_shim.task.status import Status

if TYPE_CHECKING:
    from wasm_shim.task.events import TaskEvent

MEGABYTES_64 = {"memory": {"limit": 64 << 20}}


def paused(bench: Bench, id_: str = "one") -> WasmShimError | None:
    """Ask for a pause and wait for the answer, before which the observer has heard of it."""
    answers: list[tuple[WasmShimError | None, type[TaskEvent]]] = []
    bench.manager.pause(id_, lambda error: answers.append((error, told(bench, id_)[-1])))
    bench.until(lambda: bool(answers))
    error, last = answers[0]
    assert error or last is Paused
    return error


def test_pause_and_resume(bench: Bench) -> None:
    """A running task can be paused and resumed, more than once, and still ends as it would have."""
    pid = create(bench)
    bench.manager.start("one")
    for _ in range(2):
        assert paused(bench) is None
        assert bench.manager.state("one").status is Status.PAUSED
        assert bench.manager.pids("one") == (pid,)
        bench.manager.resume("one")
        assert bench.manager.state("one").status is Status.RUNNING
    bench.manager.kill("one", signal.SIGTERM)
    assert ended(bench).status == 143
    assert told(bench) == [Created, Started, Paused, Resumed, Paused, Resumed, Exited]


def test_sigkill_ends_a_paused_task(bench: Bench) -> None:
    """A paused task cannot be deleted, but killed, without resuming it first."""
    create(bench)
    bench.manager.start("one")
    assert paused(bench) is None
    with pytest.raises(FailedPrecondition, match="cannot delete a paused task"):
        bench.manager.delete("one", lambda _: None)
    bench.manager.kill("one", signal.SIGKILL)
    assert ended(bench).status == 137
    assert told(bench) == [Created, Started, Paused, Exited]
    bench.manager.delete("one", lambda _: None)
    assert bench.manager.empty


def test_other_signals_wait_for_resume(bench: Bench) -> None:
    """A signal to a paused task is not lost: it takes effect when the task goes on."""
    create(bench)
    bench.manager.start("one")
    assert paused(bench) is None
    bench.manager.kill("one", signal.SIGTERM)
    assert bench.manager.state("one").status is Status.PAUSED
    bench.manager.resume("one")
    assert ended(bench).status == 143


def test_rejects_pause_and_resume_at_the_wrong_moment(bench: Bench) -> None:
    """Only what runs can be paused, only what is paused can be resumed, and neither is observed otherwise."""
    create(bench)
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=r"cannot resume a (created|running) task"):
            bench.manager.resume("one")
        if bench.manager.state("one").status is Status.CREATED:
            with pytest.raises(FailedPrecondition, match="cannot pause a created task"):
                bench.manager.pause("one", lambda _: None)
            bench.manager.start("one")
    assert paused(bench) is None
    with pytest.raises(FailedPrecondition, match="cannot pause a paused task"):
        bench.manager.pause("one", lambda _: None)
    bench.manager.kill("one", signal.SIGKILL)
    ended(bench)
    with pytest.raises(FailedPrecondition, match="cannot resume a stopped task"):
        bench.manager.resume("one")
    with pytest.raises(FailedPrecondition, match="cannot pause a stopped task"):
        bench.manager.pause("one", lambda _: None)
    assert told(bench) == [Created, Started, Paused, Exited]


def test_end_while_pausing_is_told(bench: Bench) -> None:
    """A task that is killed a moment after the pause was asked for ends, and the pause is answered either way."""
    create(bench)
    bench.manager.start("one")
    answers: list[WasmShimError | None] = []
    bench.manager.pause("one", answers.append)
    bench.manager.kill("one", signal.SIGKILL)
    assert ended(bench).status == 137
    bench.until(lambda: bool(answers))
    assert bench.manager.state("one").status is Status.STOPPED
    assert told(bench)[-1] is Exited


def test_update_in_every_status_but_stopped(bench: Bench) -> None:
    """Limits can be changed before the start, while it runs and while it is paused; what is no limit is refused."""
    create(bench)
    bench.manager.update("one", MEGABYTES_64)
    bench.manager.start("one")
    bench.manager.update("one", MEGABYTES_64)
    assert paused(bench) is None
    bench.manager.update("one", {})
    bad: dict[str, Any] = {"memory": 1}
    with pytest.raises(InvalidArgument):
        bench.manager.update("one", bad)
    assert bench.manager.state("one").status is Status.PAUSED
    bench.manager.kill("one", signal.SIGKILL)
    ended(bench)
    with pytest.raises(FailedPrecondition, match="cannot update a stopped task"):
        bench.manager.update("one", MEGABYTES_64)


def test_stats_while_it_lives(bench: Bench) -> None:
    """What a task uses is known before the start, while it runs and while it is paused."""
    create(bench)
    seen = [bench.manager.stats("one")]
    bench.manager.start("one")
    seen.append(bench.manager.stats("one"))
    assert paused(bench) is None
    seen.append(bench.manager.stats("one"))
    assert {metrics.type_url.rpartition(".")[2] for metrics in seen} == {"Metrics"}
    assert all(metrics.value for metrics in seen)


def test_want_of_memory_is_told_before_the_end(bench: Bench) -> None:
    """A task that the kernel kills for want of memory ends with 137, and the reason is heard of first."""
    creation = bench.creation("one", GROWS)
    answers: list[int | WasmShimError] = []
    bench.manager.create(creation, answers.append)
    bench.until(lambda: bool(answers))
    bench.manager.start("one")
    assert ended(bench).status == 137
    bench.manager.delete("one", lambda _: None)
    assert told(bench) == [Created, Started, OutOfMemory, Exited, Deleted]


def test_tasks_are_frozen_one_by_one(bench: Bench) -> None:
    """A paused task does not keep another from running and ending."""
    create(bench, RUNS, "one")
    create(bench, ENDS, "two")
    bench.manager.start("one")
    assert paused(bench, "one") is None
    bench.manager.start("two")
    assert ended(bench, "two").status == 0
    assert bench.manager.state("one").status is Status.PAUSED


# They need a runner that makes a cgroup for each task.
CGROUP_SCENARIOS = {
    name.removeprefix("test_"): scenario for name, scenario in globals().items() if name.startswith("test_")
}

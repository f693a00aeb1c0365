"""What a task manager does with any runner: scenarios, each a sentence, for every implementation of the port."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.contracts.bench import Bench, create, ended, told
from tests.contracts.memory_runner import BROKEN, ENDS, RUNS
from wasm_shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, WasmShimError
from wasm_shim.task.events import Created, Deleted, Exited, Started, TaskEvent
from wasm_shim.task.status import Status

if TYPE_CHECKING:
    from wasm_shim.task.ports import Exit, TaskState


def test_create_makes_a_task_that_waits(bench: Bench) -> None:
    """Create answers the pid of a process that waits for start, after the observer has heard of it."""
    heard: list[list[type[TaskEvent]]] = []
    creation = bench.creation("one", ENDS)
    bench.manager.create(creation, lambda _: heard.append(told(bench)))
    bench.until(lambda: bool(heard))
    assert heard == [[Created]]
    state = bench.manager.state("one")
    assert bench.seen == [Created(creation, state.pid)]
    assert (state.creation, state.status, state.exit) == (creation, Status.CREATED, None)
    assert state.pid > 0
    assert bench.manager.pids("one") == (state.pid,)
    assert bench.manager.connect("one") == state.pid


def test_life_is_observed_in_order(bench: Bench) -> None:
    """A task is created, started, exited and deleted, in this order, each before its caller's answer."""
    creation = bench.creation("one", ENDS)
    pid = create(bench, ENDS)
    order: list[list[type[TaskEvent]]] = []
    bench.manager.wait("one", lambda _: order.append(told(bench)))
    assert bench.manager.start("one") == pid
    assert told(bench) == [Created, Started]
    exit_ = ended(bench)
    assert exit_.status == 0
    bench.manager.delete("one", lambda _: order.append(told(bench)))
    assert order == [[Created, Started, Exited], [Created, Started, Exited, Deleted]]
    expected = [Created(creation, pid), Started("one", pid), Exited("one", pid, exit_), Deleted("one", pid, exit_)]
    assert bench.seen == expected


def test_every_waiter_hears_of_the_exit(bench: Bench) -> None:
    """All who wait get the same exit, once each, and one who asks later gets it at once."""
    create(bench, ENDS)
    exits: list[Exit] = []
    for _ in range(3):
        bench.manager.wait("one", exits.append)
    bench.manager.start("one")
    bench.until(lambda: len(exits) == 3)
    bench.manager.wait("one", exits.append)
    assert len(exits) == 4
    assert set(exits) == {exits[0]}
    assert exits[0].at > 0


def test_stopped_task_keeps_its_state(bench: Bench) -> None:
    """A stopped task has its exit and its pid still, and no processes."""
    pid = create(bench, ENDS)
    bench.manager.start("one")
    exit_ = ended(bench)
    assert bench.manager.state("one").exit == exit_
    assert bench.manager.state("one").pid == bench.manager.connect("one") == pid
    assert bench.manager.pids("one") == (bench.manager.state("one").pid,)  # or a new containerd would drop it


def _signalled(bench: Bench, number: signal.Signals) -> None:
    create(bench)
    bench.manager.start("one")
    bench.manager.kill("one", number)
    assert ended(bench).status == 128 + number


def test_sigkill_ends_a_running_task(bench: Bench) -> None:
    """SIGKILL makes the exit status 137."""
    _signalled(bench, signal.SIGKILL)


def test_sigterm_ends_a_running_task(bench: Bench) -> None:
    """SIGTERM makes the exit status 143."""
    _signalled(bench, signal.SIGTERM)


def test_kill_is_legal_in_created(bench: Bench) -> None:
    """A task that waits for start can be killed, and cannot be started once that is known."""
    create(bench)
    bench.manager.kill("one", signal.SIGKILL)
    assert ended(bench).status == 137
    assert told(bench) == [Created, Exited]
    with pytest.raises(FailedPrecondition, match="cannot start a stopped task"):
        bench.manager.start("one")


def test_exit_before_start_returns(bench: Bench) -> None:
    """A task that was killed a moment before its start is observed running, then stopped."""
    pid = create(bench)
    bench.manager.kill("one", signal.SIGKILL)
    assert bench.manager.start("one") == pid
    assert ended(bench).status == 137
    assert told(bench) == [Created, Started, Exited]


def test_rejects_kill_of_a_stopped_task(bench: Bench) -> None:
    """Killing what has ended is NotFound, in the words that containerd's clients look for."""
    create(bench, ENDS)
    bench.manager.start("one")
    ended(bench)
    with pytest.raises(NotFound, match=r"^process already finished$"):
        bench.manager.kill("one", signal.SIGTERM)


def test_rejects_unknown_signals(bench: Bench) -> None:
    """A number that is no signal is refused and does nothing."""
    create(bench)
    for number in (0, 65, -1, 1 << 31):
        with pytest.raises(InvalidArgument, match=f"there is no signal {number}"):
            bench.manager.kill("one", number)
    assert bench.manager.state("one").status is Status.CREATED


def test_rejects_a_second_start(bench: Bench) -> None:
    """A running task cannot be started."""
    create(bench)
    bench.manager.start("one")
    with pytest.raises(FailedPrecondition, match="cannot start a running task"):
        bench.manager.start("one")


def test_delete_forgets_a_stopped_task(bench: Bench) -> None:
    """Delete answers the last state at once and frees the id."""
    create(bench, ENDS)
    bench.manager.start("one")
    exit_ = ended(bench)
    last: list[TaskState] = []
    bench.manager.delete("one", last.append)
    assert [(state.status, state.exit) for state in last] == [(Status.STOPPED, exit_)]
    assert bench.manager.empty
    assert create(bench, ENDS) > 0


def test_rejects_delete_of_a_running_task(bench: Bench) -> None:
    """A running task must be killed first."""
    create(bench)
    bench.manager.start("one")
    with pytest.raises(FailedPrecondition, match="cannot delete a running task"):
        bench.manager.delete("one", lambda _: None)
    assert bench.manager.state("one").status is Status.RUNNING


def test_delete_in_created_kills(bench: Bench) -> None:
    """A task that was never started is killed, and answered when it has ended; two may ask at once."""
    create(bench)
    last: list[TaskState] = []
    bench.manager.delete("one", last.append)
    bench.manager.delete("one", last.append)
    assert last == []
    bench.until(lambda: len(last) == 2)
    assert [state.exit.status for state in last if state.exit] == [137, 137]
    assert told(bench) == [Created, Exited, Deleted]
    assert bench.manager.empty


def test_rejects_an_id_in_use(bench: Bench) -> None:
    """A second task of the same id is refused, and the first is left alone."""
    pid = create(bench)
    with pytest.raises(AlreadyExists, match="task one exists"):
        bench.manager.create(bench.creation("one", RUNS), lambda _: None)
    assert bench.manager.state("one").pid == pid


def test_failed_creation_leaves_nothing(bench: Bench) -> None:
    """A creation that fails is answered with the reason, is not observed, and leaves its id free."""
    answers: list[int | WasmShimError] = []
    bench.manager.create(bench.creation("one", BROKEN), answers.append)
    bench.until(lambda: bool(answers))
    assert isinstance(answers[0], FailedPrecondition)
    assert bench.seen == []
    assert bench.manager.empty
    assert create(bench, ENDS) > 0


def test_tasks_are_independent(bench: Bench) -> None:
    """One task's end does not touch another's life."""
    pids = {create(bench, RUNS, id_) for id_ in ("one", "two")}
    assert len(pids) == 2
    for id_ in ("one", "two"):
        bench.manager.start(id_)
    bench.manager.kill("one", signal.SIGKILL)
    assert ended(bench, "one").status == 137
    assert bench.manager.state("two").status is Status.RUNNING
    bench.manager.kill("two", signal.SIGTERM)
    assert ended(bench, "two").status == 143


def test_kill_all_ends_everything(bench: Bench) -> None:
    """Everything that was made ends by SIGKILL, whatever its status, and only then the caller hears, once."""
    create(bench, RUNS, "created")
    create(bench, RUNS, "running")
    create(bench, ENDS, "stopped")
    for id_ in ("running", "stopped"):
        bench.manager.start(id_)
    ended(bench, "stopped")
    emptied: list[int] = []
    bench.manager.kill_all(lambda: emptied.append(len(bench.seen)))
    bench.until(lambda: bool(emptied))
    exits = {id_: state.exit and state.exit.status for id_ in ("created", "running", "stopped")
             for state in [bench.manager.state(id_)]}  # fmt: skip
    assert exits == {"created": 137, "running": 137, "stopped": 0}
    again: list[bool] = []
    bench.manager.kill_all(lambda: again.append(True))
    assert (len(emptied), again) == (1, [True])


def test_stdin_may_be_closed_in_every_status(bench: Bench) -> None:
    """Closing stdin is harmless before the start, while it runs, at the end, and twice."""
    create(bench)
    bench.manager.close_stdin("one")
    bench.manager.start("one")
    bench.manager.close_stdin("one")
    bench.manager.kill("one", signal.SIGKILL)
    ended(bench)
    bench.manager.close_stdin("one")


def test_rejects_a_size_without_a_terminal(bench: Bench) -> None:
    """A task without a terminal has no size, and no terminal has one of a million columns."""
    create(bench)
    with pytest.raises(FailedPrecondition, match="the task has no terminal"):
        bench.manager.resize("one", 80, 25)
    with pytest.raises(InvalidArgument, match="too large"):
        bench.manager.resize("one", 1_000_000, 25)


def test_rejects_unknown_ids(bench: Bench) -> None:
    """Every verb but Connect says NotFound for a task that is not there; Connect says 0."""
    manager = bench.manager
    for verb in (
        lambda: manager.start("none"),
        lambda: manager.state("none"),
        lambda: manager.wait("none", lambda _: None),
        lambda: manager.kill("none", signal.SIGTERM),
        lambda: manager.pids("none"),
        lambda: manager.close_stdin("none"),
        lambda: manager.resize("none", 1, 1),
        lambda: manager.pause("none", lambda _: None),
        lambda: manager.resume("none"),
        lambda: manager.update("none", {}),
        lambda: manager.stats("none"),
        lambda: manager.delete("none", lambda _: None),
    ):
        with pytest.raises(NotFound, match="no task none"):
            verb()
    assert manager.connect("none") == 0


# Those with more than one process, which a shim in a user namespace of its own cannot have.
SEVERAL_PROCESSES = ("delete_forgets_a_stopped_task", "tasks_are_independent", "kill_all_ends_everything")
SCENARIOS = {name.removeprefix("test_"): scenario for name, scenario in globals().items() if name.startswith("test_")}

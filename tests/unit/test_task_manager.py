"""The task manager: its contract on both runners, and what only a held runner can show."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.bench import create, told
from tests.contracts.guest_bench import ONE_PROCESS_ONLY
from tests.contracts.limits import CGROUP_SCENARIOS
from tests.contracts.memory_runner import ENDS, RUNS, MemoryBench, MemoryProcess
from tests.contracts.tasks import SCENARIOS
from wasm_shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
    WasmShimError,
)
from wasm_shim.task.events import Created, Deleted, Exited, Paused, Started
from wasm_shim.task.status import Status

ROOT = Path(__file__).resolve().parents[2]
EVERY_SCENARIO = pytest.mark.parametrize("scenario", SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS | CGROUP_SCENARIOS)
def test_contract_in_memory(scenario: str) -> None:
    """The runner of the tests keeps the contract."""
    (SCENARIOS | CGROUP_SCENARIOS)[scenario](MemoryBench())


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all scenarios find the programs that the first one compiled."""
    directory = tmp_path_factory.mktemp("guest-bench")
    (directory / "cache").mkdir(mode=0o700)
    return directory


@EVERY_SCENARIO
def test_contract_with_guests(scenario: str, shared_directory: Path) -> None:
    """Real guests keep it, too, and leave no process and no descriptor; in a process without threads."""
    code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.contracts.guest_bench import main; main()"
    command = [sys.executable, "-P", "-c", code, scenario, str(shared_directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode == ONE_PROCESS_ONLY:
        pytest.skip("without privileges a shim has one container, and this scenario several")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def bench() -> MemoryBench:
    """A bench whose runner makes nothing by itself."""
    made = MemoryBench()
    made.runner.held = True
    return made


def test_create_is_answered_when_it_is_made(bench: MemoryBench) -> None:
    """Until the runner has made the process, there is no answer and no task to speak to, but the id is taken."""
    answers: list[int | WasmShimError] = []
    creation = bench.creation("one", RUNS)
    bench.manager.create(creation, answers.append)
    assert (answers, bench.seen, bench.manager.connect("one"), bench.manager.empty) == ([], [], 0, False)
    with pytest.raises(NotFound, match="no task one"):
        bench.manager.start("one")
    with pytest.raises(AlreadyExists):
        bench.manager.create(creation, answers.append)
    bench.runner.make()
    assert answers == [bench.manager.start("one")]


def test_late_failure_frees_the_id(bench: MemoryBench) -> None:
    """A creation that fails later is answered with the reason and forgotten."""
    answers: list[int | WasmShimError] = []
    bench.manager.create(bench.creation("one", RUNS), answers.append)
    bench.runner.refuse()
    assert [type(answer) for answer in answers] == [FailedPrecondition]
    assert bench.manager.empty


def test_kill_all_does_not_wait_for_what_is_being_made(bench: MemoryBench) -> None:
    """A creation under way has no process to kill, and the shim that asked is about to leave."""
    bench.manager.create(bench.creation("one", RUNS), lambda _: None)
    emptied: list[bool] = []
    bench.manager.kill_all(lambda: emptied.append(True))
    assert emptied == [True]


def test_signals_reach_the_process(bench: MemoryBench) -> None:
    """Signals, the terminal's size and the end of stdin arrive as they were sent."""
    bench.runner.held = False
    creation = bench.creation("one", RUNS)._replace(terminal=True)
    bench.manager.create(creation, lambda _: None)
    bench.manager.kill("one", signal.SIGUSR1)
    bench.manager.resize("one", 65535, 0)
    bench.manager.close_stdin("one")
    process = bench.runner.processes["one"]
    assert (process.signals, process.size, process.stdin_closed) == ([signal.SIGUSR1], (65535, 0), True)


def test_any_exit_status_passes(bench: MemoryBench) -> None:
    """The exit status is the process's own."""
    bench.runner.held = False
    create(bench, RUNS)
    bench.manager.start("one")
    bench.runner.processes["one"].end(200)
    state = bench.manager.state("one")
    assert state.exit is not None
    assert state.exit.status == 200


def test_waiter_may_delete(bench: MemoryBench) -> None:
    """A waiter that deletes the task and makes it anew finds the id free, and gets a new task."""
    bench.runner.held = False
    create(bench, ENDS)

    def replace(_: object) -> None:
        bench.manager.delete("one", lambda _: None)
        bench.manager.create(bench.creation("one", RUNS), lambda _: None)

    bench.manager.wait("one", replace)
    bench.manager.start("one")
    bench.until(lambda: len(bench.seen) == 5)
    assert told(bench) == [Created, Started, Exited, Deleted, Created]
    assert bench.manager.state("one").status is Status.CREATED


def test_exit_within_start(bench: MemoryBench) -> None:
    """A process that ends before the runner's start has returned is heard of as started, then as exited."""
    creation = bench.creation("one", RUNS)
    bench.manager.create(creation, lambda _: None)
    bench.runner.make()
    process = bench.runner.processes["one"]
    process.start = lambda: process.end(3)  # type: ignore[method-assign] # a process of another kind
    assert bench.manager.start("one") == process.pid
    assert [type(event) for event in bench.seen] == [Created, Started, Exited]
    assert bench.manager.state("one").status is Status.STOPPED


def test_failed_start_leaves_it_created(bench: MemoryBench) -> None:
    """A start that fails is not observed, and may be tried again."""
    bench.manager.create(bench.creation("one", RUNS), lambda _: None)
    bench.runner.make()
    process = bench.runner.processes["one"]
    start, process.start = process.start, _refuse  # type: ignore[method-assign] # a process of another kind
    with pytest.raises(ResourceExhausted):
        bench.manager.start("one")
    assert (told(bench), bench.manager.state("one").status) == ([Created], Status.CREATED)
    process.start = start  # type: ignore[method-assign]
    bench.manager.start("one")
    assert told(bench) == [Created, Started]


def _refuse(*_: Any) -> None:
    raise ResourceExhausted("no memory; try again")


def test_delete_of_what_is_being_made(bench: MemoryBench) -> None:
    """A client that deletes before Create was answered has given up: the process ends unheard of once it is made."""
    answers: list[int | WasmShimError] = []
    bench.manager.create(bench.creation("one", RUNS), answers.append)
    with pytest.raises(NotFound):
        bench.manager.delete("one", lambda _: None)
    assert bench.manager.empty
    bench.runner.make()
    process = bench.runner.processes["one"]
    assert (process.signals, [type(answer) for answer in answers]) == ([signal.SIGKILL], [Unavailable])
    assert bench.manager.connect("one") == 0
    with pytest.raises(NotFound):
        bench.manager.state("one")
    emptied: list[bool] = []
    bench.manager.kill_all(lambda: emptied.append(True))
    bench.until(lambda: bool(emptied))
    assert bench.seen == []
    bench.runner.held = False
    assert create(bench) > 0


def pausing(bench: MemoryBench) -> tuple[MemoryProcess, list[WasmShimError | None]]:
    """A running task that has been asked to freeze, and what is answered to that."""
    bench.runner.held = False
    create(bench)
    bench.manager.start("one")
    process = bench.runner.processes["one"]
    process.freezes_at_once = False
    answers: list[WasmShimError | None] = []
    bench.manager.pause("one", answers.append)
    return process, answers


def test_pausing_is_a_status_of_its_own(bench: MemoryBench) -> None:
    """While the kernel is at it the task is neither paused nor can it be resumed or paused again."""
    process, answers = pausing(bench)
    assert bench.manager.state("one").status is Status.PAUSING
    with pytest.raises(FailedPrecondition, match="cannot resume a pausing task"):
        bench.manager.resume("one")
    with pytest.raises(FailedPrecondition, match="cannot pause a pausing task"):
        bench.manager.pause("one", answers.append)
    process.freeze()
    assert (answers, bench.manager.state("one").status) == ([None], Status.PAUSED)
    assert told(bench) == [Created, Started, Paused]


def test_failed_pause_leaves_it_running(bench: MemoryBench) -> None:
    """A pause that fails at once or later is answered with the reason, and the task runs."""
    process, answers = pausing(bench)
    process.refuse_to_freeze()
    assert [type(answer) for answer in answers] == [FailedPrecondition]
    assert bench.manager.state("one").status is Status.RUNNING
    process.pause = _refuse  # type: ignore[method-assign,assignment] # a process of another kind
    with pytest.raises(ResourceExhausted):
        bench.manager.pause("one", answers.append)
    assert bench.manager.state("one").status is Status.RUNNING
    assert told(bench) == [Created, Started]


def test_end_before_it_was_frozen(bench: MemoryBench) -> None:
    """A pause that comes true after the end is refused, and not observed."""
    process, answers = pausing(bench)
    process.end(0)
    process.freeze()
    assert [type(answer) for answer in answers] == [FailedPrecondition]
    assert told(bench) == [Created, Started, Exited]


def test_failed_resume_leaves_it_paused(bench: MemoryBench) -> None:
    """A task that stays frozen stays paused."""
    process, _ = pausing(bench)
    process.freeze()
    process.resume = _refuse  # type: ignore[method-assign] # a process of another kind
    with pytest.raises(ResourceExhausted):
        bench.manager.resume("one")
    assert (bench.manager.state("one").status, told(bench)) == (Status.PAUSED, [Created, Started, Paused])

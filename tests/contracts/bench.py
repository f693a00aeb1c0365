"""What the scenarios of a task manager share: the bench that each implementation brings, and words for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.contracts.memory_runner import RUNS
from wasm_shim.task.events import Created, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasm_shim.errors import WasmShimError
    from wasm_shim.task.manager import TaskManager
    from wasm_shim.task.ports import Creation, Exit


class Bench(Protocol):
    """A manager with its runner, and what its observer has seen."""

    manager: TaskManager
    seen: list[TaskEvent]

    def creation(self, id_: str, program: str) -> Creation:
        """A request for a task that ENDS by itself, RUNS until a signal, GROWS until killed, or is BROKEN."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Let things happen until the condition holds."""


def create(bench: Bench, program: str = RUNS, id_: str = "one") -> int:
    """A task that was made; its pid."""
    answers: list[int | WasmShimError] = []
    bench.manager.create(bench.creation(id_, program), answers.append)
    bench.until(lambda: bool(answers))
    assert isinstance(answers[0], int), answers[0]
    return answers[0]


def ended(bench: Bench, id_: str = "one") -> Exit:
    """The exit of a task, waited for."""
    exits: list[Exit] = []
    bench.manager.wait(id_, exits.append)
    bench.until(lambda: bool(exits))
    return exits[0]


def told_of(event: TaskEvent) -> str:
    """The id of the task that an event is about."""
    return event.creation.id if isinstance(event, Created) else event.id


def told(bench: Bench, id_: str = "one") -> list[type[TaskEvent]]:
    """The kinds of what the observer heard of a task."""
    return [type(event) for event in bench.seen if told_of(event) == id_]

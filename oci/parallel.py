"""Several items at once in threads; the first failure ends the work, and so does Ctrl-C."""

import time
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Final, TypeAlias, TypeVar

__all__ = ["each"]

Item = TypeVar("Item")
_Outcomes: TypeAlias = "SimpleQueue[BaseException | None]"

_GRACE: Final = 5.0  # seconds for the others to notice a failure


def each(work: Callable[[Item], None], items: Iterable[Item], threads: int, stop: Event) -> None:
    """Do the work on every item. Raises what the first failing item raised, after it set `stop`.

    Long work looks at `stop` and gives up. Work that does not notice it in time (a read that waits for an answer) is
    left alone; its thread does not keep the process alive.
    """
    todo = iter(list(items))  # its next() is atomic, so threads may share it
    outcomes: _Outcomes = SimpleQueue()
    workers = [Thread(target=_run, args=(work, todo, stop, outcomes), daemon=True) for _ in range(threads)]
    try:
        for worker in workers:
            worker.start()
        error = next((outcome for _ in workers if (outcome := outcomes.get()) is not None), None)
    except BaseException:
        stop.set()
        raise
    if error is not None:
        stop.set()
        deadline = time.monotonic() + _GRACE
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        raise error


def _run(work: Callable[[Item], None], todo: Iterator[Item], stop: Event, outcomes: _Outcomes) -> None:
    try:
        for item in todo:
            work(item)
            if stop.is_set():
                break
    except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
        outcomes.put(error)
    else:
        outcomes.put(None)

"""The bench of `tests.contracts.tasks` with real guests, in a process of its own: python -m … SCENARIO DIRECTORY."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contracts.memory_runner import BROKEN, ENDS, RUNS, run_until
from tests.contracts.tasks import SCENARIOS, SEVERAL_PROCESSES
from wasm_shim.container.forge import make_forge
from wasm_shim.container.runner import GuestRunner
from wasm_shim.container.wall import Wall
from wasm_shim.eventloop import EventLoop
from wasm_shim.guest import Image
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.task.manager import TaskManager
from wasm_shim.task.ports import Creation

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasm_shim.task.events import TaskEvent

GUESTS = Path(__file__).resolve().parents[1] / "guests"
DESCRIPTORS = Path("/proc/self/fd")
ONE_PROCESS_ONLY = 77  # exit code: this machine's wall cannot run the scenario
PROGRAMS = {ENDS: "hello.wat", RUNS: "spin.wat", BROKEN: "unknown_import.wat"}


class GuestBench:
    """Guests behind the wall of this machine, their bundles in `directory`."""

    def __init__(self, directory: Path) -> None:
        forge = make_forge()
        self.wall = forge.wall
        self.loop = EventLoop()
        self.before = len(list(DESCRIPTORS.iterdir()))
        self._directory = directory
        cache = ProgramCache(str(directory / "cache"), forge.host.engine_id)
        self.seen: list[TaskEvent] = []
        self.runner = GuestRunner(self.loop, forge, cache)
        self.manager = TaskManager(self.runner, self.seen.append)

    def creation(self, id_: str, program: str) -> Creation:
        """A request for a guest of this kind, with a bundle."""
        bundle = self._directory / f"{os.getpid()}-{id_}"
        bundle.mkdir(exist_ok=True)
        process = {"args": [f"/{PROGRAMS[program]}"], "cwd": "/"}
        (bundle / "config.json").write_text(json.dumps({"process": process}))
        image = Image(str(GUESTS / PROGRAMS[program]), f"/{PROGRAMS[program]}")
        return Creation(id_, str(bundle), image, call="", terminal=False, stdin="", stdout="", stderr="")

    def until(self, condition: Callable[[], bool]) -> None:
        """Let things happen until the condition holds."""
        run_until(self.loop, condition)


def main() -> None:
    """Run one scenario, then check that nothing is left of it but what the bench keeps."""
    scenario, directory = sys.argv[1:]
    bench = GuestBench(Path(directory))
    if bench.wall is Wall.USER_NAMESPACE and scenario in SEVERAL_PROCESSES:
        sys.exit(ONE_PROCESS_ONLY)
    SCENARIOS[scenario](bench)
    done: list[bool] = []
    bench.manager.kill_all(lambda: done.append(True))
    bench.until(lambda: bool(done))
    bench.runner.close()
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass  # every child has been reaped
    else:
        sys.exit("a process is left")
    left = len(list(DESCRIPTORS.iterdir())) - bench.before
    if left:
        sys.exit(f"{left} descriptors are left")


if __name__ == "__main__":
    main()

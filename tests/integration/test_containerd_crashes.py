"""Kill each process at each step of a container's life on a real containerd: one clear end, and nothing is left."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.containerd.daemon import Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import Image
from tests.containerd.leftovers import zygotes
from tests.integration.fleet import KIT, fleet_image
from tests.integration.killing import cast, empty_cache, holding, kill, leftovers, story, wait_served
from tests.integration.observe import wait_end
from tests.integration.support import DEADLINE, Hold, wait_for
from wasm_shim.steps import CONTAINERD_STEPS, SHARED_STEPS

pytestmark = pytest.mark.root

NAME: Final = "same"


class End(NamedTuple):
    """How it ends for `ctr run` (exit code, pattern in its one line, if it says any) and for a follower of events."""

    code: int
    says: str = ""
    told: tuple[str, ...] = ("",)  # one of these, see killing.story
    stays: str = ""  # until when something is left of it, where that is not ours to remove earlier


NEXT_START, RESTART = "the same container is started again", "containerd is started again"


def life(code: int) -> tuple[str]:
    """What is told of a whole life."""
    return (f"create start exit {code} delete {code}",)


ABORTED: Final = "create exit 137 delete 137"
RUNS_ON: Final = End(143, "", life(143))  # undisturbed until the test ends the guest
DONE: Final = End(0, "", life(0))
NOT_STARTED: Final = End(1, "start failed: : signal: killed")
LOST: Final = End(1, "the pod shim was killed while it started")
NOT_CREATED: Final = End(1, "ttrpc: closed")
NOT_PREPARED: Final = End(1, "the process that prepares the container was killed; create it again")
NOT_COMPILED: Final = End(1, "the compiler was ended by signal 9 while it compiled /app.wasm; run it again")
NOT_WALLED: Final = End(1, "the guest's process was killed before its wall stood; try again")
SHIM_KILLED: Final = End(1, "ttrpc: closed|not found", life(137))
AWAY: Final = End(1, "EOF|transport is closing")  # containerd itself, which is started again then
# The next containerd finds a task, or comes before it is made and has it ended.
AWAY_EARLY: Final = AWAY._replace(told=("", ABORTED))
FORGOTTEN: Final = SHIM_KILLED._replace(told=("create start",))  # the next containerd knows of nothing that ran

# For each step who is there, and how it ends when that one is killed.
TABLE: Final[dict[str, dict[str, End]]] = {
    "zygote.forked": {  # whose client waits for the zygote's end of the connection, too
        "client": NOT_STARTED._replace(stays=NEXT_START),  # or for 60 s: see pod.ContainerdPod.unused
        "zygote": RUNS_ON,
        "shim": End(1, "connection refused", stays=NEXT_START),  # containerd runs no `delete` then
        "nursery": RUNS_ON,
        "containerd": AWAY,
    },
    "shim.listening": {
        "client": NOT_STARTED,
        "zygote": RUNS_ON,
        "shim": LOST,
        "nursery": RUNS_ON,
        "containerd": AWAY,
    },
    "shim.answered": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "containerd": AWAY_EARLY,
    },
    "preparer.forked": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "preparer": NOT_PREPARED,
        "containerd": AWAY_EARLY,
    },
    "preparer.mounted": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "preparer": NOT_PREPARED,
        "containerd": AWAY_EARLY,
    },
    "compiler.locked": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "preparer": NOT_PREPARED,
        "compiler": NOT_COMPILED,
        "containerd": AWAY_EARLY,
    },
    "compiler.reported": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "preparer": NOT_PREPARED,
        "compiler": NOT_COMPILED,
        "containerd": AWAY_EARLY,
    },
    "guest.forked": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "guest": NOT_WALLED,
        "containerd": AWAY_EARLY,
    },
    "shim.created": {
        "zygote": RUNS_ON,
        "shim": NOT_CREATED,
        "nursery": RUNS_ON,
        "guest": End(1, "cannot start a stopped task", (ABORTED,)),
        "containerd": AWAY._replace(told=(ABORTED,)),
    },
    "shim.started": {
        "zygote": RUNS_ON,
        "shim": End(1, "ttrpc: closed", (ABORTED,)),
        "nursery": RUNS_ON,
        "guest": End(137, "", life(137)),
        "containerd": AWAY._replace(told=life(137)),
    },
    "": {  # it runs, and nobody is held
        "zygote": RUNS_ON,
        "shim": SHIM_KILLED,
        "nursery": RUNS_ON,
        "guest": End(137, "", life(137)),
        "containerd": AWAY._replace(told=life(137)),
    },
    "shim.exited": {
        "zygote": DONE,
        "shim": SHIM_KILLED,
        "nursery": DONE,
        "containerd": AWAY._replace(told=life(0)),
    },
    "shim.telling": {
        "zygote": DONE,
        "shim": SHIM_KILLED,
        "nursery": DONE,
        "containerd": AWAY._replace(told=life(0)),
    },
    "shim.leaving": {"zygote": DONE, "shim": DONE, "nursery": DONE, "containerd": AWAY._replace(told=life(0))},
    # containerd runs `delete` once, and keeps the bundle until its next start where that fails.
    "delete.begun": {
        "client": SHIM_KILLED._replace(told=life(255), stays=RESTART),
        "zygote": SHIM_KILLED,
        "worker": SHIM_KILLED,
        "containerd": FORGOTTEN,
    },
    "delete.told": {
        "client": SHIM_KILLED._replace(told=life(255), stays=RESTART),
        "zygote": SHIM_KILLED,
        "worker": SHIM_KILLED,
        "containerd": FORGOTTEN,
    },
    "delete.emptied": {
        "client": SHIM_KILLED._replace(told=life(255), stays=RESTART),
        "zygote": SHIM_KILLED,
        "worker": SHIM_KILLED,
        "containerd": FORGOTTEN,
    },
}

_MAIN: Final = "2.1"
_ELSEWHERE: Final = ("1.6", "1.7", "2.4")
_STEPS_ELSEWHERE: Final = (
    "shim.answered", "preparer.mounted", "guest.forked", "shim.created", "", "shim.telling", "shim.leaving",
    "delete.told",
)  # fmt: skip
_VICTIMS_ELSEWHERE: Final = ("shim", "guest", "worker", "containerd")
ROWS: Final = [
    *((_MAIN, step, victim) for step, row in TABLE.items() for victim in row),
    *(
        (release, step, victim)
        for release in _ELSEWHERE
        for step in _STEPS_ELSEWHERE
        for victim in TABLE[step]
        if victim in _VICTIMS_ELSEWHERE
    ),
]


@pytest.fixture
def image(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    """The image of the containers, whose program is compiled, and a zygote runs."""
    image = containerd.load(fleet_image(guest))
    if not zygotes(containerd.owner):
        containerd.run(*containerd.container(image, containerd.new_id(), KIT, options=["--rm"]))
    return image


def test_every_step_has_its_row() -> None:
    """A new step is tested, too."""
    assert {step for step in TABLE if step} == {*SHARED_STEPS, *CONTAINERD_STEPS}


@pytest.mark.parametrize(("containerd", "step", "victim"), ROWS, indirect=["containerd"])
def test_kill(containerd: Daemon, image: Image, tmp_path: Path, step: str, victim: str) -> None:
    """A process that is killed at a step costs this container at most, and leaves nothing of it."""
    end = TABLE[step][victim]
    _get_ready(containerd, step)
    with Events(containerd) as events:
        with holding(containerd, tmp_path, step) as hold, _run(containerd, image, step) as ctr:
            if not step or step.startswith("delete."):
                _wait_ready(ctr)
                events.wait_for_topic(NAME, "/tasks/start")
            found = _wait_held(containerd, hold, step)
            assert found.keys() == TABLE[step].keys()
            if victim == "containerd":
                containerd.kill()
            else:
                kill(found[victim])
            hold.release()
            if step and end is RUNS_ON:
                _wait_ready(ctr)
            _check_end(containerd, ctr, end)
        if victim == "containerd":
            containerd.start(events.follow)
        _check_nothing_is_left(containerd, image, events, end)


def _get_ready(daemon: Daemon, step: str) -> None:
    if step.startswith("compiler."):
        empty_cache(daemon)
    if step == "zygote.forked":  # a zygote is held when its first user wants it
        kill(*zygotes(daemon.owner))


@contextmanager
def _run(daemon: Daemon, image: Image, step: str) -> Iterator[subprocess.Popen[str]]:
    """A container that ends by itself where that is what is watched."""
    words = [KIT] if step in ("shim.exited", "shim.telling", "shim.leaving") else [KIT, "sleep", "3600000"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with daemon.ctr(*daemon.container(image, NAME, *words, options=["--rm"]), **streams) as ctr:
        try:
            yield ctr
        finally:
            ctr.kill()


def _wait_held(daemon: Daemon, hold: Hold, step: str) -> dict[str, int]:
    """Wait until somebody stands at the step, and nobody else moves; who is there."""
    if not step:
        return cast(daemon)
    if step.startswith("delete."):
        kill(cast(daemon)["shim"])
    held = hold.wait()
    if step == "zygote.forked":
        wait_served(daemon)
    elif step == "shim.answered" and "client" in (found := cast(daemon)):
        wait_end(found["client"])
    found = cast(daemon, step)
    assert held in found.values()
    return found


def _wait_ready(ctr: subprocess.Popen[str]) -> None:
    assert ctr.stdout
    wait_for(ctr.stdout.fileno(), b"ready\n")


def _check_end(daemon: Daemon, ctr: subprocess.Popen[str], end: End) -> None:
    if end is RUNS_ON:
        daemon.run("task", "kill", "--signal", "SIGTERM", NAME)
    said = without_log(ctr.communicate(timeout=DEADLINE)[1])
    assert (ctr.returncode, said.count("\n")) == (end.code, 1 if end.says else 0), said
    assert re.search(end.says, said), said


def _check_nothing_is_left(daemon: Daemon, image: Image, events: Events, end: End) -> None:
    """Before and after the next container of the same name, which works."""
    if "delete" in end.told[0] and not end.says.startswith(AWAY.says):
        events.wait_for_topic(NAME, "/tasks/delete")
    daemon.clear()
    if end.stays == RESTART:
        events.synchronise()
        daemon.stop()
        daemon.start(events.follow)
    if end.stays != NEXT_START:
        assert leftovers(daemon) == []
    done = daemon.run(*daemon.container(image, NAME, KIT, options=["--rm"]))
    assert done.stdout.startswith("hello")
    events.synchronise()
    assert story(events, NAME) in [f"{told} {DONE.told[0]}".strip() for told in end.told]
    assert leftovers(daemon) == []

"""Kill each process at each step of a container's life: the guest ends, nothing is left, the next run works."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.integration.observe import (
    children,
    command,
    nurseries,
    pidfds_of,
    settle,
    status,
    the_zygote,
    wait_end,
    wait_ends,
    zygotes,
)
from tests.integration.support import DEADLINE, Environment, Hold, leftovers, started, wait_ready, wasm_shim
from wasm_shim.container.control import PREPARER_NAME
from wasm_shim.steps import COMMAND_LINE_STEPS, SHARED_STEPS

Guest = Callable[[str], Path]


class End(NamedTuple):
    """How the command line ends: its exit code, and what it says in its one line, if it says anything."""

    code: int
    says: str = ""


ABSENT: Final = None  # there is no such process at that step
KILLED: Final = End(-signal.SIGKILL)
RUNS_ON: Final = End(128 + signal.SIGTERM)  # undisturbed until the test ends the guest
STOPPED: Final = End(128 + signal.SIGTERM)
DONE: Final = End(0)
SHIM_KILLED: Final = End(125, "the pod shim was killed, and the guest with it; run it again")
GUEST_KILLED: Final = End(128 + signal.SIGKILL)
NO_COMPILER: Final = End(125, "the compiler was ended by signal 9 while it compiled")
NO_GUEST: Final = End(125, "the guest's process was killed before its wall stood")

VICTIMS: Final = ("cli", "cli, by SIGTERM", "zygote", "shim", "nursery", "compiler", "guest")

# For each step the ends that belong to VICTIMS.
TABLE: Final[dict[str, tuple[End | None, ...]]] = {
    "cli.prepared": (KILLED, STOPPED, RUNS_ON, ABSENT, ABSENT, ABSENT, ABSENT),
    "zygote.forked": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, GUEST_KILLED),
    "shim.listening": (KILLED, STOPPED, RUNS_ON, RUNS_ON, RUNS_ON, ABSENT, ABSENT),
    "compiler.locked": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, NO_COMPILER, ABSENT),
    "compiler.reported": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, NO_COMPILER, ABSENT),
    "guest.forked": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, NO_GUEST),
    "shim.created": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, GUEST_KILLED),
    "cli.created": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, GUEST_KILLED),
    "shim.started": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, GUEST_KILLED),
    "cli.started": (KILLED, STOPPED, RUNS_ON, SHIM_KILLED, RUNS_ON, ABSENT, GUEST_KILLED),
    "shim.exited": (KILLED, DONE, DONE, SHIM_KILLED, DONE, ABSENT, ABSENT),
    "shim.leaving": (KILLED, DONE, DONE, DONE, DONE, ABSENT, ABSENT),
    "cli.exited": (KILLED, DONE, DONE, ABSENT, ABSENT, ABSENT, ABSENT),
}


def test_every_step_has_its_row() -> None:
    """A new step is tested, too."""
    assert TABLE.keys() == {*SHARED_STEPS, *COMMAND_LINE_STEPS}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("step", TABLE)
def test_kill(home: Environment, guest: Guest, step: str, victim: str) -> None:
    """A process that is killed at a step costs this run at most, and leaves nothing of it."""
    end = TABLE[step][VICTIMS.index(victim)]
    exits = step.endswith((".exited", ".leaving"))
    program = guest("hello.wat" if exits else "kit_p1.wasm")
    words = [] if exits else ["sleep", "3600000"]
    _warm_up(home, step, program, guest("hello.wat"))
    with (
        Hold(home, step) as hold,
        started(hold.environment, "run", "--rm", "--name", "same", program, *words, stderr=subprocess.PIPE) as cli,
    ):
        held = hold.wait()
        if step == "zygote.forked" and victim in ("shim", "nursery", "guest"):
            wait_ready(cli)  # nothing else holds those
        found = _processes(home, cli.pid)
        pid = found[victim]
        if end is ABSENT:
            _check_absent(pid)
            end, victim, pid = DONE if exits else STOPPED, "cli, by SIGTERM", cli.pid
        assert pid is not None
        assert held in found.values()
        others = pidfds_of(found[name] for name in ("shim", "nursery", "compiler", "guest"))
        _kill(pid, victim)
        hold.release()
        if victim == "nursery" and step == "zygote.forked":
            cli.send_signal(signal.SIGTERM)  # it is ready already
            end = STOPPED
        _check_end(cli, end)
        wait_ends(others)
    _check_nothing_is_left(home, program)


def _warm_up(home: Environment, step: str, program: Path, other: Path) -> None:
    """Start a zygote and compile, except where the step is part of that."""
    if not step.startswith("compiler."):
        wasm_shim(home, "compile", program)
    if step != "zygote.forked":  # a zygote is held when its first user wants it
        wasm_shim(home, "run", "--rm", other)
        settle(home)


def _processes(home: Environment, cli: int) -> dict[str, int | None]:
    zygote = next(iter(zygotes(home)), None)
    shim = next(iter(children(zygote)), None) if zygote else None
    born = children(shim) if shim else []
    compilers = [pid for pid in born if b"runtime.compiler" in command(pid)]
    guests = [pid for pid in born if pid not in compilers and status(pid).get("Name") != PREPARER_NAME]
    found = {"cli": cli, "cli, by SIGTERM": cli, "zygote": zygote, "shim": shim}
    others = {"nursery": nurseries(shim) if shim else [], "compiler": compilers, "guest": guests}
    return found | {name: next(iter(pids), None) for name, pids in others.items()}


def _check_absent(pid: int | None) -> None:
    if pid:
        wait_end(pid)  # on its way out


def _kill(pid: int, victim: str) -> None:
    if victim == "cli, by SIGTERM":
        os.kill(pid, signal.SIGTERM)
        return
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_ends([pidfd])


def _check_end(cli: subprocess.Popen[bytes], end: End) -> None:
    if end is RUNS_ON:
        wait_ready(cli)
        cli.send_signal(signal.SIGTERM)
    _, said = cli.communicate(timeout=DEADLINE)
    assert (cli.returncode, said.count(b"\n")) == (end.code, 1 if end.says else 0), said.decode()
    assert end.says in said.decode()


def _check_nothing_is_left(home: Environment, program: Path) -> None:
    done = wasm_shim(home, "run", "--rm", "--name", "same", program)
    assert (done.returncode, done.stdout[:10], done.stderr) == (0, "hello from", "")
    settle(home)
    assert the_zygote(home)
    assert leftovers(home) == []


def test_a_killed_container_that_stays_is_dead(home: Environment, guest: Guest) -> None:
    """Without --rm, what is left of a container whose command line and pod shim were killed can be removed."""
    program = guest("kit_p1.wasm")
    with started(home, "run", "--name", "stays", program, "sleep", "3600000", stderr=subprocess.PIPE) as cli:
        wait_ready(cli)
        found = _processes(home, cli.pid)
        cli.send_signal(signal.SIGSTOP)  # it would tidy up
        for victim in ("shim", "cli"):
            _kill(found[victim] or 0, victim)
        wait_end(found["guest"] or 0)
    assert "stays" in wasm_shim(home, "ps", "-a").stdout
    assert "stays" not in wasm_shim(home, "ps").stdout
    assert wasm_shim(home, "run", "--rm", "--name", "stays", guest("hello.wat")).returncode == 125
    assert wasm_shim(home, "rm", "stays").returncode == 0
    _check_nothing_is_left(home, guest("hello.wat"))


@pytest.mark.parametrize("count", [1, 5])
def test_everything_killed_at_once(home: Environment, guest: Guest, count: int) -> None:
    """Command lines, zygote, pod shims and guests killed together leave nothing that the next run does not tidy up."""
    clis = [
        subprocess.Popen(
            ["wasm-shim", "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000"],
            env=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]  # fmt: skip
    for cli in clis:
        wait_ready(cli)
    zygote = the_zygote(home)
    shims = children(zygote)
    everyone = [zygote, *(cli.pid for cli in clis), *shims, *(pid for shim in shims for pid in children(shim))]
    pidfds = pidfds_of(everyone)
    for pidfd in pidfds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_ends(pidfds)
    for cli in clis:
        cli.communicate(timeout=DEADLINE)
    _check_nothing_is_left(home, guest("hello.wat"))

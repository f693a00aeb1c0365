"""containerd is stopped or killed and started again while containers run: they go on, and nothing is told twice."""

import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.containerd.daemon import Daemon
from tests.containerd.events import Events
from tests.integration.fleet import CODE, KIT, Fleet, Row, Shim, fleet_image, open_pipe, settle, shims
from tests.integration.observe import pidfds_of, wait_end, wait_ends
from tests.integration.support import Environment, Hold, read_soon
from wasm_shim.ttrpc import task as messages

pytestmark = pytest.mark.root

ENDS = [Daemon.stop, Daemon.kill]
ENDLESS = str(4_000_000_000)  # bytes for `kit out`
LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


@pytest.fixture
def fleet(containerd: Daemon, guest: Callable[[str], Path]) -> Fleet:
    """Containers on the session's containerd."""
    return Fleet(containerd, fleet_image(guest))


def test_running_tasks_outlive_two_restarts(containerd: Daemon, fleet: Fleet) -> None:
    """Stopped, then killed: all are listed, processes are the same; who ends meanwhile says so once, with its code."""
    ids = fleet.begin_all(50 if containerd.release.name == "2.1" else 10, CODE)
    with Events(containerd) as events:
        codes = _restart(fleet, ids, containerd.stop, events)
        codes |= _restart(fleet, ids, containerd.kill, events)
        killed = ids[-2:]
        for id_ in killed:
            containerd.run("task", "kill", "--signal", "SIGTERM", id_)
        codes |= dict.fromkeys(killed, 128 + signal.SIGTERM)
        for id_ in codes:
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == codes[id_]
        fleet.delete(*ids, options=["--force"])
        for id_ in ids:
            deleted = events.wait_for_topic(id_, "/tasks/delete")
            assert deleted.fields["exit_status"] == codes.get(id_, 128 + signal.SIGKILL)
        events.synchronise()
        assert {id_: events.of(id_) for id_ in ids} == dict.fromkeys(ids, LIFE[2:])


def _restart(fleet: Fleet, ids: list[str], end: Callable[[], None], events: Events) -> dict[str, int]:
    """End containerd and start it again; meanwhile two of those that run end. Their exit codes."""
    before, processes = fleet.list(), shims(fleet.daemon)
    assert sorted(before) == sorted(ids)
    alone, killed, *others = [id_ for id_ in ids if before[id_].status == "RUNNING"]
    codes = {alone: 40 + len(others) % 10, killed: 128 + signal.SIGKILL}
    end()
    ended = pidfds_of(before[id_].pid for id_ in codes)
    fleet.end(alone, codes[alone])
    os.kill(before[killed].pid, signal.SIGKILL)
    wait_ends(ended)
    fleet.daemon.start(events.follow)
    assert fleet.list() == before | {id_: Row(before[id_].pid, "STOPPED") for id_ in codes}
    assert shims(fleet.daemon) == processes
    return codes


@pytest.mark.parametrize("end", ENDS)
def test_writers_wait_for_a_reader(containerd: Daemon, fleet: Fleet, end: Callable[[Daemon], None]) -> None:
    """Guests that write without end live on without ctr and containerd, and the next reader gets what follows."""
    alone = fleet.begin(KIT, "out", ENDLESS)  # its ctr has gone at once
    followed = containerd.new_id()
    with open_pipe() as stdin:
        options = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": False}
        with containerd.ctr(*fleet.words(followed, KIT, "out", ENDLESS), **options) as ctr:
            assert ctr.stdout
            read_soon(ctr.stdout.fileno())
            ctr.kill()  # before it could remove the FIFOs
            end(containerd)
    for id_ in (alone, followed):
        _wait_full(fleet.fifo(id_, "stdout"))
    containerd.start()
    assert {id_: task.status for id_, task in fleet.list().items()} == dict.fromkeys((alone, followed), "RUNNING")
    for id_ in (alone, followed):
        _read_pattern(containerd, id_)


def _wait_full(fifo: Path) -> None:
    """Wait until nothing more fits in."""
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    while select.select([], [descriptor], [], 0)[1]:
        os.sched_yield()
    os.close(descriptor)


def _read_pattern(containerd: Daemon, id_: str, size: int = 1 << 20) -> None:
    """A megabyte of what it writes, by way of a ctr that comes later: every byte follows from the one before."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": False}
    with open_pipe() as stdin, containerd.ctr("task", "attach", id_, stdin=stdin, **options) as ctr:
        assert ctr.stdout
        data: Any = ctr.stdout.read(size)  # bytes, as it is no text
        ctr.kill()
    expected = bytes(range(251)) * (size // 251 + 2)
    assert data == expected[data[0] : data[0] + size]


@pytest.mark.parametrize("end", ENDS)
def test_created_and_paused_tasks(containerd: Daemon, fleet: Fleet, end: Callable[[Daemon], None]) -> None:
    """Whatever a task waits for, it waits for it after a restart, too."""
    started, killed, deleted = (fleet.create(CODE) for _ in range(3))
    resumed, ended = (fleet.begin(CODE) for _ in range(2))
    for id_ in (resumed, ended):
        containerd.run("task", "pause", id_)
    before = fleet.list()
    assert [before[id_].status for id_ in (started, killed, deleted)] == ["CREATED"] * 3
    assert [before[id_].status for id_ in (resumed, ended)] == ["PAUSED"] * 2
    with Events(containerd) as events:
        end(containerd)
        containerd.start(events.follow)
        assert fleet.list() == before
        with Shim(fleet.address(started)) as shim:
            shim.call("Start", messages.StartRequest(id=started))
        containerd.run("task", "resume", resumed)
        for id_ in (started, resumed):
            fleet.end(id_, 42)
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == 42
        for id_ in (killed, ended):
            containerd.run("task", "kill", "--signal", "SIGKILL", id_)
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == 137
        fleet.delete(*before, options=["--force"])
        events.synchronise()
        assert events.of(started) == LIFE[1:]
        assert events.of(resumed) == ["/tasks/resumed", *LIFE[2:]]
        assert events.of(killed) == events.of(deleted) == events.of(ended) == LIFE[2:]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_nobody_was_told(containerd: Daemon, fleet: Fleet, end: Callable[[Daemon], None]) -> None:
    """The shim is killed, too, while containerd is away: the task is gone, and its end is told by containerd."""
    id_ = fleet.begin(CODE)
    [shim] = shims(containerd)
    guest_ = fleet.list()[id_].pid
    with Events(containerd) as events:
        end(containerd)
        gone = pidfds_of([shim, guest_])
        os.kill(shim, signal.SIGKILL)
        wait_ends(gone)
        containerd.start(events.follow)
        assert fleet.list() == {}
        containerd.run("container", "delete", id_)
    settle(containerd)


def test_restart_while_a_program_is_compiled(
    containerd: Daemon, guest: Callable[[str], Path], home: Environment
) -> None:
    """A Create that containerd did not live to see the end of leaves nothing, and the id can be used again."""
    with (
        Hold(home, "compiler.locked") as hold,
        Daemon(containerd.release, environment={"WASM_SHIM_HOLD": hold.environment["WASM_SHIM_HOLD"]}) as own,
    ):
        fleet = Fleet(own, fleet_image(guest))
        with own.ctr(*fleet.words("one", KIT, "hello", options=["--detach"]), stderr=subprocess.PIPE) as ctr:
            compiler = hold.wait()
            own.kill()
            assert ctr.wait(30) != 0
        own.start()
        assert fleet.list() == {}
        hold.release()
        wait_end(compiler)
        settle(own)
        own.run("container", "delete", "one")
        assert own.run(*fleet.words("one", KIT, "hello", options=["--rm"])).stdout.endswith("\n")

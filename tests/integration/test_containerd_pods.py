"""Containers of one pod on a real containerd: one shim for all of them, until the last has gone."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.containerd.daemon import Daemon, without_log
from tests.containerd.events import Events
from tests.integration.fleet import CODE, KIT, Fleet, Row, Shim, fleet_image, in_parallel, shims, sockets
from tests.integration.observe import children, descriptors, pidfds_of, wait_end, wait_ends
from tests.integration.support import DEADLINE
from wasm_shim.ttrpc import task as messages

pytestmark = pytest.mark.root

SANDBOX = ("--annotation", "io.kubernetes.cri.sandbox-id=pod")
LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


@pytest.fixture
def fleet(containerd: Daemon, guest: Callable[[str], Path]) -> Fleet:
    """Containers on the session's containerd."""
    return Fleet(containerd, fleet_image(guest))


def bundle(fleet: Fleet, id_: str) -> Path:
    """What containerd keeps of a running container."""
    return fleet.daemon.directory / "state/io.containerd.runtime.v2.task" / fleet.daemon.namespace / id_


def test_one_shim_until_the_last_has_gone(containerd: Daemon, fleet: Fleet) -> None:
    """Each start answers the same address; each container ends by itself, the first and a killed one too."""
    ids = fleet.begin_all(5, CODE, options=SANDBOX)
    [shim], [path] = shims(containerd), sockets(containerd)
    for id_ in ids:
        assert fleet.address(id_) == str(path)
        if containerd.release.name.startswith("2"):
            answer = json.loads((bundle(fleet, id_) / "bootstrap.json").read_bytes())
            assert (answer["address"], answer["version"]) == (f"unix://{path}", 3)
    before = fleet.list()
    with Events(containerd) as events, Shim(str(path)) as client:
        os.kill(before[ids[2]].pid, signal.SIGKILL)
        fleet.end(ids[0], 42)
        for id_, code in ((ids[2], 137), (ids[0], 42)):
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == code
        left = {id_: row for id_, row in before.items() if id_ not in (ids[0], ids[2])}
        assert fleet.list() == left | {id_: Row(before[id_].pid, "STOPPED") for id_ in (ids[0], ids[2])}
        fleet.delete(ids[0], ids[2])
        client.call("Shutdown", messages.ShutdownRequest(id="pod"))
        assert (fleet.list(), shims(containerd)) == (left, [shim])
        for id_ in left:
            assert sockets(containerd) == [path]
            fleet.delete(id_, options=["--force"])
        wait_end(shim)
        events.synchronise()
        assert {id_: events.of(id_) for id_ in ids} == dict.fromkeys(ids, LIFE[2:])
    assert sockets(containerd) == []
    fleet.run(options=SANDBOX)  # and another one begins where it was


def test_what_each_writes_is_kept_apart(containerd: Daemon, fleet: Fleet) -> None:
    """Containers that write at the same time: each one's ctr gets its own bytes and its own code."""
    anchor = fleet.begin(CODE, options=SANDBOX)

    def run(number: str) -> tuple[int, bytes]:
        words = fleet.words(f"writer-{number}", KIT, "out", number, options=["--rm", *SANDBOX])
        with containerd.ctr(*words, stdout=subprocess.PIPE, text=False) as ctr:
            assert ctr.stdout
            written: Any = ctr.stdout.read()  # bytes, as it is no text
        return ctr.returncode, written

    sizes = [200_000 + number for number in range(8)]
    expected = bytes(range(251)) * (sizes[-1] // 251 + 1)
    assert in_parallel(run, map(str, sizes), 8) == [(0, expected[:size]) for size in sizes]
    assert list(fleet.list()) == [anchor]


@pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill])
def test_a_pod_outlives_containerd(containerd: Daemon, fleet: Fleet, end: Callable[[Daemon], None]) -> None:
    """Containerd finds all containers of a shim again, also the one whose start made it, deleted long ago."""
    ids = fleet.begin_all(4, CODE, options=SANDBOX)
    first = min(ids, key=lambda id_: fleet.list()[id_].pid)
    fleet.delete(first, options=["--force"])
    before, [shim] = fleet.list(), shims(containerd)
    ended, *others = before
    with Events(containerd) as events:
        end(containerd)
        [pidfd] = pidfds_of([before[ended].pid])
        fleet.end(ended, 42)
        wait_ends([pidfd])
        containerd.start(events.follow)
        assert fleet.list() == before | {ended: Row(before[ended].pid, "STOPPED")}
        assert shims(containerd) == [shim]
        fleet.delete(*before, options=["--force"])
        wait_end(shim)
        events.synchronise()
        assert {id_: events.of(id_) for id_ in before} == dict.fromkeys(before, LIFE[2:])
        exits = {event.container: event.fields["exit_status"] for event in events.seen if event.topic == "/tasks/exit"}
        assert exits == {ended: 42, **dict.fromkeys(others, 137)}


def test_a_killed_shim_takes_its_pod(containerd: Daemon, fleet: Fleet) -> None:
    """Each container's end is told, and nothing is left: not the others of a pod, not the socket."""
    alone = fleet.begin(CODE)
    ids = fleet.begin_all(3, CODE, options=SANDBOX)
    [shim] = set(shims(containerd)) - {shims_of(containerd, fleet.address(alone))}
    with Events(containerd) as events:
        gone = pidfds_of([shim, *(fleet.list()[id_].pid for id_ in ids)])
        os.kill(shim, signal.SIGKILL)
        wait_ends(gone)
        for id_ in ids:
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == 137
            events.wait_for_topic(id_, "/tasks/delete")
        assert {id_: events.of(id_) for id_ in ids} == dict.fromkeys(ids, LIFE[2:])
    assert list(fleet.list()) == [alone]
    assert [str(path) for path in sockets(containerd)] == [fleet.address(alone)]


def shims_of(containerd: Daemon, address: str) -> int:
    """The pid of the shim at an address."""
    return dict(zip(map(str, sockets(containerd)), shims(containerd), strict=True))[address]


def test_short_lives_beside_a_long_one(containerd: Daemon, fleet: Fleet) -> None:
    """Containers come and go in a pod, some at a time; the shim of the one that stays keeps nothing of them."""
    fleet.begin(CODE, options=SANDBOX)
    [shim] = shims(containerd)
    before = _open_files(shim)
    runs = in_parallel(lambda _: fleet.run(options=SANDBOX), map(str, range(20)), 4)
    assert {(run.stdout, without_log(run.stderr)) for run in runs} == {("hello from kit\n", "")}
    assert len(children(shim)) == len(fleet.list()) == 1
    assert shims(containerd) == [shim]
    end = time.monotonic() + DEADLINE
    while not (left := _open_files(shim)) <= before:  # containerd hangs up after ctr's answer
        assert time.monotonic() < end, f"{left}, before: {before}"


def _open_files(shim: int) -> Counter[str]:
    """What it has open, but for code that stays loaded."""
    kinds = (what.partition(":")[0] for what in descriptors(shim).values())
    return Counter(kind for kind in kinds if not kind.endswith(".cwasm"))


@pytest.mark.parametrize("options", [(), SANDBOX], ids=["alone", "pod"])
def test_one_cgroup_is_not_for_two(containerd: Daemon, fleet: Fleet, options: tuple[str, ...]) -> None:
    """A container that is given the cgroup of another one is refused, and the other lives."""
    cgroup = ["--cgroup", f"/{containerd.namespace}/one", *options]
    fleet.begin(CODE, options=cgroup)
    before = fleet.list()
    done = containerd.run(*fleet.words("second", KIT, "hello", options=cgroup), check=False)
    assert "give another linux.cgroupsPath" in done.stderr
    assert fleet.list() == before

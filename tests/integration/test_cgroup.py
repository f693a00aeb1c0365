"""Cgroups of the version that is here (a virtual machine has the other): made, joined, frozen, killed, removed."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.contracts.cgroups import (
    DEADLINE,
    KILLED,
    TAKE,
    OwnCgroup,
    cpu_time,
    end_of,
    wait_readable,
    wait_until,
)
from wasm_shim.container.cgroup import cgroup_at
from wasm_shim.errors import AlreadyExists, InvalidArgument, NotFound

pytestmark = pytest.mark.root


# Making and removing


def test_it_is_made_and_removed(cgroup: OwnCgroup) -> None:
    cgroup.create()
    assert all(path.is_dir() for path in cgroup.directories)
    cgroup.it.remove()
    cgroup.it.remove()
    assert not any(path.exists() for path in cgroup.directories)


def test_a_unit_of_systemd_lies_in_its_slices(cgroup: OwnCgroup) -> None:
    name = cgroup.path.split("/")[1]
    unit = cgroup_at(f"{name}.slice:cri:c1", systemd=True)
    parts = name.split("-")
    slices = ["-".join(parts[: count + 1]) + ".slice" for count in range(len(parts))]
    top = cgroup.mounts[0]
    unit.create({})
    try:
        assert (top.joinpath(*slices) / "cri-c1.scope").is_dir()
    finally:
        unit.remove()
        for mount in cgroup.mounts:
            for depth in range(len(slices), 0, -1):
                mount.joinpath(*slices[:depth]).rmdir()


def test_a_process_joins(cgroup: OwnCgroup) -> None:
    cgroup.create()
    with cgroup.running("sleep", "1000") as process:
        assert cgroup.it.pids() == (process.pid,)
        for directory in cgroup.directories:
            assert (directory / "cgroup.procs").read_text().split() == [str(process.pid)]


def test_it_is_not_removed_while_processes_are_in_it(cgroup: OwnCgroup) -> None:
    cgroup.create()
    with cgroup.running("sleep", "1000") as process:
        with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
            cgroup.it.remove()
        assert cgroup.it.pids() == (process.pid,)
        cgroup.it.kill()
        assert end_of(process) == KILLED
    cgroup.it.remove()


@pytest.mark.parametrize("resources", [{"cpu": {"cpus": "9999"}}, {"cpu": {"quota": 10}}, {"memory": {"swap": 5}}])
def test_a_failure_leaves_nothing(cgroup: OwnCgroup, resources: dict[str, dict[str, object]]) -> None:
    with pytest.raises(InvalidArgument):
        cgroup.it.create({"pids": {"limit": 5}, **resources})
    assert cgroup.made() == []


def test_a_failure_leaves_what_was_there(cgroup: OwnCgroup) -> None:
    for leaf in cgroup.directories[:1]:
        leaf.parent.mkdir()
    with pytest.raises(InvalidArgument):
        cgroup.it.create({"cpu": {"cpus": "9999"}})
    assert cgroup.made() == [cgroup.directories[0].parent]


def test_an_empty_one_is_taken_over(cgroup: OwnCgroup) -> None:
    """As after a crash; it may even be frozen still."""
    cgroup.create()
    cgroup.it.freeze()
    cgroup.create({"pids": {"limit": 5}})
    with cgroup.running("echo", "said") as process:
        assert process.communicate(timeout=DEADLINE)[0] == b"said\n"


def test_one_in_use_is_refused(cgroup: OwnCgroup) -> None:
    cgroup.create()
    with cgroup.running("sleep", "1000") as process:
        with pytest.raises(AlreadyExists):
            cgroup.it.create({})
        assert cgroup.it.pids() == (process.pid,)


def test_others_come_and_go_beside_it(cgroup: OwnCgroup) -> None:
    """Failing neighbours take their common parent away again and again; making it goes on all the same."""
    fails = f"""
from wasm_shim.container.cgroup import cgroup_at
from wasm_shim.errors import InvalidArgument
for _ in range(100):
    try:
        cgroup_at("{Path(cgroup.path).parent}/other", systemd=False).create({{"cpu": {{"cpus": "9999"}}}})
    except InvalidArgument:
        pass
"""
    with subprocess.Popen([TAKE[0], "-c", fails]) as neighbour:
        while neighbour.poll() is None:
            cgroup.create()
            cgroup.it.remove()
            for leaf in cgroup.directories:
                try:
                    leaf.parent.rmdir()
                except OSError as error:
                    assert error.errno in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY)  # noqa: PT017
    assert neighbour.returncode == 0


def test_one_that_is_gone(cgroup: OwnCgroup) -> None:
    it = cgroup.it
    for refused in (it.metrics, it.freeze, it.thaw, lambda: it.update({"pids": {"limit": 5}})):
        with pytest.raises(NotFound):
            refused()
    cgroup.it.kill()
    assert (cgroup.it.pids(), cgroup.it.frozen) == ((), False)


# Freezing and killing


def test_frozen_processes_stand_still(cgroup: OwnCgroup) -> None:
    cgroup.create()
    with cgroup.running("sh", "-c", "while :; do echo tick; done") as process:
        assert process.stdout
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        wait_readable(pipe)
        cgroup.it.freeze()
        wait_until(lambda: cgroup.it.frozen)
        drain(pipe)
        before = cpu_time(cgroup)
        with pytest.raises(BlockingIOError):
            os.read(pipe, 1)
        assert cpu_time(cgroup) == before
        cgroup.it.thaw()
        wait_readable(pipe)
        wait_until(lambda: not cgroup.it.frozen)


def drain(pipe: int) -> None:
    """Read what is there already."""
    try:
        while os.read(pipe, 65536):
            pass
    except BlockingIOError:
        pass


@pytest.mark.parametrize("frozen", [False, True])
def test_all_are_killed(cgroup: OwnCgroup, *, frozen: bool) -> None:
    cgroup.create()
    with cgroup.running("sh", "-c", "sleep 1000 | sleep 1000 | sleep 1000; :") as process:
        wait_until(lambda: len(cgroup.it.pids()) == 4)
        if frozen:
            cgroup.it.freeze()
            wait_until(lambda: cgroup.it.frozen)
        cgroup.it.kill()
        assert end_of(process) == KILLED
        wait_until(lambda: not cgroup.it.pids())


def test_a_fork_bomb_is_killed(cgroup: OwnCgroup) -> None:
    cgroup.create({"pids": {"limit": 200}})
    with cgroup.running("sh", "-c", "f() { f | f; }; f", stderr=subprocess.DEVNULL):
        wait_until(lambda: len(cgroup.it.pids()) > 20)

        def all_gone() -> bool:
            cgroup.it.kill()
            return not cgroup.it.pids()

        wait_until(all_gone)

"""Kills for lack of memory, and the metrics of cgroups; of the version that is here, see test_cgroup.py."""

import os
from collections.abc import Iterator

import pytest

from tests.contracts.cgroups import (
    KILLED,
    MIB,
    TAKE,
    OwnCgroup,
    cpu_time,
    descriptors,
    end_of,
    oom_kills,
    turn,
    wait_until,
)
from wasm_shim.eventloop import EventLoop

pytestmark = pytest.mark.root


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.close()


# Kills for lack of memory


def test_a_kill_for_lack_of_memory_is_told(cgroup: OwnCgroup, loop: EventLoop) -> None:
    cgroup.create({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    told: list[int] = []
    watch = cgroup.it.watch_oom(loop, lambda: told.append(1))
    with cgroup.running(*TAKE, "8") as process:
        assert end_of(process) == 0
    assert not watch.killed
    with cgroup.running(*TAKE, "100") as process:
        assert end_of(process) == KILLED
    assert watch.killed
    turn(loop, lambda: bool(told))
    turn(loop, lambda: False, seconds=0.2)
    assert told == [1]
    assert oom_kills(cgroup) == 1
    watch.close()
    watch.close()


def test_who_sees_the_end_can_tell_the_kill_first(cgroup: OwnCgroup, loop: EventLoop) -> None:
    """And it is not told again when the descriptor speaks."""
    cgroup.create({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    told: list[int] = []
    watch = cgroup.it.watch_oom(loop, lambda: told.append(1))
    with cgroup.running(*TAKE, "100") as process:
        assert end_of(process) == KILLED
    watch.look()
    watch.look()
    assert told == [1]
    turn(loop, lambda: False, seconds=0.2)
    assert told == [1]
    watch.close()


def test_a_watch_begins_anew(cgroup: OwnCgroup, loop: EventLoop) -> None:
    """Kills of before do not count."""
    cgroup.create({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    with cgroup.running(*TAKE, "100") as process:
        assert end_of(process) == KILLED
    watch = cgroup.it.watch_oom(loop, lambda: pytest.fail("told"))
    turn(loop, lambda: False, seconds=0.1)
    assert not watch.killed
    watch.close()


def test_removing_is_no_kill(cgroup: OwnCgroup, loop: EventLoop) -> None:
    cgroup.create({"memory": {"limit": 32 * MIB}})
    before = descriptors()
    watch = cgroup.it.watch_oom(loop, lambda: pytest.fail("told"))
    cgroup.it.remove()
    turn(loop, lambda: False, seconds=0.1)
    assert not watch.killed
    watch.close()
    assert descriptors() == before


def test_a_watch_costs_one_descriptor(cgroup: OwnCgroup, loop: EventLoop) -> None:
    cgroup.create()
    before = descriptors()
    watch = cgroup.it.watch_oom(loop, lambda: None)
    assert descriptors() == before + 1
    watch.close()
    assert descriptors() == before


# Metrics


def test_metrics_have_the_right_units(cgroup: OwnCgroup) -> None:
    """Held against what the kernel says of the ended process itself."""
    cgroup.create({"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}})
    with cgroup.running("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done") as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    spent = usage.ru_utime + usage.ru_stime
    assert spent / 2 < cpu_time(cgroup) / 1e9 < spent * 2 + 0.1


def test_metrics_agree_with_the_files(cgroup: OwnCgroup) -> None:
    cgroup.create({"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}})
    with cgroup.running("sh", "-c", "sleep 1000 | sleep 1000; :"):
        wait_until(lambda: len(cgroup.it.pids()) == 3)
        agree = metrics_v1_agree if cgroup.version == 1 else metrics_v2_agree
        agree(cgroup)


def metrics_v1_agree(cgroup: OwnCgroup) -> None:
    found = cgroup.v1()
    assert found.pids
    assert (found.pids.current, found.pids.limit) == (3, 9)
    assert found.cpu
    assert found.cpu.usage
    assert found.cpu.throttling is not None
    assert sum(found.cpu.usage.per_cpu) == found.cpu.usage.total
    assert abs(found.cpu.usage.kernel + found.cpu.usage.user - found.cpu.usage.total) < 50_000_000
    memory = found.memory
    assert memory
    assert memory.usage
    assert memory.usage.limit == 64 * MIB
    assert 0 < memory.usage.usage <= memory.usage.max <= 64 * MIB
    assert memory.hierarchical_memory_limit == 64 * MIB
    assert 0 < memory.total_rss < memory.usage.max
    assert memory.total_pg_fault >= memory.pg_fault > 0
    assert found.memory_oom_control
    assert found.blkio is not None


def metrics_v2_agree(cgroup: OwnCgroup) -> None:
    found = cgroup.v2()
    assert found.pids
    assert (found.pids.current, found.pids.limit) == (3, 9)
    assert found.cpu
    assert abs(found.cpu.user_usec + found.cpu.system_usec - found.cpu.usage_usec) < 1000
    memory = found.memory
    assert memory
    assert memory.usage_limit == 64 * MIB
    assert memory.swap_limit == (1 << 64) - 1
    assert 0 < memory.anon < memory.usage <= 64 * MIB
    assert memory.pgfault > 0
    assert found.memory_events is not None
    assert found.io is not None


def test_no_limit_is_told_as_containerd_tells_it(cgroup: OwnCgroup) -> None:
    """Zero in version 1, the greatest number in version 2."""
    cgroup.create()
    found = cgroup.v1() if cgroup.version == 1 else cgroup.v2()
    assert found.pids
    assert found.pids.limit == (0 if cgroup.version == 1 else (1 << 64) - 1)

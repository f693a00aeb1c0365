"""Limits of cgroups, in the kernel's files and in force; of the version that is here, see test_cgroup.py."""

import subprocess

import pytest

from tests.contracts.cgroups import DEADLINE, MIB, OwnCgroup, end_of, only, own_cgroup, wait_until
from wasm_shim.container.cgroup import cgroup_at
from wasm_shim.errors import FailedPrecondition, InvalidArgument

pytestmark = pytest.mark.root


LIMITS = {
    "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 1024, "quota": 20000, "period": 50000, "burst": 10000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 7},
}
EXPECTED: dict[int, dict[str, dict[str, object]]] = {
    1: {
        "memory": {
            "memory.limit_in_bytes": 64 * MIB,
            "memory.memsw.limit_in_bytes": 96 * MIB,
            "memory.soft_limit_in_bytes": 32 * MIB,
        },
        "cpu": {"cpu.shares": 1024, "cpu.cfs_quota_us": 20000, "cpu.cfs_period_us": 50000, "cpu.cfs_burst_us": 10000},
        "cpuset": {"cpuset.cpus": 0, "cpuset.mems": 0},
        "pids": {"pids.max": 7},
    },
    2: {
        "memory": {"memory.max": 64 * MIB, "memory.swap.max": 32 * MIB, "memory.low": 32 * MIB},
        "cpu": {"cpu.weight": 100, "cpu.max": "20000 50000", "cpu.max.burst": 10000},
        "cpuset": {"cpuset.cpus": 0, "cpuset.mems": 0},
        "pids": {"pids.max": 7},
    },
}


def test_limits_stand_in_the_kernels_files(cgroup: OwnCgroup) -> None:
    cgroup.create(LIMITS)
    for controller, settings in EXPECTED[cgroup.version].items():
        found = {name: cgroup.file(controller, name).read_text().strip() for name in settings}
        assert found == {name: str(value) for name, value in settings.items()}


def test_all_limits_are_lifted(cgroup: OwnCgroup) -> None:
    cgroup.create(LIMITS)
    cgroup.it.update({"cpu": {"burst": 0}})
    cgroup.it.update({"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}})
    if cgroup.version == 1:
        assert all(limit > 1 << 40 for limit in memory_limits(cgroup))
        assert cgroup.file("cpu", "cpu.cfs_quota_us").read_text() == "-1\n"
    else:
        assert cgroup.file("memory", "memory.max").read_text() == "max\n"
        assert cgroup.file("memory", "memory.swap.max").read_text() == "max\n"
        assert cgroup.file("cpu", "cpu.max").read_text() == "max 50000\n"
    assert cgroup.file("pids", "pids.max").read_text() == "max\n"


def memory_limits(cgroup: OwnCgroup) -> tuple[int, int]:
    """That of memory, and that of memory and swap together, in MiB."""
    v1, v2 = ("limit_in_bytes", "memsw.limit_in_bytes"), ("max", "swap.max")
    names = v1 if cgroup.version == 1 else v2
    first, second = (int(cgroup.file("memory", f"memory.{name}").read_text()) // MIB for name in names)
    return first, second if cgroup.version == 1 else first + second


@pytest.mark.parametrize("change", [(128, 128), (128, 256), (16, 16), (16, 256), (64, 64), (80, 90)])
def test_memory_and_swap_change_together(cgroup: OwnCgroup, change: tuple[int, int]) -> None:
    """Whichever has to be written first."""
    cgroup.create({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}})
    cgroup.it.update({"memory": {"limit": change[0] * MIB, "swap": change[1] * MIB}})
    assert memory_limits(cgroup) == change


def test_swap_changes_alone(cgroup: OwnCgroup) -> None:
    cgroup.create({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}})
    cgroup.it.update({"memory": {"swap": 70 * MIB}})
    assert memory_limits(cgroup) == (64, 70)


def test_a_period_changes_alone(cgroup: OwnCgroup) -> None:
    cgroup.create({"cpu": {"quota": 20000, "period": 50000}})
    cgroup.it.update({"cpu": {"period": 100000}})
    name, value = ("cpu.cfs_quota_us", "20000") if cgroup.version == 1 else ("cpu.max", "20000 100000")
    assert cgroup.file("cpu", name).read_text().strip() == value


def test_a_burst_rises_with_its_quota(cgroup: OwnCgroup) -> None:
    cgroup.create({"cpu": {"quota": 20000, "period": 50000, "burst": 20000}})
    cgroup.it.update({"cpu": {"quota": 40000, "burst": 40000}})
    cgroup.it.update({"cpu": {"quota": 10000, "burst": 10000}})
    name = "cpu.cfs_burst_us" if cgroup.version == 1 else "cpu.max.burst"
    assert cgroup.file("cpu", name).read_text() == "10000\n"


def test_a_failed_update_changes_nothing(cgroup: OwnCgroup) -> None:
    cgroup.create(LIMITS)
    memory = {"limit": 32 * MIB, "swap": 48 * MIB}
    with pytest.raises(InvalidArgument, match="9999"):
        cgroup.it.update({"memory": memory, "pids": {"limit": 3}, "cpu": {"cpus": "9999"}})
    assert memory_limits(cgroup) == (64, 96)
    assert cgroup.file("pids", "pids.max").read_text() == "7\n"


def test_one_that_is_idle_has_no_share(cgroup: OwnCgroup) -> None:
    cgroup.create({"cpu": {"idle": 1, "shares": 512}})
    assert cgroup.file("cpu", "cpu.idle").read_text() == "1\n"
    cgroup.it.update({"cpu": {"idle": 0, "shares": 1024}})
    assert cgroup.file("cpu", "cpu.idle").read_text() == "0\n"


def test_no_fork_past_the_limit_of_pids(cgroup: OwnCgroup) -> None:
    cgroup.create({"pids": {"limit": 3}})
    forks = "sleep 1000 | sleep 1000 | sleep 1000"
    with cgroup.running("sh", "-c", forks, stderr=subprocess.DEVNULL) as process:
        assert end_of(process) != 0
        wait_until(lambda: len(cgroup.it.pids()) == 2)


def test_a_missing_controller_is_named(cgroup: OwnCgroup) -> None:
    huge = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    if cgroup.version == 2 or any(mount.name == "hugetlb" for mount in cgroup.mounts):
        cgroup.create(huge)
        name = "hugetlb.2MB.max" if cgroup.version == 2 else "hugetlb.2MB.limit_in_bytes"
        assert cgroup.file("hugetlb", name).read_text() == "0\n"
    else:
        with pytest.raises(FailedPrecondition, match="controller hugetlb"):
            cgroup.it.create(huge)
        assert cgroup.made() == []


def test_version_1_has_no_unified_files(cgroup: OwnCgroup) -> None:
    only(cgroup, 1)
    with pytest.raises(InvalidArgument, match="unified"):
        cgroup.it.create({"unified": {"memory.high": "1000000"}})


def test_version_1_opens_no_device(cgroup: OwnCgroup) -> None:
    only(cgroup, 1)
    cgroup.create()
    with cgroup.running("sh", "-c", "exec </dev/zero", stderr=subprocess.PIPE) as process:
        assert b"Operation not permitted" in process.communicate(timeout=DEADLINE)[1]


def test_unified_files_are_written(cgroup: OwnCgroup) -> None:
    only(cgroup, 2)
    unified = {"memory.high": str(32 * MIB), "memory.max": str(48 * MIB)}
    cgroup.create({"memory": {"limit": 64 * MIB}, "unified": unified})
    assert cgroup.file("memory", "memory.high").read_text() == f"{32 * MIB}\n"
    assert cgroup.file("memory", "memory.max").read_text() == f"{48 * MIB}\n"


def test_an_unknown_unified_file_is_named(cgroup: OwnCgroup) -> None:
    only(cgroup, 2)
    for name, said in (("no_such.max", "controller no_such"), ("memory.no_such", "memory.no_such")):
        with pytest.raises(FailedPrecondition, match=said):
            cgroup.it.create({"unified": {name: "1"}})
    assert cgroup.made() == []


def test_a_parent_with_processes_gives_no_controller(cgroup: OwnCgroup) -> None:
    """Fine as long as no limit needs one; else the error names both."""
    only(cgroup, 2)
    with own_cgroup() as above:
        above.create()
        with above.running("sleep", "1000"):
            within = cgroup_at(f"{above.path}/within", systemd=False)
            with pytest.raises(FailedPrecondition, match=rf"controller memory: .*{above.path} "):
                within.create({"memory": {"limit": MIB}})
            within.create({})
            assert within.metrics()[1]
            within.remove()

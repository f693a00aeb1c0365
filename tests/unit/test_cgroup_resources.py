"""Which limits a LinuxResources document means, which directory a cgroupsPath means, and where hierarchies are."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasm_shim.container.cgroup.files import Write, write_together
from wasm_shim.container.cgroup.hierarchy import Hierarchies, Hierarchy, expand_slice, parse_mountinfo, relative_path
from wasm_shim.container.cgroup.resources import Limits, parse_resources
from wasm_shim.container.cgroup.v2 import cpu_weight, io_weight
from wasm_shim.errors import FailedPrecondition, InvalidArgument, WasmShimError

FULL = {
    "devices": [{"allow": False, "access": "rwm"}],
    "memory": {"limit": 1 << 30, "swap": 2 << 30, "reservation": 1 << 29, "swappiness": 10, "disableOOMKiller": False},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 0, "idle": 0, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 100},
    "blockIO": {"weight": 10, "leafWeight": 20},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "unified": {"memory.high": "1000000"},
}
PARTS = ["memory", "cpu", "pids", "blockIO", "unified"]


def test_everything_is_taken() -> None:
    assert parse_resources(FULL) == Limits(
        memory=1 << 30, memory_and_swap=2 << 30, reservation=1 << 29, swappiness=10, oom_killer_off=False,
        shares=512, quota=50000, period=100000, burst=0, idle=0, cpus="0-1", mems="0",
        pids=100, weight=10, huge_pages=(("2MB", 0),), unified=(("memory.high", "1000000"),),
    )  # fmt: skip


@pytest.mark.parametrize("document", [{}, dict.fromkeys(FULL), {part: {} for part in PARTS}, {"hugepageLimits": []}])
def test_nothing_is_asked_for(document: dict[str, Any]) -> None:
    assert parse_resources(document) == Limits()


def test_nulls_and_zeros_say_nothing() -> None:
    memory: dict[str, Any] = {"limit": 0, "swap": 0, "reservation": 0, "swappiness": None}
    cpu = {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "burst": None}
    document = {"memory": memory, "cpu": cpu, "pids": {"limit": 0}, "blockIO": {"weight": 0}, "unified": {"a.b": None}}
    assert parse_resources(document) == Limits()


def test_minus_one_lifts() -> None:
    limits = parse_resources({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -7}, "pids": {"limit": -7}})
    assert limits == Limits(memory=-1, memory_and_swap=-1, quota=-1, pids=-1)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"memory": []}, "linux.resources.memory"),
        ({"memory": {"limit": "1"}}, "linux.resources.memory.limit"),
        ({"memory": {"limit": 1.5}}, "linux.resources.memory.limit"),
        ({"memory": {"limit": True}}, "linux.resources.memory.limit"),
        ({"memory": {"limit": -2}}, "linux.resources.memory.limit"),
        ({"memory": {"limit": 1 << 63}}, "linux.resources.memory.limit"),
        ({"memory": {"disableOOMKiller": 1}}, "linux.resources.memory.disableOOMKiller"),
        ({"cpu": {"shares": -1}}, "linux.resources.cpu.shares"),
        ({"cpu": {"idle": 2}}, "linux.resources.cpu.idle"),
        ({"cpu": {"cpus": 1}}, "linux.resources.cpu.cpus"),
        ({"cpu": {"cpus": "0\0"}}, "linux.resources.cpu.cpus"),
        ({"pids": {"limit": {}}}, "linux.resources.pids.limit"),
        ({"blockIO": {"weight": 9}}, "linux.resources.blockIO.weight"),
        ({"blockIO": {"weight": 1001}}, "linux.resources.blockIO.weight"),
        ({"hugepageLimits": {}}, "linux.resources.hugepageLimits"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
        ({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
        ({"hugepageLimits": [{"pageSize": "²MB", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
        ({"unified": {"memory.high": 1}}, "linux.resources.unified.memory.high"),
        ({"unified": {"../x.y": "1"}}, "linux.resources.unified"),
        ({"unified": {"a..b": "1"}}, "linux.resources.unified"),
        ({"unified": {"memory": "1"}}, "linux.resources.unified"),
        ({"unified": {"": "1"}}, "linux.resources.unified"),
    ],
)
def test_rejects_what_makes_no_sense(document: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_resources(document)
    assert raised.value.message.startswith(f"{field} ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def variants(value: Any) -> st.SearchStrategy[Any]:
    """The same document with anything anywhere."""
    if isinstance(value, dict):
        kept = st.fixed_dictionaries({}, optional={key: variants(inner) for key, inner in value.items()})
        return st.one_of(kept, kept, JSON)
    if isinstance(value, list):
        return st.one_of(st.lists(variants(value[0]), max_size=2), JSON)
    return st.one_of(st.just(value), st.integers(-2, 1 << 64), JSON)


@settings(max_examples=200)
@given(st.fixed_dictionaries({}, optional={key: variants(value) for key, value in FULL.items()}))
def test_any_document_is_limits_or_invalid(document: dict[str, Any]) -> None:
    """Whatever JSON holds, it is taken whole or refused by name, and what is taken fits the kernel's files."""
    said = "linux.resources"
    try:
        limits = parse_resources(json.loads(json.dumps(document)))
    except InvalidArgument as error:
        limits, said = Limits(), error.message
    assert said.startswith("linux.resources")
    numbers = [value for value in limits if isinstance(value, int)]
    assert all(-1 <= number < 1 << 64 for number in numbers)
    assert not any("/" in name for name, _ in limits.unified)


@pytest.mark.parametrize(
    ("path", "systemd", "relative"),
    [
        ("/default/c1", False, "default/c1"),
        ("default/c1/", False, "default/c1"),
        ("//a/./b", False, "a/b"),
        ("/a:b:c/d", False, "a:b:c/d"),
        ("a:b:c", False, "a:b:c"),
        ("system.slice:cri:c1", True, "system.slice/cri-c1.scope"),
        ("system.slice:cri:c1", False, "system.slice/cri-c1.scope"),
        (":cri:c1", True, "system.slice/cri-c1.scope"),
        ("-.slice:cri:c1", True, "cri-c1.scope"),
        ("a-b-c.slice:cri:c1", True, "a.slice/a-b.slice/a-b-c.slice/cri-c1.scope"),
        ("system.slice::c1", True, "system.slice/c1.scope"),
        ("system.slice:cri:own.slice", True, "system.slice/own.slice"),
        ("/default/c1", True, "default/c1"),
    ],
)
def test_a_path_means_a_directory(path: str, relative: str, *, systemd: bool) -> None:
    assert relative_path(path, systemd=systemd) == relative


@pytest.mark.parametrize("systemd", [False, True])
@pytest.mark.parametrize(
    "path",
    ["", "/", "/.", "/a/../b", "..", "/a\nb", "a.slice:b:", "a.slice:b:..", "a--b.slice:c:d", "-a.slice:c:d"],
)
def test_rejects_paths(path: str, *, systemd: bool) -> None:
    with pytest.raises(InvalidArgument):
        relative_path(path, systemd=systemd)


@pytest.mark.parametrize("path", ["default/c1", "a:b:c:d", "system:cri:c1", "c1"])
def test_the_systemd_driver_needs_a_unit(path: str) -> None:
    with pytest.raises(InvalidArgument):
        relative_path(path, systemd=True)


@given(st.text(alphabet="/.:-ab\0\n", max_size=12), st.booleans())
def test_no_path_leads_out(path: str, systemd: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    try:
        names = relative_path(path, systemd=systemd).split("/")
    except InvalidArgument:
        return
    assert not {"", ".", ".."} & set(names)


def test_slices_lie_within_slices() -> None:
    assert expand_slice("kubepods-burstable-pod1.slice") == (
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"
    )


V1 = """\
22 1 8:1 / / rw - ext4 /dev/root rw
31 22 0:28 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory
34 31 0:33 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 31 0:33 / /mnt/again rw - cgroup cgroup rw,freezer
37 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_mounted_once_together() -> None:
    """Two controllers of one mount are one hierarchy, a second mount of it is none, and a hybrid is version 1."""
    freezer = Hierarchy("/sys/fs/cgroup/freezer", ("freezer",))
    memory = Hierarchy("/sys/fs/cgroup/my memory", ("memory",))
    cpu = Hierarchy("/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct"))
    assert parse_mountinfo(V1) == Hierarchies("", (freezer, memory, cpu))


def test_version_2_over_version_1() -> None:
    """What is mounted last hides what was there."""
    assert parse_mountinfo(V1 + "40 22 0:40 / /sys/fs/cgroup rw - cgroup2 none rw\n").unified == "/sys/fs/cgroup"


def test_no_cgroups() -> None:
    with pytest.raises(FailedPrecondition, match="no cgroup hierarchy"):
        parse_mountinfo(V1.splitlines()[0])


def test_weights_meet_at_the_defaults_and_the_ends() -> None:
    assert [cpu_weight(shares) for shares in (1, 2, 1024, 262144, 1 << 60)] == [1, 1, 100, 10000, 10000]
    assert [io_weight(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]


@given(st.integers(1, 1 << 20))
def test_more_shares_weigh_no_less(shares: int) -> None:
    assert 1 <= cpu_weight(shares) <= cpu_weight(shares + 1) <= 10000


def test_a_refused_write_takes_the_others_back(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text("old")
    with pytest.raises(WasmShimError, match="missing"):
        write_together([Write(str(first), "new"), Write(str(tmp_path / "missing"), "1")])
    assert first.read_text() == "old"


def test_an_optional_file_may_be_missing(tmp_path: Path) -> None:
    write_together([Write(str(tmp_path / "missing"), "max", optional=True)])
    assert list(tmp_path.iterdir()) == []

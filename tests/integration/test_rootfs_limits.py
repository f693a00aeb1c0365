"""What a guest with a root file system may use: resource limits, the OOM score, its cgroup."""

import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import private_home, zygote_pids
from tests.integration.observe import status
from tests.integration.rooted import Container, rooted
from wasm_shim.ttrpc.envelope import Code, RpcError

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]


# Limits


def test_limits(container: Container) -> None:
    """Resource limits and the OOM score are the spec's, and never a core file."""
    kinds = {"NOFILE": (512, 900), "CPU": (1000, 2000), "STACK": (1 << 23, (1 << 64) - 1), "CORE": (5, 5)}
    limits = [{"type": f"RLIMIT_{kind}", "soft": soft, "hard": hard} for kind, (soft, hard) in kinds.items()]
    container.spec["process"] |= {"rlimits": limits, "oomScoreAdj": 321}
    pid = container.begin("sleep", "3600000")
    rows = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
    found = {row[:26].strip(): row[26:].split()[:2] for row in rows}
    assert found["Max open files"] == ["512", "900"]
    assert found["Max cpu time"] == ["1000", "2000"]
    assert found["Max stack size"] == [str(1 << 23), "unlimited"]
    assert found["Max core file size"] == ["0", "0"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii") == "321\n"
    container.end(signal.SIGKILL)


def test_limit_that_the_kernel_refuses(container: Container) -> None:
    """It is named."""
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 1 << 40}]
    refusal = container.refused("hello")
    assert f"the kernel refuses the limit 10:{1 << 40} of rlimits in config.json" in refusal.message


def test_refused_oom_score_is_no_failure(guest: Guest, tmp_path: Path) -> None:
    """Without CAP_SYS_RESOURCE the score cannot be lowered; the guest runs with the one that it has."""
    with private_home(0) as home:
        weak = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
        command = [*weak, "wasm-shim", "run", "--rm", str(guest("hello.wat"))]
        subprocess.run(command, env=home, check=True, capture_output=True)
        [zygote] = zygote_pids(home)
        assert not int(status(zygote)["CapEff"], 16) & 1 << 24
        with rooted(home, guest("kit_p1.wasm"), tmp_path) as container:
            container.process["oomScoreAdj"] = -500
            pid = container.begin("sleep", "3600000")
            own = Path(f"/proc/{container.shim}/oom_score_adj").read_text(encoding="ascii")
            assert Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii") == own != "-500\n"
            container.end(signal.SIGKILL)


# The cgroup


def limit_of(container: Container, *names: str) -> int:
    """What the kernel has in the only file of these names in its cgroup."""
    [path] = [path / name for path in container.cgroups() for name in names if (path / name).exists()]
    return int(path.read_text(encoding="ascii"))


def test_cgroup_holds_it_before_it_runs(container: Container) -> None:
    """From Create on the guest is in its cgroup with the limits set; afterwards that is gone."""
    container.spec["linux"]["resources"] = {"memory": {"limit": 256 << 20}, "pids": {"limit": 50}}
    pid = container.create("mem", "8")
    where = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
    assert len([line for line in where if line.endswith(f"/{container.cgroup}")]) == len(container.cgroups())
    assert all(str(pid) in (path / "cgroup.procs").read_text().split() for path in container.cgroups())
    assert limit_of(container, "pids.max") == 50
    assert limit_of(container, "memory.limit_in_bytes", "memory.max") == 256 << 20
    container.start()
    assert container.end() == (0, "got 8 MiB\n", "")
    assert container.left() == []


def test_memory_limit(container: Container) -> None:
    """Who takes more than its limit is killed: 137."""
    container.spec["linux"]["resources"] = {"memory": {"limit": 48 << 20, "swap": 48 << 20}}
    assert container.run("mem", "200").status == 137
    assert container.run("mem", "4").status == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_too_few_processes(container: Container, limit: int) -> None:
    """Without room for its threads a guest ends at once, before or after Create is answered, and leaves nothing."""
    container.spec["linux"]["resources"] = {"pids": {"limit": limit}}
    with suppress(RpcError):
        container.create("hello")
        with suppress(RpcError):  # it may have ended already
            container.start()
        ended = container.end()
        assert (ended.status == 0) == (ended.stdout == "hello from kit\n")
    assert container.left() == []


def test_cgroup_in_use(container: Container) -> None:
    """One in which others run is refused at once, and stays theirs."""
    container.create("hello")
    own = container.cgroups()
    refusal = container.pod.refused("Create", container.request("hello", id="two"))
    assert refusal[0] == Code.ALREADY_EXISTS
    assert container.cgroups() == own != []
    container.start()
    assert container.end().status == 0

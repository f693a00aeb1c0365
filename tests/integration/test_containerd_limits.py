"""Limits, metrics and the freezer of a Wasm task, through each containerd; see also test_containerd_core.py."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.containerd.daemon import WASM, Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import Image
from tests.integration.support import wait_for
from tests.integration.tasks import APP, Task, ask, kit_image, run, running
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code, RpcError
from wasm_shim.ttrpc.well_known import Any as AnyMessage

pytestmark = pytest.mark.root
one_release = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)

MIB = 1 << 20
KILLED = 128 + signal.SIGKILL
LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
SLEEP = (APP, "sleep", "3600000")


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    return containerd.load(kit_image(guest))


# Memory


def test_out_of_memory(containerd: Daemon, kit: Image) -> None:
    """137, and the reason in an event before that of the end."""
    name = containerd.new_id()
    options = ["--rm", "--memory-limit", str(48 * MIB)]
    with Events(containerd) as events:
        done = containerd.run(*containerd.container(kit, name, APP, "mem", "400", options=options), check=False)
        assert (done.returncode, done.stdout, without_log(done.stderr)) == (KILLED, "", "")
        events.wait_for_topic(name, "/tasks/delete")
        assert events.of(name) == [*LIFE[:2], "/tasks/oom", *LIFE[2:]]
    assert run(containerd, kit, APP, "mem", "16", options=options[1:]).stdout == "got 16 MiB\n"


@one_release
def test_a_kill_by_hand_is_no_lack_of_memory(containerd: Daemon, kit: Image) -> None:
    limit = ["--memory-limit", str(48 * MIB)]
    with Events(containerd) as events, running(containerd, kit, *SLEEP, options=limit) as task:
        os.kill(task.pid, signal.SIGKILL)
        assert task.ended() == KILLED
        events.wait_for_topic(task.name, "/tasks/delete")
        assert events.of(task.name) == LIFE


@one_release
@pytest.mark.parametrize("limit", [4096, 300_000, 700_000, MIB, 1_500_000])
def test_memory_limit_that_is_too_low_to_start(containerd: Daemon, kit: Image, limit: int) -> None:
    """It is named where Create still can; else the guest ends as any that is out of memory."""
    name = containerd.new_id()
    options = ["--rm", "--memory-limit", str(limit)]
    with Events(containerd) as events:
        done = containerd.run(*containerd.container(kit, name, options=options), check=False)
        events.synchronise()
        if done.returncode == 1:
            [line] = done.stderr.splitlines()
            assert line.endswith("the container's memory limit is too low for a guest to start; raise it")
            assert events.of(name) == []
        elif done.returncode:
            assert (done.returncode, done.stderr) == (KILLED, "")
            assert events.of(name) == [*LIFE[:2], "/tasks/oom", *LIFE[2:]]
    assert containerd.leftovers() == []
    assert done.returncode == 1 or limit > 300_000


# Other limits


@one_release
def test_limits_of_the_cpu(containerd: Daemon, kit: Image) -> None:
    options = ["--cpus", "0.5", "--cpu-shares", "2048", "--cpuset-cpus", "0"]
    with running(containerd, kit, *SLEEP, options=options) as task:
        # Version 2 has the quota with its period, and weights from 1 to 10000 for shares from 2 to 262144.
        assert task.limit("cpu", "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
        assert task.limit("cpu", "cpu.shares", "cpu.weight") in ("2048", "79", "170")
        assert task.limit("cpuset", "cpuset.cpus") == "0"
        assert Path(f"/proc/{task.pid}/status").read_text().partition("Cpus_allowed_list:")[2].split()[0] == "0"


def spec_of(containerd: Daemon, kit: Image, directory: Path, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """The words of a `ctr run` with the spec that ctr makes, changed; its root is a directory of the host."""
    with running(containerd, kit, *SLEEP) as task:
        spec = json.loads(containerd.run("container", "info", "--spec", task.name).stdout)
        root = directory / "root"
        root.mkdir()
        (root / "app.wasm").write_bytes(Path(f"/proc/{task.pid}/root/app.wasm").read_bytes())
    spec["root"] = {"path": str(root)}
    spec["linux"]["cgroupsPath"] = f"/{containerd.namespace}/from-a-spec"
    change(spec)
    file = directory / "config.json"
    file.write_text(json.dumps(spec))
    options = ["--runtime", WASM, "--fifo-dir", f"{containerd.directory}/fifo", "--config", str(file)]
    return ["run", "--rm", *options, containerd.new_id()]


@one_release
@pytest.mark.parametrize("limit", [1, 2, 6])
def test_limit_of_processes(containerd: Daemon, kit: Image, tmp_path: Path, limit: int) -> None:
    """Threads count; a guest that gets none says so, and who joins its cgroup cannot fork past the limit."""

    def few(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["pids"] = {"limit": limit}
        spec["process"]["args"] = [APP, "hello" if limit < 6 else "spin"]

    words = spec_of(containerd, kit, tmp_path, few)
    if limit < 6:
        done = containerd.run(*words, check=False)
        assert done.returncode in (1, 125, 134)
        assert "processes" in done.stderr or "thread" in done.stderr
        assert limit > 1 or done.stderr.endswith("is too low for a guest to start; raise it\n")
        return
    with containerd.ctr(*words, stdout=subprocess.PIPE) as ctr:
        assert ctr.stdout
        wait_for(ctr.stdout.fileno(), b"ready\n")
        [pid] = [int(line.split()[1]) for line in containerd.run("task", "list").stdout.splitlines()[1:]]
        task = Task(containerd, words[-1], pid, ctr)
        assert forks_in(task.cgroup("pids"), 10) < limit
        assert task.kill("SIGTERM") == 128 + signal.SIGTERM


def forks_in(cgroup: Path, tries: int) -> int:
    """How many of these children a process can have that joins a cgroup."""
    program = """if True:
        import os, sys
        with open(sys.argv[1], "w") as file:
            file.write("0")
        made = 0
        for _ in range(int(sys.argv[2])):
            try:
                pid = os.fork()
            except BlockingIOError:
                break
            if pid == 0:
                os.read(0, 1)
                os._exit(0)
            made += 1
        print(made)
    """
    words = [sys.executable, "-c", program, str(cgroup / "cgroup.procs"), str(tries)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        return int(process.stdout.readline())


@one_release
def test_limits_change_while_it_runs(containerd: Daemon, kit: Image) -> None:
    """By Update, all or none; a limit below what is in use is refused by the kernel, and that is said."""

    def update(resources: Mapping[str, Any]) -> None:
        packed = AnyMessage(type_url="types.containerd.io/resources", value=json.dumps(resources).encode())
        ask(containerd, "Update", messages.UpdateTaskRequest(id=task.name, resources=packed))

    with running(containerd, kit, APP, "spin", options=["--memory-limit", str(64 * MIB)]) as task:
        update({"memory": {"limit": 32 * MIB}, "pids": {"limit": 77}, "cpu": {"quota": 20000, "period": 100000}})
        assert task.limit("memory", "memory.limit_in_bytes", "memory.max") == str(32 * MIB)
        assert task.limit("pids", "pids.max") == "77"
        assert task.limit("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"
        update({"memory": {"limit": -1}})
        assert task.limit("memory", "memory.limit_in_bytes", "memory.max") in ("9223372036854771712", "max")
        assert task.limit("pids", "pids.max") == "77"
        with pytest.raises(RpcError) as refused:
            update({"pids": {"limit": 12}, "cpu": {"quota": 7}})
        assert refused.value.code == Code.INVALID_ARGUMENT
        assert "\n" not in refused.value.message
        assert task.limit("pids", "pids.max") == "77"
        assert task.kill("SIGTERM") == 128 + signal.SIGTERM


# Metrics


def test_metrics(containerd: Daemon, kit: Image) -> None:
    """They lie between what the kernel says before and after; nanoseconds on version 1, as containerd has them."""
    with running(containerd, kit, APP, "spin", options=["--memory-limit", str(64 * MIB)]) as task:
        before = cpu_nanoseconds(task)
        found = json.loads(containerd.run("task", "metrics", "--format", "json", task.name).stdout)
        after = cpu_nanoseconds(task)
        memory = found["memory"]
        if "usage_in_bytes" in str(containerd.run("task", "metrics", task.name).stdout):
            cpu, usage, limit = found["cpu"]["usage"]["total"], memory["usage"]["usage"], memory["usage"]["limit"]
            assert sum(found["cpu"]["usage"]["per_cpu"]) == pytest.approx(cpu, rel=0.2)
        else:
            cpu, usage, limit = found["cpu"]["usage_usec"] * 1000, memory["usage"], memory["usage_limit"]
        assert before <= cpu <= after
        now = int(task.limit("memory", "memory.usage_in_bytes", "memory.current"))
        assert abs(now - usage) < 8 * MIB
        assert 0 < usage < limit == 64 * MIB
        assert found["pids"]["current"] == int(task.limit("pids", "pids.current")) > 1
        assert task.kill("SIGKILL") == KILLED


def cpu_nanoseconds(task: Task) -> int:
    """What the kernel has counted."""
    text = task.limit("cpuacct", "cpuacct.usage", "cpu.stat")
    return int(text) if text.isdigit() else int(text.split()[1]) * 1000


def test_metrics_of_a_task_that_has_ended(containerd: Daemon, kit: Image) -> None:
    """There are none any more, and containerd says no nonsense."""
    name = containerd.new_id()
    with Events(containerd) as events:
        containerd.run(*containerd.container(kit, name, options=["--detach"]))
        events.wait_for_topic(name, "/tasks/exit")
    done = containerd.run("task", "metrics", name, check=False)
    assert done.returncode == 1
    assert len(without_log(done.stderr).splitlines()) == 1


# The freezer


def test_pause(containerd: Daemon, kit: Image) -> None:
    """A paused task uses no CPU until it is resumed; both are told, in order."""
    with Events(containerd) as events, running(containerd, kit, APP, "spin") as task:
        containerd.run("task", "pause", task.name)
        first = cpu_nanoseconds(task)
        assert containerd.run("task", "list").stdout.split()[-1] == "PAUSED"
        assert cpu_nanoseconds(task) == first
        containerd.run("task", "resume", task.name)
        assert containerd.run("task", "list").stdout.split()[-1] == "RUNNING"
        assert cpu_nanoseconds(task) > first
        assert task.kill("SIGTERM") == 128 + signal.SIGTERM
        events.wait_for_topic(task.name, "/tasks/delete")
        assert events.of(task.name) == [*LIFE[:2], "/tasks/paused", "/tasks/resumed", *LIFE[2:]]


def test_kill_ends_a_paused_task(containerd: Daemon, kit: Image) -> None:
    with running(containerd, kit, APP, "spin") as task:
        containerd.run("task", "pause", task.name)
        assert task.kill("SIGKILL") == KILLED


@one_release
def test_signal_for_a_paused_task_waits(containerd: Daemon, kit: Image) -> None:
    """Until it is resumed; whatever else makes no sense meanwhile is refused."""
    with running(containerd, kit, APP, "spin") as task:
        containerd.run("task", "pause", task.name)
        containerd.run("task", "kill", "--signal", "SIGTERM", task.name)
        assert containerd.run("task", "list").stdout.split()[-1] == "PAUSED"
        assert "paused" in containerd.run("task", "delete", task.name, check=False).stderr
        again = containerd.run("task", "pause", task.name, check=False)
        assert again.returncode == 1
        containerd.run("task", "resume", task.name)
        assert task.ended() == 128 + signal.SIGTERM

"""What must hold on a real containerd under both versions of cgroups: here the present one, in test_vm.py version 2.

After each test the fixture `containerd` finds no process, mount, cgroup, socket or file of a container any more.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.containerd.daemon import DEADLINE, RUNC, Daemon
from tests.containerd.events import Events
from tests.containerd.images import GREETING, Image, wasm_image
from tests.contracts.cgroups import MIB, OwnCgroup, cpu_time, wait_until
from tests.integration.observe import pidfds_of, wait_ends
from tests.integration.pod import SERVICE, Waiting
from tests.integration.support import wait_for
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.well_known import Any as AnyMessage

pytestmark = [pytest.mark.root, pytest.mark.parametrize("containerd", ["2.1"], indirect=True)]

KIT = "/kit.wasm"
KILLED = 128 + signal.SIGKILL
LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]

# The files that hold a limit, per version of cgroups.
LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
    "cpuset": ("cpuset.cpus", "cpuset.cpus"),
}


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    """An image with the guest that does everything, see tests/guests/README.md."""
    return containerd.load(wasm_image("localhost/kit:latest", {KIT: guest("kit_p1.wasm")}, [KIT]))


class Running(NamedTuple):
    """A container whose guest has said "ready", and the `ctr run` that waits for its end."""

    containerd: Daemon
    name: str
    cgroup: OwnCgroup
    ctr: subprocess.Popen[str]

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        return self.ctr.wait(DEADLINE)

    @property
    def pids(self) -> messages.ConnectResponse:
        """The pids of its guest and of its pod shim."""
        return messages.ConnectResponse.decode(self.ask("Connect", messages.ConnectRequest(id=self.name)))

    def ask(self, method: str, request: Message) -> bytes:
        """Call the Task service of the only pod shim, as containerd does: for what ctr has no command for."""
        [address] = self.containerd.shim_root.glob("s/*")
        loop = EventLoop()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(address))
            waiting = Waiting(loop)
            client = Client(loop, connection.dup())
            client.call(SERVICE, method, request.encode(), waiting.answered, timeout=DEADLINE)
            answer = waiting.result()
            client.close()
        loop.close()
        return answer

    def limit(self, controller: str) -> str:
        """What the kernel says of a limit."""
        return self.cgroup.file(controller, LIMITS[controller][self.cgroup.version - 1]).read_text().strip()

    def metrics(self) -> dict[str, Any]:
        """What `ctr task metrics` prints, which knows both kinds of message."""
        said = self.containerd.run("task", "metrics", "--format", "json", self.name).stdout
        found: dict[str, Any] = json.loads(said)
        return found


@contextmanager
def running(containerd: Daemon, image: Image, *words: str, options: tuple[str, ...] = ()) -> Iterator[Running]:
    """Run a command of kit that says "ready" first."""
    name = containerd.new_id()
    command = containerd.container(image, name, KIT, *words, options=["--rm", *options])
    with containerd.ctr(*command, stdout=subprocess.PIPE) as ctr:
        try:
            assert ctr.stdout
            wait_for(ctr.stdout.fileno(), b"ready\n")
            yield Running(containerd, name, OwnCgroup(f"/{containerd.namespace}/{name}"), ctr)
        finally:
            ctr.kill()


def statuses(containerd: Daemon) -> dict[str, str]:
    """The status of every task."""
    lines = containerd.run("task", "list").stdout.splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def kill(pid: int) -> None:
    """Kill with SIGKILL, and wait for the end."""
    pidfds = pidfds_of([pid])
    os.kill(pid, signal.SIGKILL)
    wait_ends(pidfds)


# The machine, and running


def test_runc_runs_here(containerd: Daemon, native: Image) -> None:
    """Where this fails, the machine is at fault."""
    done = containerd.run(*containerd.container(native, containerd.new_id(), runtime=RUNC, options=["--rm"]))
    assert done.stdout == GREETING


@pytest.mark.parametrize(("words", "code"), [(["hello"], 0), (["exit", "42"], 42), (["trap"], 134)])
def test_gives_output_code_and_events(containerd: Daemon, kit: Image, words: list[str], code: int) -> None:
    name = containerd.new_id()
    with Events(containerd) as events:
        done = containerd.run(*containerd.container(kit, name, KIT, *words, options=["--rm"]), check=False)
        assert (done.returncode, done.stdout) == (code, "" if code else "hello from kit\n")
        assert ("trap_inner" in done.stderr) == (code == 134)
        assert events.wait_for_topic(name, "/tasks/exit").fields.get("exit_status", 0) == code
        events.wait_for_topic(name, "/tasks/delete")
        assert events.of(name) == LIFE


def test_what_runs_is_seen(containerd: Daemon, kit: Image) -> None:
    """So what is looked for after each test would be found; no mount is among it, as guests mount in private."""
    with running(containerd, kit, "sleep", "3600000"):
        assert {line.split()[0] for line in containerd.leftovers(0)} == {"process", "cgroup", "file"}


# Limits, metrics, memory


def test_limits_stand_in_the_kernels_files(containerd: Daemon, kit: Image) -> None:
    limits = ("--memory-limit", str(64 * MIB), "--cpu-quota=50000", "--cpu-period=100000", "--cpuset-cpus=0")
    with running(containerd, kit, "sleep", "3600000", options=limits) as it:
        assert it.cgroup.it.pids() == (it.pids.task_pid,)
        assert (it.limit("memory"), it.limit("cpuset")) == (str(64 * MIB), "0")
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if it.cgroup.version == 1 else ("cpu.max",)
        assert " ".join(it.cgroup.file("cpu", name).read_text().strip() for name in names) == "50000 100000"


def test_limits_change_while_it_runs(containerd: Daemon, kit: Image) -> None:
    with running(containerd, kit, "sleep", "3600000", options=("--memory-limit", str(64 * MIB))) as it:
        resources = {"memory": {"limit": 96 * MIB}, "pids": {"limit": 9}}
        packed = AnyMessage(type_url="types.containerd.io/resources", value=json.dumps(resources).encode())
        it.ask("Update", messages.UpdateTaskRequest(id=it.name, resources=packed))
        assert (it.limit("memory"), it.limit("pids")) == (str(96 * MIB), "9")


def test_metrics_are_those_of_the_version(containerd: Daemon, kit: Image) -> None:
    with running(containerd, kit, "spin", options=("--memory-limit", str(64 * MIB))) as it:
        wait_until(lambda: cpu_time(it.cgroup) > 0)
        before = cpu_time(it.cgroup)
        found = it.metrics()
        after = cpu_time(it.cgroup)
        if it.cgroup.version == 1:
            memory, cpu = found["memory"]["usage"], found["cpu"]["usage"]["total"]
            assert memory["limit"] == 64 * MIB
        else:
            memory, cpu = found["memory"], found["cpu"]["usage_usec"] * 1000
            assert memory["usage_limit"] == 64 * MIB
        assert MIB // 4 < memory["usage"] < 64 * MIB
        assert before <= cpu <= after
        assert found["pids"]["current"] == int(it.cgroup.file("pids", "pids.current").read_text())


def test_a_kill_for_lack_of_memory_is_told(containerd: Daemon, kit: Image) -> None:
    name = containerd.new_id()
    limit = ["--rm", "--memory-limit", str(32 * MIB)]
    with Events(containerd) as events:
        done = containerd.run(*containerd.container(kit, name, KIT, "mem", "200", options=limit), check=False)
        assert (done.returncode, done.stdout) == (KILLED, "")
        events.wait_for_topic(name, "/tasks/delete")
        assert events.of(name) == [*LIFE[:2], "/tasks/oom", *LIFE[2:]]


# The freezer


def test_a_paused_task_stands_still(containerd: Daemon, kit: Image) -> None:
    with Events(containerd) as events, running(containerd, kit, "spin") as it:
        containerd.run("task", "pause", it.name)
        before = cpu_time(it.cgroup)
        assert statuses(containerd)[it.name] == "PAUSED"
        assert cpu_time(it.cgroup) == before
        containerd.run("task", "resume", it.name)
        assert statuses(containerd)[it.name] == "RUNNING"
        wait_until(lambda: cpu_time(it.cgroup) > before)
        containerd.run("task", "kill", it.name)
        assert it.ended() == 128 + signal.SIGTERM
        events.wait_for_topic(it.name, "/tasks/delete")
        assert events.of(it.name) == [*LIFE[:2], "/tasks/paused", "/tasks/resumed", *LIFE[2:]]


def test_a_paused_task_is_killed(containerd: Daemon, kit: Image) -> None:
    with running(containerd, kit, "spin") as it:
        containerd.run("task", "pause", it.name)
        containerd.run("task", "kill", "--signal", "SIGKILL", it.name)
        assert it.ended() == KILLED


# Killed processes


def test_a_killed_guest_has_ended(containerd: Daemon, kit: Image) -> None:
    with Events(containerd) as events, running(containerd, kit, "sleep", "3600000") as it:
        kill(it.pids.task_pid)
        assert it.ended() == KILLED
        events.wait_for_topic(it.name, "/tasks/delete")
        assert events.of(it.name) == LIFE  # and no /tasks/oom


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_shim_takes_its_guest_along(containerd: Daemon, kit: Image, *, paused: bool) -> None:
    """Also one that version 1 keeps frozen until `delete` comes."""
    with Events(containerd) as events, running(containerd, kit, "sleep", "3600000") as it:
        if paused:
            containerd.run("task", "pause", it.name)
        kill(it.pids.shim_pid)
        assert events.wait_for_topic(it.name, "/tasks/exit").fields["exit_status"] == KILLED
        assert it.ended() == 1  # ctr asked the shim, and gets no answer
        events.wait_for_topic(it.name, "/tasks/delete")
        assert [topic for topic in events.of(it.name) if topic != "/tasks/paused"] == LIFE


def test_delete_empties_the_cgroup(containerd: Daemon, kit: Image) -> None:
    """What the end of the pod shim does not end is killed: here a process that only looks like a guest."""
    with running(containerd, kit, "sleep", "3600000") as it:
        entrances = it.cgroup.it.entrances()

        def join() -> None:
            for entrance in entrances:
                Path(entrance).write_text("0", encoding="ascii")

        words = [sys.executable, "-c", "input()", "wasm_shim.zygote.server"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, preexec_fn=join) as survivor:
            kill(it.pids.shim_pid)
            assert survivor.wait(DEADLINE) == -signal.SIGKILL
        it.ended()


# More than one


def test_a_unit_of_systemd_becomes_a_directory(containerd: Daemon, kit: Image) -> None:
    """Also where the runtime's options ask for the driver that nobody serves here."""
    options = containerd.directory / "options.toml"
    options.write_text("SystemdCgroup = true\n", encoding="ascii")
    top = f"{containerd.namespace.replace('-', '')}.slice"
    asked = ("--cgroup", f"{top}:wasm:one", "--runtime-config-path", str(options))
    unit = OwnCgroup(f"/{top}/wasm-one.scope")
    try:
        with running(containerd, kit, "sleep", "3600000", options=asked) as it:
            assert unit.it.pids() == (it.pids.task_pid,)
            assert len(unit.made()) == 2 * len(unit.mounts)
            containerd.run("task", "kill", "--signal", "SIGKILL", it.name)
            assert it.ended() == KILLED
        assert not any(directory.exists() for directory in unit.directories)
    finally:
        unit.clean()


def test_tasks_outlive_containerd(containerd: Daemon, kit: Image) -> None:
    """All are there after a restart; what one told meanwhile is heard, once."""
    names = [containerd.new_id() for _ in range(3)]
    with Events(containerd) as events:
        for name in names:
            containerd.run(*containerd.container(kit, name, KIT, "sleep", "3600000", options=["--detach"]))
        containerd.kill()
        kill(OwnCgroup(f"/{containerd.namespace}/{names[0]}").it.pids()[0])
        containerd.start(events.follow)
        assert statuses(containerd) == dict(zip(names, ["STOPPED", "RUNNING", "RUNNING"], strict=True))
        containerd.run("task", "kill", "--signal", "SIGKILL", names[1])
        for name in names[:2]:
            assert events.wait_for_topic(name, "/tasks/exit").fields["exit_status"] == KILLED
            containerd.run("task", "delete", name, check=False)  # ctr ends as the task did
        containerd.run("task", "delete", "--force", names[2], check=False)
        events.wait_for_topic(names[2], "/tasks/delete")
        assert statuses(containerd) == {}
        assert [events.of(name) for name in names] == [LIFE] * 3

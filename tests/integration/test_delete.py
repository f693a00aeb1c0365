"""`containerd-shim-wasm-v1 delete`: whatever state the shim is in, nothing is left, and soon."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import SCRIPT, Commands
from tests.integration.observe import children, pidfds_of, wait_ends
from tests.integration.support import DEADLINE, Environment
from wasm_shim.container.cgroup import cgroup_at
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import RpcError
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.well_known import Any as AnyMessage

Guest = Callable[[str], Path]

SECONDS = 5  # containerd's io.containerd.timeout.shim.cleanup


@pytest.fixture
def shim(home: Environment) -> Iterator[Commands]:
    """The commands; shims that outlived their zygote are killed at the end."""
    commands = Commands(home)
    yield commands
    for pid in commands.shims():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def killed(response: messages.DeleteResponse) -> bool:
    """Whether it says: killed, just now."""
    assert response.exited_at
    return response.exit_status == 137 and abs(time.time() - response.exited_at.seconds) < 60


def call(address: str, method: str, request: Message) -> bytes:
    """Call a method of a shim's Task service."""
    loop, answers = EventLoop(), []
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)

    def answered(payload: bytes | None, error: RpcError | None) -> None:
        answers.append((payload, error))
        loop.stop()

    client = Client(loop, connection)
    client.call(messages.TASK_SERVICES[0], method, request.encode(), answered, timeout=DEADLINE)
    loop.run()
    client.close()
    [(payload, error)] = answers
    assert error is None, error
    return payload or b""


def running(shim: Commands, program: Path, id_: str = "one", *words: str) -> int:
    """Start a shim, and in it a container that runs; the guest's pid."""
    bundle = shim.bundle(id_, process={"args": ["/program", *(words or ("sleep", "3600000"))], "cwd": "/", "env": []})
    address = shim.address(id_)
    options = messages.RunOptions(program=str(program), entrypoint="/program")
    packed = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=options.encode())
    created = call(address, "Create", messages.CreateTaskRequest(id=id_, bundle=str(bundle), options=packed))
    call(address, "Start", messages.StartRequest(id=id_))
    return messages.CreateTaskResponse.decode(created).pid


# No shim


def test_unknown_container(shim: Commands) -> None:
    """Deleting what never was succeeds, again and again, with a zygote and without."""
    for _ in range(2):
        assert killed(shim.delete("never"))
    assert not shim.root.exists()
    shim.start("warm")
    for _ in range(2):
        assert killed(shim.delete("never"))
    assert len(shim.sockets()) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"annotations": 1, "linux": 2}', "[" * 100_000], ids=len)
def test_damaged_bundle(shim: Commands, content: str) -> None:
    """A config.json that cannot be read does not keep it from ending the shim."""
    shim.start()
    pidfds = pidfds_of(shim.shims())
    (shim.bundle("one") / "config.json").write_text(content, encoding="ascii")
    assert killed(shim.delete())
    wait_ends(pidfds)
    assert shim.nothing_left()


@pytest.mark.parametrize("kind", ["no bundle", "no config", "a directory", "a FIFO", "a link to itself"])
def test_odd_bundle(shim: Commands, kind: str) -> None:
    """Nor does a bundle that is gone or holds something else."""
    shim.start()
    bundle = shim.bundle("one")
    config = bundle / "config.json"
    config.unlink()
    if kind == "no bundle":
        (bundle / "address").unlink()
        bundle.rmdir()
    elif kind == "a directory":
        config.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(config)
    elif kind == "a link to itself":
        config.symlink_to(config)
    words = [str(SCRIPT), "-bundle", str(bundle), *shim.words("start", "two")[1:-3], "-id", "one", "delete"]
    done = subprocess.run(words, cwd="/", env=shim.environment, capture_output=True, check=True, timeout=DEADLINE)
    assert done.stderr == b""
    assert shim.nothing_left()


def test_names_are_checked(shim: Commands) -> None:
    """A namespace or an id that is none is refused."""
    words = [str(SCRIPT), "-namespace", "a/b", "-id", "one", "delete"]
    done = subprocess.run(words, check=False, **shim.options("one"))
    assert done.returncode == 1
    assert done.stdout == b"'a/b' is no namespace; it must be a name without slashes"


# A shim


def test_shim_without_containers(shim: Commands) -> None:
    """A shim that was started and never used leaves; twice is as good as once."""
    shim.start()
    [pidfd] = pidfds_of(shim.shims())
    assert killed(shim.delete())
    wait_ends([pidfd])
    assert shim.nothing_left()
    assert killed(shim.delete())


def test_running_container(shim: Commands, guest: Guest) -> None:
    """A container that runs is killed, and the shim leaves."""
    pids = [running(shim, guest("kit_p1.wasm")), *shim.shims()]
    pidfds = pidfds_of(pids)
    response = shim.delete()
    assert killed(response)
    assert response.pid == pids[0]
    wait_ends(pidfds)
    assert shim.nothing_left()


def test_events_that_nobody_takes(shim: Commands, guest: Guest) -> None:
    """A shim that cannot tell containerd of the end leaves all the same, and without being killed for it."""
    shim.environment["TTRPC_ADDRESS"] = f"{shim.home['HOME']}/nobody.sock"
    pidfds = pidfds_of([running(shim, guest("kit_p1.wasm")), *shim.shims()])
    assert shim.delete().pid
    wait_ends(pidfds)
    assert shim.nothing_left()


def test_container_that_has_ended(shim: Commands, guest: Guest) -> None:
    """What the shim knows of the end is what containerd is told."""
    running(shim, guest("kit_p1.wasm"), "one", "exit", "42")
    call(shim.address(), "Wait", messages.WaitRequest(id="one"))
    assert shim.delete().exit_status == 42
    assert shim.nothing_left()


def test_other_containers_go_on(shim: Commands, guest: Guest) -> None:
    """A shim with another container stays, and so does that one."""
    pod = {"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}
    process = {"args": ["/program", "sleep", "3600000"], "cwd": "/", "env": []}
    for id_ in ("a", "b"):
        shim.bundle(id_, process=process, **pod)
    first, second = (running(shim, guest("kit_p1.wasm"), id_) for id_ in ("a", "b"))
    pidfds = pidfds_of([first])
    assert killed(shim.delete("a"))
    wait_ends(pidfds)
    [pid] = shim.shims()
    assert children(pid) == [second]
    assert killed(shim.delete("b"))
    assert shim.nothing_left()


@pytest.mark.parametrize("how", ["killed", "stopped", "stopped, no zygote"])
def test_shim_that_does_not_answer(shim: Commands, guest: Guest, how: str) -> None:
    """A dead shim's socket is removed; one that hangs is killed with its guest, within the time."""
    pidfds = pidfds_of([running(shim, guest("kit_p1.wasm")), *shim.shims()])
    if "no zygote" in how:
        os.kill(shim.zygote(), signal.SIGKILL)
    signal.pidfd_send_signal(pidfds[1], signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    begin = time.monotonic()
    assert killed(shim.delete())
    assert time.monotonic() - begin < SECONDS
    wait_ends(pidfds)
    assert shim.sockets() == []


def test_pod_that_hangs_is_left(shim: Commands) -> None:
    """A shim that hangs may have other containers of its pod: it is not killed for one of them."""
    shim.bundle("a", annotations={"io.kubernetes.cri.sandbox-id": "pod"})
    shim.start("a")
    [pid] = shim.shims()
    os.kill(pid, signal.SIGSTOP)
    assert killed(shim.delete("a"))
    assert shim.shims() == [pid]
    os.kill(pid, signal.SIGCONT)
    assert shim.start("a")


def test_shim_that_is_full(shim: Commands) -> None:
    """So many connections that the kernel takes no more are no reason to wait for ever."""
    address = shim.address()
    [pid] = shim.shims()
    os.kill(pid, signal.SIGSTOP)
    waiting = []
    with suppress(BlockingIOError):
        while True:
            waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            waiting[-1].connect(address)
    assert shim.start().decode() == f"unix://{address}"
    begin = time.monotonic()
    assert killed(shim.delete())
    assert time.monotonic() - begin < SECONDS
    os.kill(pid, signal.SIGCONT)
    for connection in waiting:
        connection.close()


# Cgroups


@pytest.fixture
def cgroup() -> Iterator[Any]:
    """A cgroup of the test's, for `linux.cgroupsPath`."""
    made = cgroup_at(f"/wasm-shim-test-{os.getpid()}", systemd=False)
    try:
        made.create({})
    except Exception as error:  # noqa: BLE001 - whatever keeps this machine from making one
        pytest.skip(f"cannot make a cgroup: {error}")
    yield made
    made.kill()
    made.remove()


def joined(cgroup: Any, *command: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process in the cgroup."""

    def join() -> None:
        for entrance in cgroup.entrances():
            Path(entrance).write_text("0", encoding="ascii")

    return subprocess.Popen(command, preexec_fn=join, **options)


@pytest.mark.root
@pytest.mark.parametrize("how", ["live", "frozen"])
def test_cgroup_is_emptied(shim: Commands, cgroup: Any, how: str) -> None:
    """What our guests left in the cgroup is killed, also when it is frozen, and the cgroup removed."""
    shim.bundle("one", linux={"cgroupsPath": f"/wasm-shim-test-{os.getpid()}"})
    with joined(cgroup, sys.executable, "-c", "input()", "wasm_shim.zygote.server", stdin=subprocess.PIPE) as process:
        if how == "frozen":
            cgroup.freeze()
        assert killed(shim.delete())
        assert process.wait(DEADLINE) == -9
    assert not [path for path in cgroup.entrances() if Path(path).exists()]


@pytest.mark.root
def test_cgroup_of_others_is_left(shim: Commands, cgroup: Any) -> None:
    """Where processes of others run, who made Create fail, delete kills nobody."""
    shim.bundle("one", linux={"cgroupsPath": f"/wasm-shim-test-{os.getpid()}"})
    with joined(cgroup, "sleep", "3600") as process:
        assert killed(shim.delete())
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("path", ["/", "", "relative", "/../..", "a:b:c:d", 7, "/wasm-shim-not-there"])
def test_odd_cgroup_path(shim: Commands, path: object) -> None:
    """A cgroupsPath that means none, or the root, harms nobody."""
    (shim.bundle("one") / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": path}}), encoding="ascii")
    assert killed(shim.delete())

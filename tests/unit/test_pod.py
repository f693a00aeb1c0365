"""The pod shim put together: a real one in a process of its own, asked over its socket, and what it tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contracts.containerd_bench import Containerd, unpacked
from tests.contracts.memory_runner import run_until
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc import events
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import Code, RpcError
from wasm_shim.ttrpc.well_known import Any as AnyMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wasm_shim.ttrpc.protobuf import Message
    from wasm_shim.ttrpc.server import Reply

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled programs, which all pods of these tests share."""
    directory = tmp_path_factory.mktemp("pod-programs") / "cache"
    directory.mkdir(mode=0o700)
    return directory


class Pod:
    """A pod shim with its containerd, and a client of it."""

    def __init__(self, directory: Path, programs: Path, containerd: str | None = None, unused: str = "60") -> None:
        self.loop = EventLoop()
        self.directory = directory
        self.address = directory / "s"
        self.containerd = Containerd(self.loop, directory / "ttrpc")
        os.mkfifo(directory / "log")
        self.log = os.open(directory / "log", os.O_RDONLY | os.O_NONBLOCK)
        code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.contracts.pod_process import main; main()"
        told = str(directory / "ttrpc") if containerd is None else containerd
        command = [sys.executable, "-P", "-c", code, str(self.address), told, str(programs), str(directory)]
        command.append(unused)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "listening\n"
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.address))
        self.client = Client(self.loop, connection)
        self.call("Connect", messages.ConnectRequest())  # from its answer on it serves

    def ask(self, method: str, request: Message) -> tuple[bytes | None, RpcError | None]:
        answers: list[tuple[bytes | None, RpcError | None]] = []
        service = messages.TASK_SERVICES[0]
        self.client.call(service, method, request.encode(), lambda *answer: answers.append(answer), timeout=50)
        run_until(self.loop, lambda: bool(answers))
        return answers[0]

    def call(self, method: str, request: Message) -> bytes:
        payload, error = self.ask(method, request)
        assert error is None, error
        return payload or b""

    def creation(self, program: str) -> messages.CreateTaskRequest:
        """A request for a guest that needs no root file system."""
        (self.directory / "config.json").write_text(json.dumps({"process": {"args": ["/program"], "cwd": "/"}}))
        run = messages.RunOptions(program=str(GUESTS / program), entrypoint="/program")
        options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=run.encode())
        return messages.CreateTaskRequest(id="one", bundle=str(self.directory), options=options)

    def answer_later(self, reply: Reply) -> None:
        """As a containerd does that has much to do."""
        self.loop.call_later(0.1, lambda: reply.send(b""))

    def events(self) -> list[Any]:
        return [unpacked(envelope) for envelope in self.containerd.envelopes]

    def ended(self) -> str:
        """What the process has said at its end, which was a good one."""
        said, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return said

    def logged(self) -> str:
        try:
            return os.read(self.log, 1 << 16).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self.client.close()
        self.containerd.close()
        self.process.kill()
        self.process.communicate()
        os.close(self.log)
        self.loop.close()


@pytest.fixture
def pod(tmp_path: Path, programs: Path) -> Iterator[Pod]:
    made = Pod(tmp_path, programs)
    yield made
    made.close()


ONE = {"id": "one"}
LEAVE = messages.ShutdownRequest(id="one")


def test_life_is_told_to_containerd(pod: Pod) -> None:
    """Create to Shutdown: containerd hears of everything in order, and by the answer to Shutdown it has."""
    pid = messages.CreateTaskResponse.decode(pod.call("Create", pod.creation("hello.wat"))).pid
    pod.call("Start", messages.StartRequest(**ONE))
    pod.call("Wait", messages.WaitRequest(**ONE))
    deleted = messages.DeleteResponse.decode(pod.call("Delete", messages.DeleteRequest(**ONE)))
    pod.containerd.answer = pod.answer_later
    pod.call("Shutdown", LEAVE)
    ended_at = deleted.exited_at
    assert pod.events() == [
        events.TaskCreate(container_id="one", bundle=str(pod.directory), io=events.TaskIO(), pid=pid),
        events.TaskStart(container_id="one", pid=pid),
        events.TaskExit(container_id="one", id="one", pid=pid, exited_at=ended_at),
        events.TaskDelete(container_id="one", pid=pid, exited_at=ended_at),
    ]
    assert {envelope.namespace for envelope in pod.containerd.envelopes} == {"k8s.io"}
    assert pod.ended() == "left 0 descriptors\n"
    assert (pod.address.exists(), pod.logged()) == (False, "")


def test_shutdown_with_a_task_is_none(pod: Pod) -> None:
    """A pod shim with a container stays."""
    pod.call("Create", pod.creation("spin.wat"))
    pod.call("Shutdown", messages.ShutdownRequest(id="one", now=True))
    assert messages.ConnectResponse.decode(pod.call("Connect", messages.ConnectRequest(**ONE))).task_pid
    pod.call("Delete", messages.DeleteRequest(**ONE))
    pod.call("Shutdown", LEAVE)
    pod.ended()


def test_failed_creation_is_not_told(pod: Pod) -> None:
    """A program that cannot run is refused with the reason, and containerd hears of nothing."""
    _, error = pod.ask("Create", pod.creation("unknown_import.wat"))
    assert error
    assert error.code == Code.FAILED_PRECONDITION
    pod.call("Shutdown", LEAVE)
    assert (pod.ended(), pod.events()) == ("left 0 descriptors\n", [])


def test_leaves_although_containerd_is_away(tmp_path: Path, programs: Path) -> None:
    """What cannot be told keeps the shim for a moment only; the log says what was tried."""
    pod = Pod(tmp_path, programs, containerd=str(tmp_path / "nobody"))
    pod.call("Create", pod.creation("hello.wat"))
    pod.call("Delete", messages.DeleteRequest(**ONE))
    pod.call("Shutdown", LEAVE)
    pod.ended()
    assert "cannot be told to containerd" in pod.logged()
    pod.close()


def test_leaves_the_socket_of_another(pod: Pod) -> None:
    """A shim that has taken the address meanwhile keeps it."""
    pod.address.unlink()
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(pod.address))
    pod.call("Shutdown", LEAVE)
    pod.ended()
    assert pod.address.exists()
    other.close()


def test_socket_that_has_gone(pod: Pod) -> None:
    """A path that somebody removed is no reason to stay."""
    pod.address.unlink()
    pod.call("Shutdown", LEAVE)
    pod.ended()
    assert pod.logged() == ""


def test_leaves_when_nobody_comes(tmp_path: Path, programs: Path) -> None:
    """Whoever was to learn its address has been killed: it does not wait for ever."""
    code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.contracts.pod_process import main; main()"
    words = [str(tmp_path / "s"), "", str(programs), str(tmp_path), "0.01"]
    done = subprocess.run([sys.executable, "-P", "-c", code, *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "listening\nleft 0 descriptors\n")
    assert not (tmp_path / "s").exists()


def test_stays_with_a_client(tmp_path: Path, programs: Path) -> None:
    """One that is connected need not have a task yet."""
    pod = Pod(tmp_path, programs, unused="0.1")
    run_until(pod.loop, passed(pod.loop, 0.3))
    pod.call("Create", pod.creation("hello.wat"))
    pod.call("Delete", messages.DeleteRequest(**ONE))
    pod.call("Shutdown", LEAVE)
    pod.ended()
    pod.close()


def passed(loop: EventLoop, seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed on the loop."""
    over: list[bool] = []
    loop.call_later(seconds, lambda: over.append(True))
    return lambda: bool(over)

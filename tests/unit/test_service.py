"""The Task service: every method answers, whatever arrives, and each error has its code."""

from __future__ import annotations

import functools
import re
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.memory_runner import BROKEN, ENDS, METRICS
from tests.contracts.service_bench import V2, V3, Service
from wasm_shim import errors
from wasm_shim.errors import WasmShimError
from wasm_shim.guest import Image
from wasm_shim.shim.convert import timestamp
from wasm_shim.task.ports import Creating, Creation, Exit, RootMount
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.codes import code_of, error_of
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.ttrpc.well_known import Mount
from wasm_shim.version import VERSION

NOT_SERVED = ("Exec", "Checkpoint", "", "create", "Nonsense")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.mark.parametrize("method", NOT_SERVED)
def test_rejects_methods_that_are_not_served(service: Service, method: str) -> None:
    """What is not served is UNIMPLEMENTED, so is another service."""
    assert (service.raw(method, b"").failure or (0,))[0] == Code.UNIMPLEMENTED
    assert (service.raw("State", b"", "other.Task").failure or (0,))[0] == Code.UNIMPLEMENTED


def test_both_versions_are_served(service: Service) -> None:
    """Task v2 and v3 are the same."""
    payload = messages.ConnectRequest(id="one").encode()
    assert service.raw("Connect", payload, V2).payload == service.raw("Connect", payload, V3).payload


def test_life_of_a_task(service: Service) -> None:
    """Create, Start, Wait, State and Delete tell one story."""
    pid = service.create(ENDS, stdin="/i", stdout="/o", stderr="/e")
    state = functools.partial(service.answer, "State", messages.StateResponse, id="one")
    assert state().status == messages.Status.CREATED
    assert service.answer("Start", messages.StartResponse, id="one").pid == pid
    assert state().status == messages.Status.RUNNING
    assert service.answer("Wait", messages.WaitResponse, id="one").exit_status == 0
    stopped = state()
    assert (stopped.status, stopped.pid, stopped.bundle) == (messages.Status.STOPPED, pid, "/b")
    assert (stopped.stdin, stopped.stdout, stopped.stderr) == ("/i", "/o", "/e")
    deleted = service.answer("Delete", messages.DeleteResponse, id="one")
    assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (pid, 0, stopped.exited_at)
    assert (service.ask("State", id="one").failure or (0,))[0] == Code.NOT_FOUND


def test_signals_and_pids(service: Service) -> None:
    """Kill reaches the process, Pids and Connect know it."""
    pid = service.create()
    service.ask("Start", id="one")
    processes = service.answer("Pids", messages.PidsResponse, id="one").processes
    assert [process.pid for process in processes] == [pid]
    connected = service.answer("Connect", messages.ConnectResponse, id="one")
    assert (connected.task_pid, connected.version) == (pid, VERSION)
    assert connected.shim_pid > 0
    assert service.ask("Kill", id="one", signal=signal.SIGTERM).payload == b""
    assert service.answer("Wait", messages.WaitResponse, id="one").exit_status == 143
    assert service.ask("Kill", id="one", signal=9).failure == (Code.NOT_FOUND, "process already finished")


def test_terminal_and_stdin(service: Service) -> None:
    """ResizePty and CloseIO reach the process; CloseIO of anything but stdin does nothing."""
    service.create(terminal=True)
    assert service.ask("ResizePty", id="one", width=80, height=25).payload == b""
    service.ask("CloseIO", id="one")
    process = service.runner.processes["one"]
    assert (process.size, process.stdin_closed) == ((80, 25), False)
    service.ask("CloseIO", id="one", stdin=True)
    assert process.stdin_closed
    assert (service.ask("ResizePty", id="one", width=1 << 16).failure or (0,))[0] == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Start", "State", "Wait", "Kill", "CloseIO", "ResizePty", "Delete"])
def test_rejects_exec_processes(service: Service, method: str) -> None:
    """There is no process but the first one."""
    service.create()
    code, message = service.ask(method, id="one", exec_id="x").failure or (0, "")
    assert (code, message) == (Code.NOT_FOUND, "no exec process x; exec is not served yet")


@pytest.mark.parametrize(
    "fields", [{"bundle": "/b"}, {"id": "one"}, {"id": "one", "bundle": "relative"},
               {"id": "one", "bundle": "/b", "options": AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=b"\n")}]
)  # fmt: skip
def test_rejects_incomplete_creations(service: Service, fields: dict[str, Any]) -> None:
    """Create without an id, an absolute bundle or readable options is INVALID_ARGUMENT."""
    assert (service.ask("Create", **fields).failure or (0,))[0] == Code.INVALID_ARGUMENT
    assert service.manager.empty


def test_creation_is_passed_on(service: Service) -> None:
    """Mounts of the root, streams and terminal reach the runner as they were sent."""
    mount = Mount(type="overlay", source="overlay", target="", options=["lowerdir=/l", "ro"])
    uri = "file:///var/log/x?uid=1"
    service.create(rootfs=[mount, Mount(type="bind", source="/s", target="t")], stdout=uri, terminal=True)
    creation = service.manager.state("one").creation
    expected = RootMount("overlay", "overlay", "", ("lowerdir=/l", "ro")), RootMount("bind", "/s", "t", ())
    assert creation.rootfs == expected
    assert (creation.stdout, creation.terminal, creation.systemd_cgroup) == (uri, True, False)


def test_creation_without_our_options_has_no_image(service: Service) -> None:
    """What containerd creates names no program: that is a file of the root file system."""
    runc = AnyMessage(type_url=messages.RuncOptions.TYPE_URL, value=b"\x48\x01")
    service.answer("Create", messages.CreateTaskResponse, id="one", bundle="/b", options=runc)
    creation = service.manager.state("one").creation
    assert (creation.image, creation.call, creation.systemd_cgroup) == (Image("", ""), "", True)


def test_rejects_checkpoints(service: Service) -> None:
    """A task cannot be made from a checkpoint, and no checkpoint of one; nor a process added."""
    failure = service.ask("Create", id="one", bundle="/b", checkpoint="/c").failure
    assert failure == (Code.UNIMPLEMENTED, "wasm-shim restores no checkpoints; create the task without one")
    for method, words in (("Checkpoint", "writes no checkpoints"), ("Exec", "adds no processes")):
        code, message = service.raw(method, b"").failure or (0, "")
        assert (code, words in message) == (Code.UNIMPLEMENTED, True)


def test_pause_and_resume(service: Service) -> None:
    """Pause is answered when the task is frozen, and State tells each status."""
    service.create()
    service.ask("Start", id="one")
    process = service.runner.processes["one"]
    process.freezes_at_once = False
    state = functools.partial(service.answer, "State", messages.StateResponse, id="one")
    reply = service.ask("Pause", id="one")
    assert (reply.answered, state().status) == (False, messages.Status.PAUSING)
    process.freeze()
    assert (reply.payload, state().status) == (b"", messages.Status.PAUSED)
    assert service.ask("Pause", id="one").failure == (Code.FAILED_PRECONDITION, "cannot pause a paused task")
    assert service.ask("Delete", id="one").failure == (Code.FAILED_PRECONDITION, "cannot delete a paused task")
    assert (service.ask("Resume", id="one").payload, state().status) == (b"", messages.Status.RUNNING)
    assert service.ask("Resume", id="one").failure == (Code.FAILED_PRECONDITION, "cannot resume a running task")
    reply = service.ask("Pause", id="one")
    process.refuse_to_freeze()
    assert (reply.failure or (0,))[0] == Code.FAILED_PRECONDITION


def test_update(service: Service) -> None:
    """The resources reach the process as a document, whatever the type URL says."""
    service.create()
    resources = AnyMessage(type_url="types.containerd.io/x", value=b'{"memory": {"limit": 1048576}, "pids": null}')
    assert service.ask("Update", id="one", resources=resources).payload == b""
    assert service.runner.processes["one"].resources == [{"memory": {"limit": 1 << 20}, "pids": None}]


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"null", b"1", b"\xff", b"[" * 100_000, b'{"memory": 1}', b'{"a": NaN}']
)
def test_rejects_bad_resources(service: Service, value: bytes) -> None:
    """Resources that are absent or no JSON object are INVALID_ARGUMENT; of an unknown task, NOT_FOUND."""
    service.create()
    assert (service.ask("Update", id="one").failure or (0,))[0] == Code.INVALID_ARGUMENT
    for id_, code in (("one", Code.INVALID_ARGUMENT), ("two", Code.NOT_FOUND)):
        assert (service.ask("Update", id=id_, resources=AnyMessage(value=value)).failure or (0,))[0] == code
    assert service.runner.processes["one"].resources == []


def test_stats(service: Service) -> None:
    """What a task uses is handed on unread; when it has gone, it is NOT_FOUND."""
    service.create()
    stats = service.answer("Stats", messages.StatsResponse, id="one").stats
    assert (stats.type_url, stats.value) == (METRICS, b"\n\x00")
    service.ask("Kill", id="one", signal=9)
    service.answer("Wait", messages.WaitResponse, id="one")
    assert (service.ask("Stats", id="one").failure or (0,))[0] == Code.NOT_FOUND


def test_kill_all_and_several_pids(service: Service) -> None:
    """Pids names every process of the task, and a signal to all of them reaches it."""
    pid = service.create()
    service.runner.processes["one"].others = (7, 8)
    processes = service.answer("Pids", messages.PidsResponse, id="one").processes
    assert [process.pid for process in processes] == [pid, 7, 8]
    assert service.ask("Kill", id="one", signal=9, all=True).payload == b""
    assert service.answer("Wait", messages.WaitResponse, id="one").exit_status == 137
    processes = service.answer("Pids", messages.PidsResponse, id="one").processes
    assert [process.pid for process in processes] == [pid]


def test_failed_creation(service: Service) -> None:
    """A creation that fails is answered with its code."""
    options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(program=BROKEN).encode())
    reply = service.ask("Create", id="one", bundle="/b", options=options)
    assert reply.failure == (Code.FAILED_PRECONDITION, "cannot run it; it is broken")


def test_shutdown_waits_for_the_last_task(service: Service) -> None:
    """Shutdown is answered always, and obeyed when no task is left."""
    service.create()
    assert service.ask("Shutdown", now=True).payload == b""
    assert service.left == 0
    service.answer("Delete", messages.DeleteResponse, id="one")
    assert service.ask("Shutdown").payload == b""
    assert service.left == 1


def test_shutdown_is_answered_when_all_is_told(service: Service) -> None:
    """Everyone who asks waits for the drain, which is asked for once, and is answered before the shim leaves."""
    service.drains = []
    replies = [service.ask("Shutdown"), service.ask("Shutdown")]
    assert ([reply.answered for reply in replies], len(service.drains), service.left) == ([False, False], 1, 0)
    service.drains.pop()()
    assert ([reply.payload for reply in replies], service.left) == ([b"", b""], 1)


def test_task_that_comes_while_draining_stays(service: Service) -> None:
    """A shim that was about to leave serves on when it gets another container, and leaves the next time."""
    service.drains = []
    reply = service.ask("Shutdown")
    service.create()
    service.drains.pop()()
    assert (reply.payload, service.left) == (b"", 0)
    service.answer("Delete", messages.DeleteResponse, id="one")
    service.ask("Shutdown")
    service.drains.pop()()
    assert service.left == 1


def test_a_failed_creation_that_nobody_hears_of(service: Service) -> None:
    """The shim leaves once, when all is told: its containerd was killed. It stays for other tasks."""
    service.create()
    service.drains = []
    options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(program=BROKEN).encode())
    for left in (0, 1):
        service.hung_up = True
        assert service.ask("Create", id="two", bundle="/b", options=options).failure
        service.hung_up = False
        if left:
            reply = service.ask("Shutdown")
            service.drains.pop()()
            assert reply.payload == b""
        else:
            assert service.drains == []
            service.answer("Delete", messages.DeleteResponse, id="one")
        assert (service.left, service.drains) == (left, [])


# Errors and codes

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WasmShimError)]
CODES = {
    kind: Code[re.sub("(?<=.)(?=[A-Z])", "_", kind.__name__).upper()] for kind in ERRORS if kind is not WasmShimError
}


@pytest.mark.parametrize("kind", CODES)
def test_every_error_has_the_code_of_its_name(service: Service, kind: type[WasmShimError]) -> None:
    """An error that a runner raises or reports gets the code of its name, and the client makes the error of it."""

    def refuse(_creation: Creation, creating: Creating) -> None:
        creating.failed(kind("a reason"))

    service.runner.create = refuse  # type: ignore[assignment,method-assign] # a runner of another kind
    assert service.ask("Create", id="one", bundle="/b").failure == (CODES[kind], "a reason")
    assert code_of(kind("")) == CODES[kind]
    back = error_of(CODES[kind], "a reason")
    assert (type(back), back.message) == (kind, "a reason")


def test_unknown_codes_are_internal() -> None:
    """A code that we never send is a fault."""
    assert type(error_of(Code.DATA_LOSS, "x")) is errors.Internal


@given(st.floats(0, 4e9))
def test_timestamp_is_exact(at: float) -> None:
    """Seconds and nanoseconds make the time again, and nanoseconds stay below a second."""
    made = timestamp(Exit(0, at))
    assert made is not None
    assert 0 <= made.nanos < 10**9
    assert made.seconds + made.nanos / 1e9 == pytest.approx(at, abs=1e-6)
    assert timestamp(None) is None

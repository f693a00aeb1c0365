"""The Task service: every method answers, whatever arrives, and each error has its code."""

from __future__ import annotations

import functools
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.contracts.memory_runner import BROKEN, ENDS, RUNS, MemoryBench
from wasm_shim import errors
from wasm_shim.errors import WasmShimError
from wasm_shim.shim.convert import timestamp
from wasm_shim.shim.service import TaskService
from wasm_shim.task.ports import Creating, Creation, Exit
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.codes import code_of, error_of
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.version import VERSION

if TYPE_CHECKING:
    from wasm_shim.ttrpc.protobuf import Message

V3, V2 = messages.TASK_SERVICES
METHODS = {
    "Create": messages.CreateTaskRequest,
    "Start": messages.StartRequest,
    "State": messages.StateRequest,
    "Wait": messages.WaitRequest,
    "Kill": messages.KillRequest,
    "Pids": messages.PidsRequest,
    "CloseIO": messages.CloseIORequest,
    "ResizePty": messages.ResizePtyRequest,
    "Delete": messages.DeleteRequest,
    "Connect": messages.ConnectRequest,
    "Shutdown": messages.ShutdownRequest,
}
NOT_SERVED = ("Pause", "Resume", "Exec", "Update", "Stats", "Checkpoint", "", "create", "Nonsense")
REFUSALS = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


class RecordedReply:
    """Remembers its answer, and that there was only one."""

    def __init__(self) -> None:
        self.payload: bytes | None = None
        self.failure: tuple[int, str] | None = None

    @property
    def answered(self) -> bool:
        return self.payload is not None or self.failure is not None

    def send(self, payload: bytes) -> None:
        assert not self.answered
        self.payload = payload

    def fail(self, code: int, message: str) -> None:
        assert not self.answered
        self.failure = code, message


class Service(MemoryBench):
    """The service over a memory runner."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.service = TaskService(self.manager, self._leave)

    def _leave(self) -> None:
        self.left += 1

    def raw(self, method: str, payload: bytes, service: str = V3) -> RecordedReply:
        reply = RecordedReply()
        self.service.handle(service, method, payload, reply)  # type: ignore[arg-type] # it has all that is used
        return reply

    def ask(self, method: str, **fields: Any) -> RecordedReply:
        return self.raw(method, METHODS[method](**fields).encode())

    def answer(self, method: str, kind: type[Message], **fields: Any) -> Any:
        """The decoded answer, waited for."""
        reply = self.ask(method, **fields)
        self.until(lambda: reply.answered)
        assert reply.payload is not None, reply.failure
        return kind.decode(reply.payload)

    def create(self, program: str = RUNS, **fields: Any) -> int:
        options = AnyMessage(
            type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(program=program).encode()
        )
        request = {"id": "one", "bundle": "/b", "options": options} | fields
        made: messages.CreateTaskResponse = self.answer("Create", messages.CreateTaskResponse, **request)
        return made.pid


@pytest.fixture
def service() -> Service:
    return Service()


@EVERY_METHOD
@settings(max_examples=50)
@given(payload=st.binary(max_size=40))
@example(payload=b"\x0a\x05ab")
@example(payload=b"\x0a\x01\xff")
def test_any_bytes(method: str, payload: bytes) -> None:
    """Bytes of any kind are answered or wait, and nothing ever comes out of handle."""
    service = Service()
    service.create(id="one")
    reply = service.raw(method, payload)
    if reply.failure:
        code, message = reply.failure
        assert code in REFUSALS
        assert message


def requests(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Requests whose fields hold what nobody would send, often for the task that is there."""
    words = st.sampled_from(["one", "two", ""]) | st.text(max_size=5)
    numbers = st.sampled_from([0, 9, 15, 64, 65, 65535, 65536, (1 << 32) - 1])
    named = {"id": words, "exec_id": st.sampled_from(["", "", "x"]), "signal": numbers, "width": numbers}
    known = {name: strategy for name, strategy in named.items() if name in kind.__annotations__}
    return st.builds(kind, **known).map(lambda made: made.encode())


@EVERY_METHOD
@settings(max_examples=50)
@given(data=st.data(), started=st.booleans())
def test_any_values(method: str, data: st.DataObject, started: bool) -> None:  # noqa: FBT001 - drawn
    """Well-formed requests with any values are answered or wait, whatever the task's status."""
    service = Service()
    service.create()
    if started:
        service.ask("Start", id="one")
    reply = service.raw(method, data.draw(requests(METHODS[method])))
    if reply.failure:
        assert reply.failure[0] in REFUSALS


@EVERY_METHOD
def test_rejects_malformed_requests(service: Service, method: str) -> None:
    """A request that cannot be read is INVALID_ARGUMENT and named."""
    assert service.raw(method, b"\x0a\xff").failure is not None
    code, message = service.raw(method, b"\x0a\xff").failure or (0, "")
    assert code == Code.INVALID_ARGUMENT
    assert message.startswith(f"cannot read the request of {method}: ")


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


def test_options_of_others_are_left_alone(service: Service) -> None:
    """containerd's own options are none of ours."""
    assert service.create(options=AnyMessage(type_url="runtimeoptions.v1.Options", value=b"\xff")) > 0
    assert service.create(id="two", options=None) > 0


def test_failed_creation(service: Service) -> None:
    """A creation that fails is answered with its code."""
    options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(program=BROKEN).encode())
    reply = service.ask("Create", id="one", bundle="/b", options=options)
    assert reply.failure == (Code.INVALID_ARGUMENT, "cannot run it; it is broken")


def test_shutdown_waits_for_the_last_task(service: Service) -> None:
    """Shutdown is answered always, and obeyed when no task is left."""
    service.create()
    assert service.ask("Shutdown", now=True).payload == b""
    assert service.left == 0
    service.answer("Delete", messages.DeleteResponse, id="one")
    assert service.ask("Shutdown").payload == b""
    assert service.left == 1


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

"""The Task service over the runner of the tests, asked without a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contracts.memory_runner import RUNS, MemoryBench
from wasm_shim.shim.service import TaskService
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Any as AnyMessage

if TYPE_CHECKING:
    from collections.abc import Callable

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
    "Pause": messages.PauseRequest,
    "Resume": messages.ResumeRequest,
    "Update": messages.UpdateTaskRequest,
    "Stats": messages.StatsRequest,
    "Delete": messages.DeleteRequest,
    "Connect": messages.ConnectRequest,
    "Shutdown": messages.ShutdownRequest,
}


class RecordedReply:
    """Remembers its answer, and that there was only one."""

    def __init__(self, *, hung_up: bool = False) -> None:
        self.payload: bytes | None = None
        self.failure: tuple[int, str] | None = None
        self._hung_up = hung_up

    @property
    def answered(self) -> bool:
        return self.payload is not None or self.failure is not None

    @property
    def unheard(self) -> bool:
        return self._hung_up and not self.answered

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
        self.hung_up = False  # whether the client of the requests to come waits for no answer
        self.drains: list[Callable[[], None]] | None = None  # with a list, they wait until the test calls them
        self.service = TaskService(self.manager, self._leave, self._drain)

    def _leave(self) -> None:
        self.left += 1

    def _drain(self, drained: Callable[[], None]) -> None:
        if self.drains is None:
            drained()
        else:
            self.drains.append(drained)

    def raw(self, method: str, payload: bytes, service: str = V3) -> RecordedReply:
        reply = RecordedReply(hung_up=self.hung_up)
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
        options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=messages.RunOptions(program=program).encode())
        request = {"id": "one", "bundle": "/b", "options": options} | fields
        made: messages.CreateTaskResponse = self.answer("Create", messages.CreateTaskResponse, **request)
        return made.pid

"""The events that a shim forwards to containerd over ttrpc, and the service that takes them.

Field numbers and topics are containerd's (api/events, api/types, api/services/ttrpc/events/v1).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from wasm_shim.ttrpc.protobuf import Message, bool_, int32, message, repeated, string, uint32
from wasm_shim.ttrpc.well_known import Any, Mount, Timestamp

EVENTS_SERVICE = "containerd.services.events.ttrpc.v1.Events"


class ExitReason(IntEnum):
    """containerd.v1.types.ExitReason: why a process ended, where that is known (containerd 2.3)."""

    NONE = 0
    OOMKILLED = 1
    SIGNALED = 2


class Event(Message):
    """Base of what is published about a task; each kind has a topic."""

    TOPIC: ClassVar[str]

    def pack(self) -> Any:
        """The event as an Envelope carries it."""
        return Any(type_url=f"containerd.events.{type(self).__name__}", value=self.encode())


class TaskIO(Message):
    """The streams that a task was created with."""

    stdin: str = string(1)
    stdout: str = string(2)
    stderr: str = string(3)
    terminal: bool = bool_(4)


class TaskCreate(Event):
    """A container was created."""

    TOPIC = "/tasks/create"
    container_id: str = string(1)
    bundle: str = string(2)
    rootfs: list[Mount] = repeated(3, Mount)
    io: TaskIO | None = message(4, TaskIO)
    checkpoint: str = string(5)
    pid: int = uint32(6)


class TaskStart(Event):
    """A container's init process runs."""

    TOPIC = "/tasks/start"
    container_id: str = string(1)
    pid: int = uint32(2)


class TaskExit(Event):
    """A process has ended; `id` is its exec_id, or the container's for the init process."""

    TOPIC = "/tasks/exit"
    container_id: str = string(1)
    id: str = string(2)
    pid: int = uint32(3)
    exit_status: int = uint32(4)
    exited_at: Timestamp | None = message(5, Timestamp)
    exit_reason: int = int32(6)


class TaskDelete(Event):
    """A process was removed; `id` is its exec_id, empty for the init process."""

    TOPIC = "/tasks/delete"
    container_id: str = string(1)
    pid: int = uint32(2)
    exit_status: int = uint32(3)
    exited_at: Timestamp | None = message(4, Timestamp)
    id: str = string(5)


class TaskOOM(Event):
    """The kernel killed in a container for lack of memory."""

    TOPIC = "/tasks/oom"
    container_id: str = string(1)


class TaskPaused(Event):
    """A container was frozen."""

    TOPIC = "/tasks/paused"
    container_id: str = string(1)


class TaskResumed(Event):
    """A frozen container goes on."""

    TOPIC = "/tasks/resumed"
    container_id: str = string(1)


class TaskExecAdded(Event):
    """A process was added to a container."""

    TOPIC = "/tasks/exec-added"
    container_id: str = string(1)
    exec_id: str = string(2)


class TaskExecStarted(Event):
    """An added process runs."""

    TOPIC = "/tasks/exec-started"
    container_id: str = string(1)
    exec_id: str = string(2)
    pid: int = uint32(3)


class Envelope(Message):
    """An event with its moment, containerd namespace and topic."""

    timestamp: Timestamp | None = message(1, Timestamp)
    namespace: str = string(2)
    topic: str = string(3)
    event: Any | None = message(4, Any)


class ForwardRequest(Message):
    """The argument of Forward, the method of EVENTS_SERVICE."""

    envelope: Envelope | None = message(1, Envelope)

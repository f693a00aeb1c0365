"""The messages of containerd's Task service, and the options that travel in them, one kind being our own.

Field numbers are containerd's (api/runtime/task/v3, api/types, runc/options, runtimeoptions), repeated for protoc in
proto/. Task v2 and v3 are the same on the wire. An empty exec_id means the container's init process.
The event messages are in wasm_shim.ttrpc.events.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from wasm_shim.ttrpc.envelope import KeyValue
from wasm_shim.ttrpc.protobuf import Message, bool_, bytes_, int32, message, repeated, string, uint32
from wasm_shim.ttrpc.well_known import Any, Mount, Timestamp

TASK_SERVICES = ("containerd.task.v3.Task", "containerd.task.v2.Task")


class Status(IntEnum):
    """containerd.v1.types.Status: where a process is in its life."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


class ProcessInfo(Message):
    """A process of a task; `info` may say more in a message that depends on the platform."""

    pid: int = uint32(1)
    info: Any | None = message(2, Any)


class CreateTaskRequest(Message):
    """Make a container from the bundle directory; stdin, stdout and stderr are paths of FIFOs, or empty."""

    id: str = string(1)
    bundle: str = string(2)
    rootfs: list[Mount] = repeated(3, Mount)
    terminal: bool = bool_(4)
    stdin: str = string(5)
    stdout: str = string(6)
    stderr: str = string(7)
    checkpoint: str = string(8)
    parent_checkpoint: str = string(9)
    options: Any | None = message(10, Any)


class CreateTaskResponse(Message):
    """The pid of the container's init process."""

    pid: int = uint32(1)


class StartRequest(Message):
    """Let a created process run."""

    id: str = string(1)
    exec_id: str = string(2)


class StartResponse(Message):
    """The pid of the process that runs now."""

    pid: int = uint32(1)


class StateRequest(Message):
    """Ask how a process is."""

    id: str = string(1)
    exec_id: str = string(2)


class StateResponse(Message):
    """How a process is; `exit_status` and `exited_at` count when `status` is STOPPED."""

    id: str = string(1)
    bundle: str = string(2)
    pid: int = uint32(3)
    status: int = int32(4)
    stdin: str = string(5)
    stdout: str = string(6)
    stderr: str = string(7)
    terminal: bool = bool_(8)
    exit_status: int = uint32(9)
    exited_at: Timestamp | None = message(10, Timestamp)
    exec_id: str = string(11)


class WaitRequest(Message):
    """Ask to be told when a process has ended; the answer comes then."""

    id: str = string(1)
    exec_id: str = string(2)


class WaitResponse(Message):
    """How a process ended: its exit code, or 128 + n after signal n."""

    exit_status: int = uint32(1)
    exited_at: Timestamp | None = message(2, Timestamp)


class KillRequest(Message):
    """Send a signal to a process, or with `all` to every process of the container."""

    id: str = string(1)
    exec_id: str = string(2)
    signal: int = uint32(3)
    all: bool = bool_(4)


class PidsRequest(Message):
    """Ask for the processes of a container."""

    id: str = string(1)


class PidsResponse(Message):
    """The processes of a container."""

    processes: list[ProcessInfo] = repeated(1, ProcessInfo)


class DeleteRequest(Message):
    """Remove a process that has ended, or was never started."""

    id: str = string(1)
    exec_id: str = string(2)


class DeleteResponse(Message):
    """How the removed process ended; also what the `delete` command prints."""

    pid: int = uint32(1)
    exit_status: int = uint32(2)
    exited_at: Timestamp | None = message(3, Timestamp)


class ConnectRequest(Message):
    """Sent by a containerd that has found the shim again."""

    id: str = string(1)


class ConnectResponse(Message):
    """Who the shim is and which init process it has for the container."""

    shim_pid: int = uint32(1)
    task_pid: int = uint32(2)
    version: str = string(3)


class ShutdownRequest(Message):
    """Ask the shim to leave; without `now`, only when it has no containers."""

    id: str = string(1)
    now: bool = bool_(2)


class CloseIORequest(Message):
    """Close the given streams of a process."""

    id: str = string(1)
    exec_id: str = string(2)
    stdin: bool = bool_(3)


class ExecProcessRequest(Message):
    """Add a process to a container; `spec` holds the OCI process as JSON."""

    id: str = string(1)
    exec_id: str = string(2)
    terminal: bool = bool_(3)
    stdin: str = string(4)
    stdout: str = string(5)
    stderr: str = string(6)
    spec: Any | None = message(7, Any)


class ResizePtyRequest(Message):
    """Tell a process's terminal its size in characters."""

    id: str = string(1)
    exec_id: str = string(2)
    width: int = uint32(3)
    height: int = uint32(4)


class PauseRequest(Message):
    """Freeze a container."""

    id: str = string(1)


class ResumeRequest(Message):
    """Let a frozen container go on."""

    id: str = string(1)


class UpdateTaskRequest(Message):
    """Change a container's limits; `resources` holds OCI LinuxResources as JSON, `annotations` is a map."""

    id: str = string(1)
    resources: Any | None = message(2, Any)
    annotations: list[KeyValue] = repeated(3, KeyValue)


class StatsRequest(Message):
    """Ask what a container uses."""

    id: str = string(1)


class StatsResponse(Message):
    """What a container uses, as the metrics message of its cgroup version."""

    stats: Any | None = message(1, Any)


class CheckpointTaskRequest(Message):
    """Write a container's memory to disk."""

    id: str = string(1)
    path: str = string(2)
    options: Any | None = message(3, Any)


class RunOptions(Message):
    """Ours: what the command line puts in CreateTaskRequest.options.

    `program` is the program file's path on the host; `invoke` is the text of a call.
    """

    TYPE_URL: ClassVar[str] = "wasm-shim.dev/RunOptions"
    program: str = string(1)
    entrypoint: str = string(2)
    invoke: str = string(3)


class RuncOptions(Message):
    """containerd.runc.v1.Options, as far as it means anything to us."""

    TYPE_URL: ClassVar[str] = "containerd.runc.v1.Options"
    systemd_cgroup: bool = bool_(9)


class RuntimeOptions(Message):
    """runtimeoptions.v1.Options: TOML text, or the path of a file with it, which then counts instead."""

    TYPE_URL: ClassVar[str] = "runtimeoptions.v1.Options"
    type_url: str = string(1)
    config_path: str = string(2)
    config_body: bytes = bytes_(3)

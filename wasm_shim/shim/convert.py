"""Between containerd's messages and our own values; nothing else knows both."""

from collections.abc import Iterator
from typing import Any, Final, assert_never

from wasm_shim import errors
from wasm_shim.container import document
from wasm_shim.guest import Image
from wasm_shim.shim.options import read_options
from wasm_shim.task import events as happened
from wasm_shim.task.ports import Creation, Exit, Metrics, RootMount, TaskState
from wasm_shim.task.status import Status
from wasm_shim.ttrpc import events
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.ttrpc.well_known import Mount, Timestamp

_STATUSES = {
    Status.CREATED: messages.Status.CREATED,
    Status.RUNNING: messages.Status.RUNNING,
    Status.PAUSING: messages.Status.PAUSING,
    Status.PAUSED: messages.Status.PAUSED,
    Status.STOPPED: messages.Status.STOPPED,
}

_LONGEST_ID: Final = 255  # characters: what a file's name may have
_LONGEST_PATH: Final = 4096 + len("file://")


def creation_of(request: messages.CreateTaskRequest) -> Creation:
    """Raises InvalidArgument for what cannot be meant, Unimplemented for a checkpoint."""
    if not request.id or not request.bundle.startswith("/"):
        raise errors.InvalidArgument("Create needs an id and the absolute path of a bundle")
    if "/" in request.id or request.id in (".", "..") or len(request.id) > _LONGEST_ID:
        raise errors.InvalidArgument(f"{request.id!r} is no id; it must be a name without slashes")
    if request.checkpoint:
        raise errors.Unimplemented("wasm-shim restores no checkpoints; create the task without one")
    options = read_options(request.options)
    creation = Creation(
        id=request.id,
        bundle=request.bundle,
        image=Image(options.run.program, options.run.entrypoint),
        call=options.run.invoke,
        terminal=request.terminal,
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        rootfs=tuple(RootMount(m.type, m.source, m.target, tuple(m.options)) for m in request.rootfs),
        systemd_cgroup=options.systemd_cgroup,
    )
    if any("\0" in text for text in _texts(creation)):
        raise errors.InvalidArgument("Create holds a NUL within a text, which no path or name has")
    # They come back in answers and events.
    if any(len(text) > _LONGEST_PATH for text in (request.bundle, request.stdin, request.stdout, request.stderr)):
        raise errors.InvalidArgument("Create holds a path that is longer than the kernel takes")
    return creation


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)


def resources_of(packed: AnyMessage | None) -> dict[str, Any]:
    """The OCI LinuxResources document of an Update; its type URL is not looked at, as by runc's shim.

    Raises InvalidArgument when there is none, or it is no JSON object.
    """
    if packed is None or not packed.value:
        raise errors.InvalidArgument("Update needs resources; name the limits to change")
    resources = document.parse(packed.value, "the resources of Update")
    if not isinstance(resources, dict):
        raise errors.InvalidArgument("the resources of Update are no JSON object; send OCI LinuxResources")
    return resources


def stats_response(metrics: Metrics) -> messages.StatsResponse:
    """The answer to Stats."""
    return messages.StatsResponse(stats=AnyMessage(type_url=metrics.type_url, value=metrics.value))


def state_response(state: TaskState) -> messages.StateResponse:
    """The answer to State."""
    creation = state.creation
    return messages.StateResponse(
        id=creation.id,
        bundle=creation.bundle,
        pid=state.pid,
        status=_STATUSES[state.status],
        stdin=creation.stdin,
        stdout=creation.stdout,
        stderr=creation.stderr,
        terminal=creation.terminal,
        exit_status=state.exit.status if state.exit else 0,
        exited_at=timestamp(state.exit),
    )


def wait_response(exit_: Exit) -> messages.WaitResponse:
    """The answer to Wait."""
    return messages.WaitResponse(exit_status=exit_.status, exited_at=timestamp(exit_))


def delete_response(pid: int, exit_: Exit | None) -> messages.DeleteResponse:
    """The answer to Delete, and to the command of that name."""
    status = exit_.status if exit_ else 0
    return messages.DeleteResponse(pid=pid, exit_status=status, exited_at=timestamp(exit_))


def event_message(event: happened.TaskEvent) -> events.Event:
    """What containerd is told of an event; the field values are those of runc's shim."""
    message: events.Event
    match event:
        case happened.Created(creation, pid):
            message = _task_create(creation, pid)
        case happened.Started(id_, pid):
            message = events.TaskStart(container_id=id_, pid=pid)
        case happened.Exited(id_, pid, exit_):
            at = timestamp(exit_)
            message = events.TaskExit(container_id=id_, id=id_, pid=pid, exit_status=exit_.status, exited_at=at)
        case happened.Deleted(id_, pid, last):
            status = last.status if last else 0
            message = events.TaskDelete(container_id=id_, pid=pid, exit_status=status, exited_at=timestamp(last))
        case happened.Paused(id_):
            message = events.TaskPaused(container_id=id_)
        case happened.Resumed(id_):
            message = events.TaskResumed(container_id=id_)
        case happened.OutOfMemory(id_):
            message = events.TaskOOM(container_id=id_)
        case _:
            assert_never(event)
    return message


def _task_create(creation: Creation, pid: int) -> events.TaskCreate:
    streams = events.TaskIO(
        stdin=creation.stdin, stdout=creation.stdout, stderr=creation.stderr, terminal=creation.terminal
    )
    rootfs = [Mount(type=m.type, source=m.source, target=m.target, options=list(m.options)) for m in creation.rootfs]
    return events.TaskCreate(container_id=creation.id, bundle=creation.bundle, rootfs=rootfs, io=streams, pid=pid)


def timestamp(exit_: Exit | None) -> Timestamp | None:
    """When a process ended, as protobuf has it."""
    return moment(exit_.at) if exit_ else None


def moment(at: float) -> Timestamp:
    """A time in seconds since the epoch, as protobuf has it."""
    seconds = int(at)
    return Timestamp(seconds=seconds, nanos=int((at - seconds) * 1e9))

"""Between the Task service's messages and our own values; nothing else knows both."""

from wasm_shim import errors
from wasm_shim.guest import Image
from wasm_shim.task.ports import Creation, Exit, TaskState
from wasm_shim.task.status import Status
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Timestamp
from wasm_shim.ttrpc.wire import DecodeError

_STATUSES = {
    Status.CREATED: messages.Status.CREATED,
    Status.RUNNING: messages.Status.RUNNING,
    Status.STOPPED: messages.Status.STOPPED,
}


def creation_of(request: messages.CreateTaskRequest) -> Creation:
    """Raises InvalidArgument when the options are damaged."""
    options = messages.RunOptions()
    if request.options is not None and request.options.type_url == messages.RunOptions.TYPE_URL:
        try:
            options = messages.RunOptions.decode(request.options.value)
        except DecodeError as error:
            raise errors.InvalidArgument(f"cannot read the options of Create: {error}") from error
    if not request.id or not request.bundle.startswith("/"):
        raise errors.InvalidArgument("Create needs an id and the absolute path of a bundle")
    return Creation(
        id=request.id,
        bundle=request.bundle,
        image=Image(options.program, options.entrypoint),
        call=options.invoke,
        terminal=request.terminal,
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
    )


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


def delete_response(state: TaskState) -> messages.DeleteResponse:
    """The answer to Delete."""
    status = state.exit.status if state.exit else 0
    return messages.DeleteResponse(pid=state.pid, exit_status=status, exited_at=timestamp(state.exit))


def timestamp(exit_: Exit | None) -> Timestamp | None:
    """When a process ended, as protobuf has it."""
    if exit_ is None:
        return None
    seconds = int(exit_.at)
    return Timestamp(seconds=seconds, nanos=int((exit_.at - seconds) * 1e9))

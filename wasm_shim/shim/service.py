"""The Task service: method name and request bytes in, response bytes or a status out; no transport.

Source: containerd's api/runtime/task/v3 (v2 is the same on the wire). Methods that are not served answer
UNIMPLEMENTED, as containerd's runtime-v2 documentation asks.
"""

import os
from collections.abc import Callable

from wasm_shim.errors import NotFound, Unimplemented, WasmShimError
from wasm_shim.shim import convert
from wasm_shim.task.manager import TaskManager
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.codes import code_of
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.server import Reply
from wasm_shim.ttrpc.well_known import Empty
from wasm_shim.ttrpc.wire import DecodeError
from wasm_shim.version import VERSION

Method = Callable[[bytes, Reply], None]
Drain = Callable[[Callable[[], None]], None]  # calls back when nothing is left to be told

_NOT_SERVED = {
    "Exec": "wasm-shim adds no processes to a container yet; start another container instead",
    "Checkpoint": "wasm-shim writes no checkpoints; stop the task and start it again instead",
}


class TaskService:
    """Serves the tasks of a manager; `shut_down` is called when a client has asked for it and no task is left.

    Before that, and before the client's answer, `drain` has time to tell others what has happened. With it the shim
    is containerd's, and goes as well when a creation has failed whose client is no more: a containerd that was killed
    meanwhile may not know that there is a shim to shut down (1.6 does not, its issue 6860).
    """

    def __init__(self, manager: TaskManager, shut_down: Callable[[], None], drain: Drain | None = None) -> None:
        self._manager, self._shut_down = manager, shut_down
        self._drain = drain
        self._asking: list[Reply] = []  # to whoever wants us to leave, while it drains
        self._leaving = False
        self._methods: dict[str, Method] = {
            "Create": self._create,
            "Start": self._start,
            "State": self._state,
            "Wait": self._wait,
            "Kill": self._kill,
            "Pids": self._pids,
            "CloseIO": self._close_io,
            "ResizePty": self._resize_pty,
            "Pause": self._pause,
            "Resume": self._resume,
            "Update": self._update,
            "Stats": self._stats,
            "Delete": self._delete,
            "Connect": self._connect,
            "Shutdown": self._shutdown,
        }

    def handle(self, service: str, method: str, payload: bytes, reply: Reply) -> None:
        """Serve one request; the reply may come later."""
        try:
            if service not in messages.TASK_SERVICES or method not in self._methods:
                sentence = f"{service}/{method} is not served by wasm-shim {VERSION}"
                raise Unimplemented(_NOT_SERVED.get(method, sentence))
            self._methods[method](payload, reply)
        except DecodeError as error:
            reply.fail(Code.INVALID_ARGUMENT, f"cannot read the request of {method}: {error}")
        except WasmShimError as error:
            _refuse(reply, error)

    def _create(self, payload: bytes, reply: Reply) -> None:
        def answer(outcome: int | WasmShimError) -> None:
            if not isinstance(outcome, WasmShimError):
                _send(reply, messages.CreateTaskResponse(pid=outcome))
                return
            unheard = reply.unheard
            _refuse(reply, outcome)
            if unheard and self._drain and self._manager.empty:
                self._leave(self._drain)

        self._manager.create(convert.creation_of(messages.CreateTaskRequest.decode(payload)), answer)

    def _start(self, payload: bytes, reply: Reply) -> None:
        request = messages.StartRequest.decode(payload)
        _only_init(request.exec_id)
        _send(reply, messages.StartResponse(pid=self._manager.start(request.id)))

    def _state(self, payload: bytes, reply: Reply) -> None:
        request = messages.StateRequest.decode(payload)
        _only_init(request.exec_id)
        _send(reply, convert.state_response(self._manager.state(request.id)))

    def _wait(self, payload: bytes, reply: Reply) -> None:
        request = messages.WaitRequest.decode(payload)
        _only_init(request.exec_id)
        self._manager.wait(request.id, lambda exit_: _send(reply, convert.wait_response(exit_)))

    def _kill(self, payload: bytes, reply: Reply) -> None:
        request = messages.KillRequest.decode(payload)
        _only_init(request.exec_id)
        self._manager.kill(request.id, request.signal)  # to `all` is the same: a guest is one process
        _send(reply, Empty())

    def _pids(self, payload: bytes, reply: Reply) -> None:
        request = messages.PidsRequest.decode(payload)
        processes = [messages.ProcessInfo(pid=pid) for pid in self._manager.pids(request.id)]
        _send(reply, messages.PidsResponse(processes=processes))

    def _close_io(self, payload: bytes, reply: Reply) -> None:
        request = messages.CloseIORequest.decode(payload)
        _only_init(request.exec_id)
        self._manager.state(request.id)  # NotFound, also where nothing is to be closed
        if request.stdin:
            self._manager.close_stdin(request.id)
        _send(reply, Empty())

    def _resize_pty(self, payload: bytes, reply: Reply) -> None:
        request = messages.ResizePtyRequest.decode(payload)
        _only_init(request.exec_id)
        self._manager.resize(request.id, request.width, request.height)
        _send(reply, Empty())

    def _pause(self, payload: bytes, reply: Reply) -> None:
        def answer(error: WasmShimError | None) -> None:
            if error:
                _refuse(reply, error)
            else:
                _send(reply, Empty())

        self._manager.pause(messages.PauseRequest.decode(payload).id, answer)

    def _resume(self, payload: bytes, reply: Reply) -> None:
        self._manager.resume(messages.ResumeRequest.decode(payload).id)
        _send(reply, Empty())

    def _update(self, payload: bytes, reply: Reply) -> None:
        request = messages.UpdateTaskRequest.decode(payload)
        self._manager.state(request.id)  # NotFound, before anything is said of the resources
        self._manager.update(request.id, convert.resources_of(request.resources))
        _send(reply, Empty())

    def _stats(self, payload: bytes, reply: Reply) -> None:
        request = messages.StatsRequest.decode(payload)
        _send(reply, convert.stats_response(self._manager.stats(request.id)))

    def _delete(self, payload: bytes, reply: Reply) -> None:
        request = messages.DeleteRequest.decode(payload)
        _only_init(request.exec_id)
        self._manager.delete(request.id, lambda state: _send(reply, convert.delete_response(state.pid, state.exit)))

    def _connect(self, payload: bytes, reply: Reply) -> None:
        request = messages.ConnectRequest.decode(payload)
        pid = self._manager.connect(request.id)
        _send(reply, messages.ConnectResponse(shim_pid=os.getpid(), task_pid=pid, version=VERSION))

    def _shutdown(self, payload: bytes, reply: Reply) -> None:
        messages.ShutdownRequest.decode(payload)
        if not self._manager.empty:  # containerd may ask while other containers of the pod live
            _send(reply, Empty())
            return
        self._asking.append(reply)
        self._leave(self._drain or (lambda drained: drained()))

    def _leave(self, drain: Drain) -> None:
        if not self._leaving:
            self._leaving = True
            drain(self._drained)

    def _drained(self) -> None:
        replies, self._asking = self._asking, []
        self._leaving = self._manager.empty  # still: one may have been created meanwhile
        if self._leaving:
            self._shut_down()  # first: who has the answer may start a shim at the same place
        for reply in replies:
            _send(reply, Empty())


def _send(reply: Reply, message: Message) -> None:
    reply.send(message.encode())


def _refuse(reply: Reply, error: WasmShimError) -> None:
    reply.fail(code_of(error), error.message)


def _only_init(exec_id: str) -> None:
    if exec_id:
        raise NotFound(f"no exec process {exec_id}; exec is not served yet")

"""`wasm-shim run`: a bundle, a pod shim from the zygote, and the Task API as containerd speaks it."""

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from wasm_shim.cli.output import OURS, Refusal, refusal_of_program
from wasm_shim.cli.request import RunRequest, read_request
from wasm_shim.cli.streams import Streams
from wasm_shim.cli.terminal import RawTerminal, window_size
from wasm_shim.eventloop import EventLoop
from wasm_shim.paths import user_paths
from wasm_shim.records import Record, create_record
from wasm_shim.spawn import SpawnRequest
from wasm_shim.steps import VARIABLE, reached
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.codes import error_of
from wasm_shim.ttrpc.envelope import RpcError
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.zygote.client import check_socket_path, spawn_shim

_FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
)  # fmt: skip
_SHIM_KILLED = "the pod shim was killed, and the guest with it; run it again"


def run(values: dict[str, Any]) -> int:
    """Run a container in the foreground; the guest's exit code. Raises Refusal or WasmShimError."""
    request = read_request(values)
    if request.terminal and request.interactive and not os.isatty(0):
        raise Refusal(OURS, "-i with -t needs a terminal as stdin, and it is none; leave out -t")
    paths = user_paths(os.environ)
    state = {key: getattr(request, key) for key in ("name", "program", "image", "digest", "command")}
    signals = _Signals()
    record, lock = create_record(paths, request.config, state, remove=request.remove)
    started = False
    try:
        reached("cli.prepared")
        foreground = _Foreground(request, record, lock, signals)
        try:
            return foreground.run()
        finally:
            started = foreground.created
    except _Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        reached("cli.exited")
        record.finish(remove=request.remove or not started)
        os.close(lock)


class _Signals:
    """Signals as bytes on a socket that the event loop can wait for."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGWINCH):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and the like
                signal.signal(number, self._handle)
        self.raising = False  # while we wait outside the event loop

    def _handle(self, number: int, _frame: object) -> None:
        """Nothing, as the byte is what counts in the loop; outside of it, nothing else would end a wait."""
        if self.raising and number != signal.SIGWINCH:
            raise _Interrupted(number)


class _Interrupted(Exception):
    """A signal came before there was anything to forward it to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Foreground:
    """One container from spawn to exit; every step is started by the answer to the one before."""

    def __init__(self, request: RunRequest, record: Record, lock: int, signals: _Signals) -> None:
        self._request, self._record = request, record
        self._loop = EventLoop()
        self._signals = signals
        self._outcome: int | Exception | None = None
        self.created = self._deleting = False
        self._streams = Streams(self._loop, interactive=request.interactive, terminal=request.terminal)
        signals.raising = True
        self._owner = self._spawn(lock)
        self._client = self._connect()
        signals.raising = False
        self._raw = RawTerminal(request.terminal and request.interactive)

    def run(self) -> int:
        """The guest's exit code; raises Refusal."""
        self._loop.watch_read(self._signals.reader.fileno(), self._signalled)
        self._call("Create", self._creation(), self._on_created)
        try:
            self._loop.run()
        finally:
            self._raw.restore()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return OURS if self._outcome is None else self._outcome

    def _spawn(self, lock: int) -> socket.socket:
        record = self._record
        check_socket_path(record.socket)
        spawn = SpawnRequest(
            address=record.socket,
            directory=record.directory,
            remove=self._request.remove,
            programs=record.paths.programs,
            hold=os.environ.get(VARIABLE, ""),
        )
        return spawn_shim(record.paths.runtime, spawn, [lock])

    def _connect(self) -> Client:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._record.socket)
        except OSError as error:
            raise Refusal(OURS, _SHIM_KILLED) from error
        return Client(self._loop, connection, self._disconnected)

    def _creation(self) -> messages.CreateTaskRequest:
        request = self._request
        options = messages.RunOptions(program=request.program, entrypoint=request.entrypoint, invoke=request.invoke)
        return messages.CreateTaskRequest(
            id=self._record.id,
            bundle=self._record.directory,
            terminal=request.terminal,
            stdin=self._streams.stdin,
            stdout=self._streams.stdout,
            stderr=self._streams.stderr,
            options=AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=options.encode()),
        )

    def _call(self, method: str, message: Message, then: Callable[[bytes], None]) -> None:
        def answered(payload: bytes | None, error: RpcError | None) -> None:
            if error is not None:
                self._failed(method, error)
            else:
                then(payload or b"")

        self._client.call(messages.TASK_SERVICES[0], method, message.encode(), answered)

    def _tell(self, method: str, message: Message) -> None:
        """Call a method whose answer changes nothing here."""
        self._client.call(messages.TASK_SERVICES[0], method, message.encode(), lambda *_: None)

    def _failed(self, method: str, error: RpcError) -> None:
        if self._client.closed:
            return  # `_disconnected` is called next
        if self._outcome is None:
            domain = error_of(error.code, error.message)
            self._outcome = refusal_of_program(domain) if method == "Create" else Refusal(OURS, error.message)
        self._shut_down()

    def _on_created(self, _: bytes) -> None:
        self.created = True
        reached("cli.created")
        self._streams.start()
        if self._request.terminal:
            self._resize()
        id_ = self._record.id
        self._call("Wait", messages.WaitRequest(id=id_), self._on_exit)
        self._call("Start", messages.StartRequest(id=id_), lambda _: reached("cli.started"))

    def _on_exit(self, payload: bytes) -> None:
        self._outcome = messages.WaitResponse.decode(payload).exit_status
        self._streams.when_drained(self._delete)

    def _delete(self) -> None:
        if self._deleting:
            return
        self._deleting = True
        if self._streams.failure:
            self._outcome = Refusal(OURS, self._streams.failure)
        self._call("Delete", messages.DeleteRequest(id=self._record.id), lambda _: self._shut_down())

    def _shut_down(self) -> None:
        """The shim leaves, and with it the connection: that is the end."""
        self._tell("Shutdown", messages.ShutdownRequest())

    def _disconnected(self) -> None:
        if self._outcome is None:
            self._outcome = Refusal(OURS, _SHIM_KILLED)
        self._owner.close()
        self._loop.stop()

    def _signalled(self) -> None:
        for number in self._signals.reader.recv(64):
            if number == signal.SIGWINCH:
                if self.created and self._request.terminal:
                    self._resize()
            elif self._outcome is not None:  # it has ended, and whoever should take its output does not
                self._delete()
            elif not self.created:  # nothing to forward to: the shim ends with our connection
                self._outcome = 128 + number
                self._client.close()
            else:
                self._tell("Kill", messages.KillRequest(id=self._record.id, signal=number))

    def _resize(self) -> None:
        columns, rows = window_size()
        if columns:
            self._tell("ResizePty", messages.ResizePtyRequest(id=self._record.id, width=columns, height=rows))



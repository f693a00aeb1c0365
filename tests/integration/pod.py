"""A pod shim that belongs to a test, and calls of its Task service, as containerd would make them."""

import json
import socket
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.support import DEADLINE, Environment
from wasm_shim.eventloop import EventLoop
from wasm_shim.spawn import SpawnRequest
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import RpcError
from wasm_shim.ttrpc.protobuf import Message
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.zygote.client import spawn_shim

SERVICE, OLDER_SERVICE = messages.TASK_SERVICES
ID: Final = "ab" * 32


class Waiting:
    """A call that may not have been answered yet."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.answer: tuple[bytes | None, RpcError | None] | None = None

    def answered(self, payload: bytes | None, error: RpcError | None) -> None:
        """The client's callback."""
        self.answer = payload, error
        self._loop.stop()

    def result(self) -> bytes:
        """Wait for the answer; raises RpcError."""
        while self.answer is None:
            self._loop.run()
        payload, error = self.answer
        if error:
            raise error
        return payload or b""


class Pod:
    """A pod shim that belongs to the test, and a bundle for it."""

    def __init__(self, home: Environment, program: Path, *words: str, hold: str = "") -> None:
        """The shim is asked for at the zygote that serves the home; `hold` is the value of steps.VARIABLE."""
        self.bundle = Path(home["XDG_STATE_HOME"], "wasm-shim/containers", ID)
        self.bundle.mkdir(parents=True, mode=0o700)
        process = {"args": ["/program", *words], "cwd": "/", "env": []}
        (self.bundle / "config.json").write_text(json.dumps({"process": process}), encoding="ascii")
        runtime = f"{home['XDG_RUNTIME_DIR']}/wasm-shim"
        self.address = f"{runtime}/{ID[:12]}"
        programs = f"{home['XDG_CACHE_HOME']}/wasm-shim/programs"
        request = SpawnRequest(self.address, str(self.bundle), remove=True, programs=programs, hold=hold)
        self.owner = spawn_shim(runtime, request, [])
        self.loop = EventLoop()
        self._clients: list[Client] = []
        self.client = self.connect()
        self._options = messages.RunOptions(program=str(program), entrypoint="/program").encode()

    def connect(self) -> Client:
        """One more connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        self._clients.append(Client(self.loop, connection))
        return self._clients[-1]

    def begin(
        self, method: str, request: Message | bytes, service: str = SERVICE, client: Client | None = None
    ) -> Waiting:
        """Call without waiting for the answer."""
        waiting = Waiting(self.loop)
        payload = request if isinstance(request, bytes) else request.encode()
        (client or self.client).call(service, method, payload, waiting.answered, timeout=DEADLINE)
        return waiting

    def call(self, method: str, request: Message | bytes, service: str = SERVICE) -> bytes:
        """The answer; raises RpcError."""
        return self.begin(method, request, service).result()

    def refused(self, method: str, request: Message | bytes, service: str = SERVICE) -> tuple[int, str]:
        """Code and message of the error that answers."""
        with pytest.raises(RpcError) as caught:
            self.call(method, request, service)
        return caught.value.code, caught.value.message

    def create(self, **fields: Any) -> messages.CreateTaskRequest:
        """A request that fits the bundle."""
        options = AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=self._options)
        ours: dict[str, Any] = {"id": "one", "bundle": str(self.bundle), "options": options}
        return messages.CreateTaskRequest(**ours | fields)

    def created(self, **fields: Any) -> int:
        """Create, and the pid."""
        return messages.CreateTaskResponse.decode(self.call("Create", self.create(**fields))).pid

    def state(self) -> messages.StateResponse:
        """State of the only task."""
        return messages.StateResponse.decode(self.call("State", messages.StateRequest(id="one")))

    def close(self) -> None:
        """Hang up as a client that has died would."""
        for client in self._clients:
            client.close()
        self.owner.close()
        self.loop.close()

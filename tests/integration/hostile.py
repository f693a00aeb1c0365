"""What the tests with malformed input share: a pod shim as `start` makes it, and what it may answer and leave."""

import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings

from tests.conftest import private_home
from tests.integration.commands import Commands, kill
from tests.integration.pod import Pod
from tests.integration.rooted import CGROUPS, Container, stock_spec
from tests.integration.support import DEADLINE, need_private_mounts
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code, Request, Response, RpcError
from wasm_shim.ttrpc.frames import REQUEST

if TYPE_CHECKING:
    from wasm_shim.ttrpc.client import Client

SERVICE: Final = messages.TASK_SERVICES[0]
# Ours would be the fault, and what Python says of itself is no sentence for a person.
_FAULTS: Final = (Code.UNKNOWN, Code.INTERNAL)
_PYTHON: Final = re.compile(
    r"\bfault\b|Traceback|Errno|codec|recursion|NoneType|sys\.\w|\w(Error|Exception)\b|\w+ object at"
)
_LONGEST: Final = 2000  # characters of a message


def examples(count: int) -> settings:
    """So many, each as slow as it is; what was found is in the product's unit tests, so nothing is kept."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, suppress_health_check=checks, database=None)


class StartedPod(Pod):
    """A pod shim that the `start` command has made, with one connection."""

    def __init__(self, home: dict[str, str]) -> None:
        self.commands = Commands(home)
        self.bundle = self.commands.bundle("pod")
        self.address = self.commands.address("pod")
        self.loop = EventLoop()
        self._clients: list[Client] = []
        self.client = self.connect()
        [self.pid] = self.commands.shims()

    def create(self, **fields: Any) -> messages.CreateTaskRequest:
        """A request for the only task."""
        return messages.CreateTaskRequest(**{"id": "one"} | {name: value for name, value in fields.items() if value})

    def close(self) -> None:
        """Hang up, and end the shim."""
        for client in self._clients:
            client.close()
        self.loop.close()
        kill(*self.commands.shims())

    def outcome(self, method: str, payload: bytes, service: str = SERVICE) -> int:
        """Call, and the code of the answer, which must be one that bad input may have."""
        try:
            self.begin(method, payload, service).result()
        except RpcError as error:
            check(error.code, error.message)
            return error.code
        return Code.OK

    def settle(self) -> None:
        """Wait until it has seen all that was sent before, hang-ups included; it must live.

        Each call takes a round of its loop at least; to accept, to read and to see the end take one each.
        """
        for _ in range(6):
            answer = messages.ConnectResponse.decode(self.call("Connect", messages.ConnectRequest(id="nobody")))
            assert answer.shim_pid == self.pid

    def memory(self) -> int:
        """The bytes that it has to itself now."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) << 10


class Wire:
    """A connection on which anything can be sent."""

    def __init__(self, pod: Pod) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(pod.address)  # waits where many do
        self._socket.settimeout(DEADLINE)
        self._reader = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """All of it, or as much as is taken before the shim hangs up."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def fill(self, data: bytes) -> int:
        """Send it again and again until the shim takes no more, and how many bytes that were."""
        self._socket.settimeout(0.5)
        sent, view = 0, memoryview(data)
        try:
            while True:
                sent += self._socket.send(view[sent % len(data) :])
        except TimeoutError:
            return sent

    def answers(self) -> Iterator[tuple[int, Response]]:
        """The stream and the content of each answer until the shim hangs up; sends no more."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while answer := self.answer():
                yield answer
        except OSError:  # it has hung up with something unread
            return

    def answer(self) -> tuple[int, Response] | None:
        """The next one."""
        header = self._reader.read(10)
        if len(header) < 10:
            return None
        length, stream, kind, flags = struct.unpack(">IIBB", header)
        assert (kind, flags) == (2, 0)
        response = Response.decode(self._reader.read(length))
        if response.status:
            check(response.status.code, response.status.message)
        return stream, response

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frame(stream: int, payload: bytes, kind: int = REQUEST, flags: int = 0, length: int | None = None) -> bytes:
    """One frame, whose announced length may be wrong."""
    return struct.pack(">IIBB", len(payload) if length is None else length, stream, kind, flags) + payload


def call(method: str, payload: bytes, service: str = SERVICE) -> bytes:
    """The payload of a request's frame."""
    return Request(service=service, method=method, payload=payload).encode()


def check(code: int, message: str) -> None:
    """What answers bad input: a code that says so, and one sentence without a word of Python's."""
    assert code not in _FAULTS, f"{code}: {message[:2000]}"
    assert message.isprintable(), message[:2000]
    check_sentence(message)


def check_sentence(message: str) -> None:
    """One sentence, of bounded length, without a word of Python's."""
    assert not _PYTHON.search(message), message[:2000]
    assert "\n" not in message, message[:2000]
    assert 0 < len(message) <= _LONGEST, message[:2000]


class Bundle(Container):
    """A container in a started pod shim whose config.json is whatever a test wants."""

    pod: StartedPod

    def attempt(self, document: bytes, **fields: Any) -> int:
        """Create from it, end what was made, and the code; nothing may be left."""
        self.write(document)
        code = self.pod.outcome("Create", self.asked(**fields).encode())
        if code == Code.OK:
            self.pod.outcome("Start", messages.StartRequest(id="one").encode())
            self.pod.outcome("Kill", messages.KillRequest(id="one", signal=9).encode())
            self.pod.call("Wait", messages.WaitRequest(id="one"))
            self.pod.call("Delete", messages.DeleteRequest(id="one"))
        self.pod.settle()
        self.remove_parents()
        assert self.left() == []
        return code

    def write(self, document: bytes) -> None:
        """Let it be config.json."""
        (self.bundle / "config.json").write_bytes(document)

    def asked(self, **fields: Any) -> messages.CreateTaskRequest:
        """A request for this bundle."""
        return self.pod.create(**{"bundle": str(self.bundle), "rootfs": self.rootfs} | fields)

    def fresh(self) -> dict[str, Any]:
        """A good document that says hello."""
        document = stock_spec(f"/{self.cgroup}")
        document["process"]["args"] = ["/app.wasm", "hello"]
        return document

    def runs_well(self) -> None:
        """The same shim runs a good container."""
        self.spec = self.fresh()
        assert self.run("hello").stdout == "hello from kit\n"
        self.pod.settle()

    def remove_parents(self) -> None:
        """The directories above a cgroup stay when it is removed, as with runc; here they are the test's."""
        for top in (CGROUPS / self.cgroup, *CGROUPS.glob(f"*/{self.cgroup}")):
            for path, _, _ in os.walk(top, topdown=False):
                if path != str(top):
                    Path(path).rmdir()
            if top.exists() and json.loads((self.bundle / "config.json").read_bytes()):
                top.rmdir()


@contextmanager
def bundle(program: Path, directory: Path) -> Iterator[Bundle]:
    """Such a container; at the end it must run well, and nothing of it may be left."""
    need_private_mounts()
    with private_home(os.geteuid()) as home:
        pod = StartedPod(home)
        try:
            container = Bundle(pod, directory, program)
            container.runs_well()
            container = Bundle(pod, directory / "again", program)  # the program is loaded, and stays
            yield container
            container.runs_well()
        finally:
            pod.close()

"""Wasm containers of a test on a real containerd: their image, those that run, and what the kernel says of them."""

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.containerd.daemon import Daemon
from tests.containerd.images import Content, Image, wasm_image
from tests.integration.pod import SERVICE, Waiting
from tests.integration.support import wait_for
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.protobuf import Message

APP: Final = "/app.wasm"  # kit, for WASI 0.1
COMPONENT: Final = "/kit.wasm"  # kit, for WASI 0.2
CGROUPS: Final = Path("/sys/fs/cgroup")


def kit_image(guest: Callable[[str], Path], **settings: Any) -> Image:
    """An image with guests that run; `settings` are those of wasm_image, `name` and `more` files among them."""
    more: dict[str, Content] = settings.pop("more", {})
    files: dict[str, Content] = {
        "app.wasm": guest("kit_p1.wasm"),
        "kit.wasm": guest("kit_p2.wasm"),
        "hello.wat": guest("hello.wat"),
        "code.wat": guest("exit_with_code.wat"),
        "data/open": None,
    }
    return wasm_image(settings.pop("name", "localhost/kits:1"), files | more, [APP], **settings)


class Task(NamedTuple):
    """A container whose guest has said "ready", and the `ctr run` that waits for its end."""

    daemon: Daemon
    name: str
    pid: int
    ctr: subprocess.Popen[str]

    def kill(self, signal: str) -> int:
        """Send it a signal; the exit code."""
        self.daemon.run("task", "kill", "--signal", signal, self.name)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        return self.ctr.wait(30)

    def limit(self, controller: str, *names: str) -> str:
        """What the only file of these names in its cgroup holds: one is of version 1, one of version 2."""
        [file] = [path for name in names if (path := self.cgroup(controller) / name).exists()]
        return file.read_text(encoding="ascii").strip()

    def cgroup(self, controller: str) -> Path:
        """The directory of its cgroup that has this controller; the one of version 2 has all."""
        lines = Path(f"/proc/{self.pid}/cgroup").read_text(encoding="ascii").splitlines()
        paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
        return CGROUPS / controller / paths[controller][1:] if controller in paths else CGROUPS / paths[""][1:]


def words(daemon: Daemon, image: Image, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The words of a `ctr run` that removes its container, which has a new name."""
    return daemon.container(image, daemon.new_id(), *arguments, options=["--rm", *options])


def run(daemon: Daemon, image: Image, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """A container's whole life."""
    return daemon.run(*words(daemon, image, *arguments, options=options), check=False)


def pid_of(daemon: Daemon, name: str) -> int:
    """The pid of a task on the host."""
    rows = [line.split() for line in daemon.run("task", "list").stdout.splitlines()]
    [pid] = [int(row[1]) for row in rows if row[0] == name]
    return pid


@contextmanager
def running(
    daemon: Daemon, image: Image, *arguments: str, options: Sequence[str] = (), name: str = ""
) -> Iterator[Task]:
    """Run a guest that says "ready"; killed at the end if it runs still."""
    name = name or daemon.new_id()
    command = daemon.container(image, name, *arguments, options=["--rm", *options])
    with daemon.ctr(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ctr:
        assert ctr.stdout
        try:
            wait_for(ctr.stdout.fileno(), b"ready\n")
            task = Task(daemon, name, pid_of(daemon, name), ctr)
            yield task
            if ctr.poll() is None:
                task.kill("SIGKILL")
        finally:
            ctr.kill()


def ask(daemon: Daemon, method: str, request: Message) -> bytes:
    """Call the Task service of the only pod shim, as containerd would; raises RpcError."""
    [address] = daemon.shim_root.glob("s/*")
    loop = EventLoop()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(address))
    client = Client(loop, connection)
    try:
        waiting = Waiting(loop)
        client.call(SERVICE, method, request.encode(), waiting.answered, timeout=30)
        return waiting.result()
    finally:
        client.close()
        loop.close()

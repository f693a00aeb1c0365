"""The `delete` command: end one container, whether its pod shim lives, hangs or is dead, and leave nothing of it.

containerd runs it when it has lost a shim, and after every normal end as well, with 5 seconds to go (its timeout
io.containerd.timeout.shim.cleanup). Whatever is missing or cannot be read has gone, or is not ours to remove.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wasm_shim.container import document
from wasm_shim.container.cgroup import Cgroup, cgroup_at, path_without_spec
from wasm_shim.errors import WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.kernel.calls import peer_of
from wasm_shim.paths import shim_paths
from wasm_shim.shim import address
from wasm_shim.shim.convert import delete_response
from wasm_shim.steps import reached
from wasm_shim.task.ports import Exit
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import RpcError
from wasm_shim.ttrpc.wire import DecodeError

if TYPE_CHECKING:
    from wasm_shim.ttrpc.protobuf import Message

_SHIM_SECONDS: Final = 2.5  # for a shim to kill, delete and leave; it may take 2 of them to tell of its last events
_KILL_SECONDS: Final = 0.5  # for a hung shim to end
_CGROUP_SECONDS: Final = 1.0  # for the processes of a cgroup to end
_KILLED: Final = 128 + signal.SIGKILL
_ZYGOTE: Final = b"wasm_shim.zygote.server"  # in the command line of all that it forks


def delete(namespace: str, id_: str, containerd: str, bundle: str, environ: Mapping[str, str]) -> bytes:
    """Remove what is left of a container; an encoded DeleteResponse. Raises InvalidArgument for a root too long.

    `containerd` is the address of its main socket. Repeating it does no harm.
    """
    reached("delete.begun")
    paths = shim_paths(environ)
    config = address.read_config(bundle)
    pod = address.pod_of(config)
    path = address.socket_path(paths, containerd, namespace, pod or id_)
    response, shim = _tell_shim(path, id_, alone=not pod)
    reached("delete.told")
    _empty_cgroup(config, id_, shim)
    reached("delete.emptied")
    try:
        address.remove_dead(paths.root, path)
    except OSError:
        pass  # the next start at this place replaces it
    if response is None:
        response = delete_response(0, Exit(_KILLED, time.time()))
    return response.encode()


def _tell_shim(path: str, id_: str, *, alone: bool) -> tuple[messages.DeleteResponse | None, int]:
    """Have the shim end the container; what it says of it, or None. A shim that hangs is killed if it has no other.

    And its pid, as far as it may still have a guest of this container, else 0.
    """
    try:
        connection = address.connect(path)
    except OSError:
        return None, 0
    if connection is None:
        return None, 0
    with connection:
        pid = peer_of(connection)[0]
        farewell = _Farewell(connection.dup(), id_)
        farewell.run()
        if farewell.hung and alone:
            _kill(pid, connection)
    return farewell.response, pid if alone or farewell.hung else 0


class _Farewell:
    """Kill, Wait, Delete and Shutdown at a shim: each when the one before was answered, whatever the answer was."""

    def __init__(self, connection: socket.socket, id_: str) -> None:
        self.response: messages.DeleteResponse | None = None
        self._over = False
        self._loop = EventLoop()
        self._client = Client(self._loop, connection, self._left)
        self._steps: list[tuple[str, Message]] = [
            ("Shutdown", messages.ShutdownRequest(id=id_)),
            ("Delete", messages.DeleteRequest(id=id_)),
            ("Wait", messages.WaitRequest(id=id_)),
            ("Kill", messages.KillRequest(id=id_, signal=signal.SIGKILL, all=True)),
        ]

    @property
    def hung(self) -> bool:
        """Whether the time ended before the container did; a shim that only has yet to leave will do so."""
        return bool(self._steps) and not self._over

    def run(self) -> None:
        """Until all is said, the shim has left, or the time is over."""
        self._loop.call_later(_SHIM_SECONDS, self._loop.stop)
        self._next()
        self._loop.run()
        self._loop.close()

    def _next(self) -> None:
        if not self._steps:
            self._left()
            return
        method, request = self._steps.pop()

        def answered(payload: bytes | None, error: RpcError | None) -> None:
            if method == "Delete" and error is None:
                self._note(payload or b"")
            self._next()

        self._client.call(messages.TASK_SERVICES[0], method, request.encode(), answered)

    def _note(self, payload: bytes) -> None:
        try:
            self.response = messages.DeleteResponse.decode(payload)
        except DecodeError:
            pass  # then we say that it was killed, which it was

    def _left(self) -> None:
        self._over = True
        self._loop.stop()


def _kill(pid: int, connection: socket.socket) -> None:
    """Kill the process at the other end."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):  # no pid where so many wait that the kernel has not connected us
        return
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):  # had it ended, the connection would have, too: so this is its pid and nobody else's
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], _KILL_SECONDS)
    os.close(pidfd)


def _empty_cgroup(config: Mapping[str, Any], id_: str, shim: int) -> None:
    """Kill what is in the container's cgroup and remove it; not where others run, who make Create fail as well."""
    try:
        path = document.optional_text(document.section(config, "linux"), "cgroupsPath")
    except WasmShimError:
        return  # then there never was one
    if not path:
        if not config.get("root"):
            return  # it has none
        path = path_without_spec(id_)
    for systemd in (False, True):  # the driver was an option of Create, which is not written down
        try:
            cgroup = cgroup_at(path, systemd=systemd)
            if all(_is_left(pid, shim) for pid in cgroup.pids()):
                _kill_all(cgroup)
                cgroup.remove()
        except (OSError, WasmShimError):
            continue  # it has gone, or something in it does not end, or the path means nothing to this driver


def _is_left(pid: int, shim: int) -> bool:
    """Whether a process has ended, or is a guest whose shim has died or is this one.

    A guest of another shim is another container's, which was given the same cgroup and had it first.
    """
    try:
        line = _command(pid)
        if not line or _ZYGOTE not in line:
            return not line
        parent = _parent(pid)
        return parent == shim or _ZYGOTE not in _command(parent)
    except (FileNotFoundError, ProcessLookupError):
        return True


def _command(pid: int) -> bytes:
    """The command line, which what a zygote forked cannot change; empty when it has ended. Raises OSError, too."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def _parent(pid: int) -> int:
    """The pid of its parent: its own has died when that is a process that takes in orphans. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def _kill_all(cgroup: Cgroup) -> None:
    """Kill again and again, as a process may fork meanwhile, until the cgroup is empty or the time is over."""
    deadline = time.monotonic() + _CGROUP_SECONDS
    while (pids := cgroup.pids()) and time.monotonic() < deadline:
        cgroup.kill()
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            select.select([pidfd], [], [], max(deadline - time.monotonic(), 0))
            os.close(pidfd)

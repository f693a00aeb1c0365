"""Ask the zygote for a pod shim or a command, starting the zygote where there is none."""

import os
import socket

from wasm_shim.errors import Internal, Unavailable
from wasm_shim.paths import open_private
from wasm_shim.resident import Resident, StartLock, reach
from wasm_shim.spawn import BEGUN, STALE, CommandRequest, SpawnRequest, encode_request
from wasm_shim.steps import VARIABLE
from wasm_shim.version import VERSION
from wasm_shim.zygote.stamp import PACKAGES, packages_stamp

_WHAT, _REMEDY = "runtime", "set XDG_RUNTIME_DIR to a directory of your own"
_SHIM_REMEDY = "set WASM_SHIM_ROOT to a directory of your own"
_TRIES = 5
_NO_ANSWER = "the zygote ends before it answers; look for what kills processes of this user"
_PATH_LIMIT = 107  # bytes in sockaddr_un's path before its NUL (unix(7))
_MODULE = "wasm_shim.zygote.server"
_PASSED_ON = ("WASM_SHIM_ZYGOTE_IDLE", VARIABLE)


def spawn_shim(runtime_directory: str, request: SpawnRequest, descriptors: list[int]) -> socket.socket:
    """A connection to the pod shim that a zygote has forked for us; closing it ends the shim.

    Raises Unavailable or Internal when no zygote can be had, and what the shim refuses.
    """
    os.close(open_private(runtime_directory, _WHAT, _REMEDY))
    path = f"{runtime_directory}/zygote-{_identity()}.sock"
    check_socket_path(path)
    encoded = encode_request(request)
    for _ in range(_TRIES):
        connection = reach(path, _zygote(_REMEDY))
        answer = _ask(connection, encoded, descriptors, b"\n").decode(errors="surrogateescape").rstrip("\n")
        if answer.startswith("+"):
            return connection
        connection.close()
        if answer:
            raise Internal(answer[1:])
        # No answer: the zygote left, or was killed, while we asked.
    raise Unavailable(_NO_ANSWER)


def run_command(path: str, request: CommandRequest, stdin: int) -> bytes | None:
    """What a command of containerd's writes to standard output, carried out by a child of the zygote at `path`.

    None when the child was killed after it began to read `stdin`. Raises Unavailable or Internal when no zygote can
    be had, and Internal with what the command refuses.
    """
    check_socket_path(path)
    os.close(open_private(os.path.dirname(path), _WHAT, _SHIM_REMEDY))
    encoded = encode_request(request)
    for _ in range(_TRIES):
        seen = os.stat(path) if os.path.exists(path) else None
        with reach(path, _zygote(_SHIM_REMEDY)) as connection:
            answer = _ask(connection, encoded, [stdin], b"")
        said = answer.removeprefix(BEGUN)
        if said.startswith(b"+"):
            return said[1:]
        if said == STALE:
            _retire(path, seen)
        elif said:
            raise Internal(said[1:].decode(errors="replace").strip())
        elif answer:
            return None
    raise Unavailable(_NO_ANSWER)


def _retire(path: str, seen: os.stat_result | None) -> None:
    """Take the place of a stale zygote, whose socket was `seen`; it goes on for its children, and then leaves."""
    lock = StartLock.take(path)
    try:
        if seen is not None and os.path.samestat(os.stat(path), seen):
            os.unlink(path)
    except FileNotFoundError:
        pass  # somebody else was faster
    finally:
        lock.release()


def check_socket_path(path: str) -> None:
    """Raise Unavailable for a path that the kernel cannot take as a socket's address."""
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise Unavailable(f"the socket path {path} is longer than {_PATH_LIMIT} bytes; set XDG_RUNTIME_DIR shorter")


def _identity() -> str:
    """12 hex that differ for each version, installation, user, root, and for all that a fork inherits.

    An upgrade so starts a zygote of its own beside the old one; and a guest has the limits, priority, cgroup,
    groups, capabilities and kernel namespaces of its own caller, not those of whoever came first.
    """
    import zlib  # not hashlib: OpenSSL takes 2 ms to load, and nobody attacks this name

    parts = [VERSION, PACKAGES, str(os.geteuid()), os.environ.get("WASM_SHIM_ROOT", ""), *packages_stamp()]
    parts += [str(os.stat(f"/proc/self/ns/{name}").st_ino) for name in ("mnt", "pid", "user")]
    parts += [str(os.getpriority(os.PRIO_PROCESS, 0)), str(os.getegid()), str(sorted(os.getgroups()))]
    for path in ("/proc/self/limits", "/proc/self/cgroup"):
        with open(path, encoding="utf-8", errors="replace") as file:
            parts.append(file.read())
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        parts += [line for line in file if line.startswith("Cap")]
    text = "\0".join(parts).encode()
    return f"{zlib.crc32(text):08x}{zlib.adler32(text) & 0xFFFF:04x}"


def _zygote(remedy: str) -> Resident:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return Resident("zygote", _MODULE, socket.SOCK_STREAM, (), environment, _WHAT, remedy)


def _ask(connection: socket.socket, request: bytes, descriptors: list[int], end: bytes) -> bytes:
    """The answer, up to `end` or else to the connection's; empty when the other side has gone."""
    answer = b""
    try:
        sent = socket.send_fds(connection, [request], descriptors)
        connection.sendall(request[sent:])
        while not end or not answer.endswith(end):
            part = connection.recv(4096)
            if not part:
                return b"" if end else answer
            answer += part
    except (BrokenPipeError, ConnectionResetError):
        return b"" if end else answer
    return answer

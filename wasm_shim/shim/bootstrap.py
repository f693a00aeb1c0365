"""What containerd says on standard input when it starts a shim, and the forms in which it takes the answer.

Three generations: since 2.3 BootstrapParams come and a BootstrapResult is wanted (docs/runtime-v2.md; protobuf,
whatever the comment in bootstrap.proto says); 2.0 to 2.2 take JSON with version 3; 1.6 takes a bare address and 1.7
refuses version 3. Flags and environment do not tell 1.x from 2.x, so containerd's binary is asked, once.
"""

import json
import os
import select
import signal
import stat
import time
from enum import Enum
from typing import Final

from wasm_shim.ttrpc.protobuf import Message, int32, message, repeated, string
from wasm_shim.ttrpc.well_known import Any
from wasm_shim.ttrpc.wire import DecodeError

_INPUT_SECONDS: Final = 1.0
_INPUT_LIMIT: Final = 1 << 20  # bytes
_VERSION_SECONDS: Final = 2.0
_VERSION_LIMIT: Final = 4096  # bytes


class Extension(Message):
    """Something more of a named type, such as the runtime's options."""

    value: Any | None = message(1, Any)


class BootstrapParams(Message):
    """What containerd 2.3 and later say; the numbers are those of containerd.runtime.bootstrap.v1."""

    instance_id: str = string(1)
    namespace: str = string(2)
    log_level: int = int32(3)
    containerd_version: str = string(4)
    containerd_ttrpc_address: str = string(5)
    containerd_grpc_address: str = string(6)
    containerd_binary: str = string(7)
    extensions: list[Extension] = repeated(8, Extension)
    socket_dir: str = string(9)


class BootstrapResult(Message):
    """The answer to BootstrapParams: version of the Task API, where it is served and by which protocol."""

    version: int = int32(1)
    address: str = string(2)
    protocol: str = string(3)


class RuntimeVersion(Message):
    """A part of RuntimeInfo."""

    version: str = string(1)
    revision: str = string(2)


class RuntimeInfo(Message):
    """What `-info` prints: containerd.types.RuntimeInfo, without options and features, which are optional."""

    name: str = string(1)
    version: RuntimeVersion | None = message(2, RuntimeVersion)


class Form(Enum):
    """How to say where the shim listens."""

    RESULT = "BootstrapResult"
    JSON = "JSON"
    BARE = "address"


def encode_result(form: Form, path: str) -> bytes:
    """The answer for a socket's path."""
    address, version, protocol = f"unix://{path}", 3, "ttrpc"
    if form is Form.RESULT:
        return BootstrapResult(version=version, address=address, protocol=protocol).encode()
    if form is Form.JSON:
        return json.dumps({"version": version, "address": address, "protocol": protocol}).encode()
    return os.fsencode(address)


def read_params(descriptor: int, id_: str, namespace: str) -> BootstrapParams | None:
    """The parameters on standard input; None when it holds none, is slow, or is nothing to read from.

    Before 2.3 the runtime's options may stand there, as an Any, which decodes as parameters, too. So they count only
    where they name the container that the flags name, if these name any; containerd's own shims do the same.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)):
        return None  # a terminal would wait for a person
    try:
        params = BootstrapParams.decode(_read(descriptor, _INPUT_SECONDS, _INPUT_LIMIT))
    except (DecodeError, OSError):
        return None
    named = params.instance_id and params.namespace
    fits = params.instance_id == (id_ or params.instance_id) and params.namespace == (namespace or params.namespace)
    return params if named and fits else None


def form_for(binary: str, root: str) -> Form:
    """The form that a containerd without BootstrapParams takes; the bare address, which all take, when in doubt.

    The binary says its version; the answer is kept below `root`, by the binary's inode and time of change.
    """
    try:
        status = os.stat(binary)
        directory = f"{root}/versions"
        kept = f"{directory}/{status.st_dev}-{status.st_ino}-{status.st_mtime_ns}"
        major = _kept(kept)
        if not major:
            major = _major(_output([binary, "--version"]))
            _keep(directory, kept, major)
    except OSError:
        return Form.BARE
    return Form.JSON if int(major) >= 2 else Form.BARE


def _major(said: bytes) -> str:
    """The first number of the version in `containerd REPOSITORY VERSION …`, 0 where it is none."""
    words = said.split()
    first = words[2].removeprefix(b"v").partition(b".")[0] if len(words) > 2 and words[0] == b"containerd" else b""
    return first.decode() if first.isdigit() and len(first) < 4 else "0"


def _kept(path: str) -> str:
    try:
        with open(path, "rb") as file:
            text = file.read(8)
    except FileNotFoundError:
        return ""
    return text.decode() if text.isdigit() else ""


def _keep(directory: str, path: str, text: str) -> None:
    """Write a file that appears whole; a full disk only means to ask again."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        with open(temporary, "w", encoding="ascii") as file:
            file.write(text)
        os.rename(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _output(words: list[str]) -> bytes:
    """What a program prints before it ends by itself with status 0; raises OSError where it does not, in time."""
    reader, writer = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        pid = os.posix_spawn(words[0], words, {}, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGPIPE])
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    deadline = time.monotonic() + _VERSION_SECONDS
    said = _read(reader, _VERSION_SECONDS, _VERSION_LIMIT)
    os.close(reader)
    pidfd = os.pidfd_open(pid)
    if not select.select([pidfd], [], [], max(deadline - time.monotonic(), 0))[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    if status:
        raise TimeoutError(f"{words[0]} did not say its version")
    return said


def _read(descriptor: int, seconds: float, limit: int) -> bytes:
    """What comes until the end, the limit in bytes or the deadline."""
    data, deadline = b"", time.monotonic() + seconds
    while len(data) < limit:
        if not select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0]:
            break
        part = os.read(descriptor, limit - len(data))
        if not part:
            break
        data += part
    return data

"""Where a pod shim listens, derived from what containerd passes and from the bundle; and who may listen there.

There is no state file: `start` for a further container of a pod, and `delete` after a crash, find the same path.
"""

import errno
import os
import socket
from collections.abc import Mapping
from fcntl import LOCK_EX, flock
from hashlib import sha256
from typing import Any, Final

from wasm_shim.container import document
from wasm_shim.errors import InvalidArgument
from wasm_shim.paths import ShimPaths, remove_file

SANDBOX: Final = "io.kubernetes.cri.sandbox-id"  # the annotation by which containers of a pod share a shim
_PATH_LIMIT: Final = 107  # bytes in sockaddr_un's path before its NUL (unix(7))
_BACKLOG: Final = 128


def read_config(bundle: str) -> dict[str, Any]:
    """The bundle's config.json, empty where there is none that can be read: Create says what is wrong with it."""
    try:
        config = document.parse(document.read(f"{bundle}/config.json"))
    except (OSError, ValueError, InvalidArgument):  # ValueError: a NUL in the bundle's name
        return {}
    return config if isinstance(config, dict) else {}


def pod_of(config: Mapping[str, Any]) -> str:
    """The id of the pod that a container belongs to, empty for one that stands alone."""
    annotations = config.get("annotations")
    pod = annotations.get(SANDBOX) if isinstance(annotations, dict) else None
    return pod if isinstance(pod, str) else ""


def socket_path(paths: ShimPaths, containerd: str, namespace: str, group: str) -> str:
    """The path of the socket of a group of containers; raises InvalidArgument where it would be too long.

    `containerd` is the address of its main socket: two containerds may have containers of the same name.
    """
    parts = "\0".join((containerd, namespace, group)).encode(errors="surrogatepass")  # JSON can hold half a character
    path = f"{paths.sockets}/{sha256(parts).hexdigest()}"
    size = len(os.fsencode(path))
    if size > _PATH_LIMIT:
        longest = _PATH_LIMIT - size + len(os.fsencode(paths.root))
        message = f"the socket path {path} has {size} bytes, and the kernel takes {_PATH_LIMIT}; "
        raise InvalidArgument(f"{message}set WASM_SHIM_ROOT to a directory of at most {longest}")
    return path


class Turn:
    """The flock under which sockets of pod shims are made and removed, by one process at a time."""

    def __init__(self, root: str) -> None:
        """Raises OSError where the root directory cannot be used."""
        self._descriptor = os.open(f"{root}/start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def __enter__(self) -> None:
        flock(self._descriptor, LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def connect(path: str) -> socket.socket | None:
    """A connection that does not block, or None when nobody listens there; raises OSError.

    It may be unconnected: then so many wait there that the listener must be hung.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.connect(path)
    except BlockingIOError:
        pass
    except OSError as error:
        connection.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return None
        raise
    return connection


def listen(path: str) -> socket.socket | None:
    """Listen there, or None when somebody does; to be called in one's turn. Raises OSError."""
    return None if _is_answered(path) else bind(path)


def bind(path: str) -> socket.socket:
    """Listen there, in the place of a dead socket if there is one. Raises OSError, and leaves no socket then."""
    remove_file(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        remove_file(path)
        raise
    return listener


def remove_dead(root: str, path: str) -> None:
    """Remove a socket at which nobody listens, if there is one; raises OSError."""
    if not os.path.exists(path):
        return
    with Turn(root):
        if not _is_answered(path):
            remove_file(path)


def _is_answered(path: str) -> bool:
    connection = connect(path)
    if connection is None:
        return False
    connection.close()
    return True

"""A guest's stdio: open what a client named, and hold it as long as it must not end.

A guest opens each of its three descriptors again by name (wasmtime takes paths), so they are pipes and FIFOs,
or /dev/null; for a file we copy from a pipe, as opening it by name would truncate it. A named FIFO is
containerd's: we hold a writer of stdin and a reader of each output ourselves, so that a client which goes away
and returns neither ends the guest's input nor breaks its output. An anonymous pipe (/proc/PID/fd/N) is the
command line's: its end and its break belong to the guest.

Names are paths or URIs with the schemes that containerd's shims know (core/runtime/v2/README.md): `fifo` and
`file`, the latter made with its directory and appended to.
"""

import errno
import os
import stat
from collections.abc import Callable

from wasm_shim.copier import Copier
from wasm_shim.errors import InvalidArgument, PermissionDenied, Unimplemented, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.task.ports import Creation


class Stdio:
    """Three descriptors for a guest, and those that keep them alive."""

    def __init__(self, loop: EventLoop, creation: Creation) -> None:
        """Open everything, or nothing; raises InvalidArgument, Unimplemented or PermissionDenied naming the stream."""
        self._loop = loop
        self._open: list[int] = []
        self._guest_ends: list[int] = []  # of pipes to files: ours must be closed for their end to come
        self._copiers: set[Copier] = set()
        self._drained: Callable[[], None] | None = None
        self._held_stdin = -1
        self._held_outputs: list[int] = []
        self._named: list[tuple[str, str]] = []  # paths of pipes and FIFOs, with their streams' names
        try:
            self.stdin = self._open_stdin(_path(creation.stdin, "stdin"))
            self.stdout = self._open_output(_path(creation.stdout, "stdout"), "stdout")
            if creation.terminal or (creation.stderr and creation.stderr == creation.stdout):
                self.stderr = self.stdout
            else:
                self.stderr = self._open_output(_path(creation.stderr, "stderr"), "stderr")
        except BaseException:
            self.close()
            raise

    def require_client(self) -> None:
        """Raise PermissionDenied if a pipe or FIFO has lost its name: its client has gone, and wants no guest."""
        for path, name in self._named:
            if not os.path.exists(path):
                raise _unusable(path, name, os.strerror(errno.ENOENT))

    def forked(self) -> None:
        """Release what the guest alone must have."""
        for descriptor in self._guest_ends:
            os.close(descriptor)
        self._guest_ends = []

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back when what the guest wrote is in its files; the guest has ended."""
        if self._copiers:
            self._drained = callback
        else:
            callback()

    def close_stdin(self) -> None:
        """Release our own writer of stdin: it ends when the client's is closed, too."""
        if self._held_stdin >= 0:
            self._open.remove(self._held_stdin)
            os.close(self._held_stdin)
            self._held_stdin = -1

    def release_outputs(self) -> None:
        """Release our own readers: what is still written to a client that has gone fails, and waits for nobody."""
        for descriptor in self._held_outputs:
            self._open.remove(descriptor)
            os.close(descriptor)
        self._held_outputs = []

    def close(self) -> None:
        """Release everything."""
        self.forked()
        for copier in self._copiers:
            copier.stop()
        descriptors, self._open, self._held_stdin, self._held_outputs = self._open, [], -1, []
        for descriptor in descriptors:
            os.close(descriptor)

    def _open_stdin(self, path: str) -> int:
        if not path:
            reader, writer = os.pipe()
            os.close(writer)  # ends at once
            return self._keep(reader)
        reader = self._keep(_open(path, os.O_RDONLY, "stdin"))
        self._named.append((path, "stdin"))
        if not _is_anonymous(reader):
            self._held_stdin = self._keep(_open(path, os.O_WRONLY, "stdin"))
        return reader

    def _open_output(self, path: str, name: str) -> int:
        if not path:
            return self._keep(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))
        if path.startswith(_FILE) or _is_file(path):
            return self._open_file(path.removeprefix(_FILE), name)
        held = self._keep(_open(path, os.O_RDWR, name))
        self._named.append((path, name))
        writer = self._keep(_open(path, os.O_WRONLY, name))
        if _is_anonymous(writer):
            self._open.remove(held)
            os.close(held)
        else:
            self._held_outputs.append(held)
        return writer

    def _open_file(self, path: str, name: str) -> int:
        """The writing end of a pipe that is copied to the end of the file."""
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            file = self._keep(os.open(path, flags, 0o640))
        except OSError as error:
            raise _unusable(path, name, error.strerror or str(error)) from error
        reader, writer = os.pipe()
        self._keep(reader)
        self._guest_ends.append(writer)
        os.set_blocking(reader, False)
        copier = Copier(self._loop, reader, file, lambda: self._copied(copier, reader))
        self._copiers.add(copier)
        return writer

    def _copied(self, copier: Copier, reader: int) -> None:
        self._copiers.discard(copier)
        self._open.remove(reader)
        os.close(reader)  # a disk may be full: the guest is told, as a full pipe would hold it for ever
        if self._drained and not self._copiers:
            self._drained()

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor


_FILE = "file://"


def _path(name: str, stream: str) -> str:
    """The path of a FIFO or pipe, or `file://` and that of a file."""
    scheme, separator, path = name.partition("://")
    if not separator or scheme == "fifo":
        return path if separator else name
    if scheme != "file":
        raise Unimplemented(f"cannot use {name} as {stream}: wasm-shim knows fifo:// and file://; use one of them")
    if not path.startswith("/"):
        raise InvalidArgument(f"cannot use {name} as {stream}: it needs an absolute path")
    return name


def _is_file(path: str) -> bool:
    """A plain path may name a file that is there, as with runc's shim."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _open(path: str, flags: int, name: str) -> int:
    """A blocking descriptor of a pipe or FIFO; the open itself never blocks."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, name, error.strerror or str(error)) from error
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArgument(f"cannot use {path} as {name}: it is no pipe and no FIFO; give the path of one")
    os.set_blocking(descriptor, True)
    return descriptor


def _unusable(path: str, name: str, reason: str) -> WasmShimError:
    return PermissionDenied(f"cannot open {path} as {name}: {reason}; give the path of a pipe that is open")


def _is_anonymous(descriptor: int) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")

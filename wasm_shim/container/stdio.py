"""A guest's stdio: open what a client named, and hold it as long as it must not end.

A guest opens each of its three descriptors again by name (wasmtime takes paths), so they are pipes and FIFOs,
or /dev/null. A named FIFO is containerd's: we hold a writer of stdin and a reader of each output ourselves,
so that a client which goes away and returns neither ends the guest's input nor breaks its output. An
anonymous pipe (/proc/PID/fd/N) is the command line's: its end and its break belong to the guest.
"""

import os
import stat

from wasm_shim.errors import InvalidArgument, PermissionDenied, WasmShimError
from wasm_shim.task.ports import Creation


class Stdio:
    """Three descriptors for a guest, and those that keep them alive."""

    def __init__(self, creation: Creation) -> None:
        """Open everything, or nothing; raises InvalidArgument or PermissionDenied naming the stream."""
        self._open: list[int] = []
        self._held_stdin = -1
        try:
            self.stdin = self._open_stdin(creation.stdin)
            self.stdout = self._open_output(creation.stdout, "stdout")
            self.stderr = self.stdout if creation.terminal else self._open_output(creation.stderr, "stderr")
        except BaseException:
            self.close()
            raise

    def close_stdin(self) -> None:
        """Release our own writer of stdin: it ends when the client's is closed, too."""
        if self._held_stdin >= 0:
            self._open.remove(self._held_stdin)
            os.close(self._held_stdin)
            self._held_stdin = -1

    def close(self) -> None:
        """Release everything."""
        descriptors, self._open, self._held_stdin = self._open, [], -1
        for descriptor in descriptors:
            os.close(descriptor)

    def _open_stdin(self, path: str) -> int:
        if not path:
            reader, writer = os.pipe()
            os.close(writer)  # ends at once
            return self._keep(reader)
        reader = self._keep(_open(path, os.O_RDONLY, "stdin"))
        if not _is_anonymous(reader):
            self._held_stdin = self._keep(_open(path, os.O_WRONLY, "stdin"))
        return reader

    def _open_output(self, path: str, name: str) -> int:
        if not path:
            return self._keep(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))
        held = _open(path, os.O_RDWR, name)
        writer = self._keep(_open(path, os.O_WRONLY, name))
        if _is_anonymous(writer):
            os.close(held)
        else:
            self._keep(held)
        return writer

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor


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

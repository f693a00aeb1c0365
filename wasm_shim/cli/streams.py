"""The command line's stdio and the guest's: handed over where they are pipes of ours, copied where not.

A guest opens its stdio by the path of a pipe. A pipe that the caller made can be that pipe; a file, a terminal
or a socket cannot (opening a file by name would truncate it), so the guest gets a pipe and we copy.
"""

import errno
import os
import stat
from collections.abc import Callable

from wasm_shim.copier import Copier, own_description
from wasm_shim.eventloop import EventLoop


class Streams:
    """Paths for Create, and the copying behind them."""

    def __init__(self, loop: EventLoop, *, interactive: bool, terminal: bool) -> None:
        """With `terminal`, the guest has one stream for both outputs."""
        self._loop = loop
        self._handed_over: list[int] = []  # the guest's ends, to be closed once the guest has them
        self._copiers: list[tuple[int, int]] = []
        self._outputs: dict[int, Copier] = {}  # those that still run, by what they read
        self.failure = ""  # why some of the guest's output is lost, though somebody wants it
        self._drained: Callable[[], None] | None = None
        self.stdin = self._input() if interactive else ""
        self.stdout = self._output(1, [])
        self.stderr = "" if terminal else self._output(2, [1])

    def start(self) -> None:
        """The guest has opened its ends: close ours of them, so that ends and breaks pass through, and copy."""
        for descriptor in self._handed_over:
            os.close(descriptor)
        self._handed_over = []
        for source, sink in self._copiers:
            if source == 0:
                Copier(self._loop, source, sink, lambda sink=sink: self._input_ended(sink))  # type: ignore[misc] # a default, bound
            else:
                self._outputs[source] = Copier(
                    self._loop, source, sink, lambda source=source: self._output_ended(source)  # type: ignore[misc] # the same
                )

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back once all that the guest wrote has been passed on."""
        self._drained = callback
        self._check_drained()

    def _input(self) -> str:
        if _is_own_pipe(0):
            return _path(0)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._handed_over.append(reader)
        self._copiers.append((0, writer))
        return _path(reader)

    def _output(self, number: int, earlier: list[int]) -> str:
        for other in earlier:  # the same file twice: one pipe, so that the order of lines is kept
            if os.path.sameopenfile(other, number):
                return self.stdout
        if _is_own_pipe(number):
            return _path(number)
        reader, writer = os.pipe()
        self._handed_over.append(writer)
        self._copiers.append((reader, own_description(number, os.O_WRONLY)))
        return _path(writer)

    def _input_ended(self, sink: int) -> None:
        os.close(sink)

    def _output_ended(self, source: int) -> None:
        os.close(source)  # a guest that still writes learns that nobody reads
        failure = self._outputs.pop(source).failure
        if failure and failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            self.failure = f"cannot write all of the guest's output: {failure.strerror}; make room and run it again"
        self._check_drained()

    def _check_drained(self) -> None:
        if self._drained and not self._outputs:
            self._drained()


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _is_own_pipe(descriptor: int) -> bool:
    """Whether the guest's process may open the pipe by name: anonymous, and made by the same user."""
    status = os.fstat(descriptor)
    if not stat.S_ISFIFO(status.st_mode) or status.st_uid != os.geteuid():
        return False
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")

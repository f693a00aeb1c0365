"""A guest's pseudo-terminal: the shim keeps the master and copies between it and the client's pipes."""

import fcntl
import os
import struct
import termios
from collections.abc import Callable

from wasm_shim.container.stdio import Stdio
from wasm_shim.copier import Copier, own_description
from wasm_shim.eventloop import EventLoop


class Terminal:
    """One pseudo-terminal, whose slave end is the guest's stdio."""

    def __init__(self, loop: EventLoop, stdio: Stdio) -> None:
        """Make the terminal and start copying; raises OSError when the system has no more of them."""
        self._master, self.slave = os.openpty()
        os.set_blocking(self._master, False)
        self._output = own_description(stdio.stdout, os.O_WRONLY)
        self._drained: Callable[[], None] | None = None
        self._ended = False
        self._from_guest = Copier(loop, self._master, self._output, self._end)
        self._to_guest = Copier(loop, stdio.stdin, self._master, self._input_ended)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size in characters; the kernel tells the guest by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def release_slave(self) -> None:
        """Close our copy of the guest's end: once the guest's are gone, the output ends."""
        os.close(self.slave)
        self.slave = -1

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back when everything that the guest wrote has been passed on."""
        self._drained = callback
        if self._ended:
            callback()

    def close(self) -> None:
        """Stop copying and release the terminal."""
        self._from_guest.stop()
        self._to_guest.stop()
        for descriptor in (self._master, self._output, self.slave):
            if descriptor >= 0:
                os.close(descriptor)

    def _input_ended(self) -> None:
        """The client's input is over: nothing more comes, and the terminal itself stays open."""

    def _end(self) -> None:
        self._ended = True
        if self._drained:
            self._drained()

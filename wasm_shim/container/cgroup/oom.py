"""Noticing that the kernel killed in a cgroup for lack of memory.

A descriptor says when to look; the cgroup's count of such kills says whether there was one. A process that ends may
be seen before the descriptor speaks, so whoever sees the end looks once more.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from wasm_shim.container.cgroup import files
from wasm_shim.eventloop import EventLoop, Timer
from wasm_shim.kernel import calls

# Version 1 speaks before the kernel picks a victim, and nothing speaks after it: look again after these seconds.
_AGAIN: Final = (0.01, 0.02, 0.05, 0.1, 0.3, 1.0)


class OomWatch:
    """Calls back, on the loop, for kills since it was made; several that are seen together are told once."""

    __slots__ = ("_again", "_callback", "_count", "_descriptor", "_last", "_loop", "_start", "_timer", "_told")

    def __init__(
        self,
        loop: EventLoop,
        callback: Callable[[], None],
        count: Callable[[], int | None],
        descriptor: int = -1,
        again: tuple[float, ...] = (),
    ) -> None:
        """`count` reads how many were killed, None when the cgroup is gone; the descriptor becomes the watch's own."""
        self._loop, self._callback, self._count, self._again = loop, callback, count, again
        self._start = self._told = self._last = count() or 0
        self._timer: Timer | None = None
        self._descriptor = descriptor
        if descriptor >= 0:
            loop.watch_read(descriptor, self._notified)

    @property
    def killed(self) -> bool:
        """Whether the kernel has killed in it since the watch began; once it is gone, the last that was known."""
        return self._read() > self._start

    def look(self) -> None:
        """Tell now what has not been told: so that after an exit the kill is told before the end."""
        now = self._read()
        if now > self._told:
            self._told = now
            self._callback()

    def close(self) -> None:
        """Stop; no callback comes any more. Harmless when repeated."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._told = 1 << 64
        if self._descriptor >= 0:
            self._loop.unwatch_read(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> int:
        now = self._count()
        if now is not None:
            self._last = now
        return self._last

    def _notified(self) -> None:
        try:
            os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        if self._count() is None:  # the cgroup was removed, which version 1 tells, too
            self.close()
            return
        self._look_until_told(self._again)

    def _look_until_told(self, pauses: tuple[float, ...]) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        told = self._told
        self.look()
        if self._told == told and pauses and self._descriptor >= 0:
            self._timer = self._loop.call_later(pauses[0], lambda: self._look_until_told(pauses[1:]))


def kills(path: str) -> int | None:
    """The count `oom_kill` in memory.oom_control or memory.events; None when the cgroup is gone."""
    return files.numbers(path).get("oom_kill")


def watch_v1(loop: EventLoop, callback: Callable[[], None], memory: str) -> OomWatch:
    """Watch a cgroup of version 1: memory controller's documentation, "OOM Control"; raises OSError."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            registrations = os.open(f"{memory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(registrations, f"{descriptor} {control}".encode())
            finally:
                os.close(registrations)
        finally:
            os.close(control)
        return OomWatch(loop, callback, lambda: kills(f"{memory}/memory.oom_control"), descriptor, _AGAIN)
    except BaseException:
        os.close(descriptor)
        raise


def watch_v2(loop: EventLoop, callback: Callable[[], None], events: str) -> OomWatch:
    """Watch a file memory.events, of which the kernel tells every change after it has counted; raises OSError.

    Where all the user's inotify instances are taken (128, unless fs.inotify.max_user_instances says otherwise), nothing
    speaks, and who sees an end must look.
    """
    try:
        descriptor = calls.watch_changes(events)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENOSPC):
            raise
        descriptor = -1
    return OomWatch(loop, callback, lambda: kills(events), descriptor)

"""One thread's event loop: callbacks for readable and writable descriptors, timers and queued calls.

The pod shim and `wasm-shim run` live on it, because asyncio would cost every pod more than a megabyte.
A forked child must not unwatch anything of an inherited loop: the epoll instance is shared, so that would take
the parent's watch away.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from select import EPOLLIN, EPOLLOUT, epoll
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], None]
    Sides = tuple[Callback | None, Callback | None]


class Timer:
    """A callback that waits for its moment; made by `EventLoop.call_later`."""

    __slots__ = ("_heap", "callback", "when")

    def __init__(self, heap: list[Timer], when: float, callback: Callback) -> None:
        self._heap = heap
        self.when = when
        self.callback = callback

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Forget the callback; harmless when it has run or was cancelled before."""
        if self in self._heap:
            # Removed at once: a shim's few timers are long, and each would keep what its callback refers to.
            self._heap.remove(self)
            heapq.heapify(self._heap)


class EventLoop:
    """Calls back when descriptors become ready and when timers are due.

    Callbacks run one after another on the thread that called `run`, and may use every method here. What a callback
    raises ends `run` and reaches its caller: a fault is not hidden by the loop.
    """

    __slots__ = ("_epoll", "_soon", "_stopping", "_timers", "_watched")

    def __init__(self) -> None:
        self._epoll = epoll()  # not `selectors`, whose objects cost every pod a hundred KiB
        self._watched: dict[int, Sides] = {}
        self._timers: list[Timer] = []
        self._soon: deque[Callback] = deque()
        self._stopping = False

    def watch_read(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` has bytes, a connection or its end to read; replaces an earlier one.

        Raises ValueError for regular files and directories, which epoll refuses because they are always ready
        (epoll_ctl(2), EPERM). Unwatch a descriptor before closing it: its number may be given out again at once.
        """
        self._watch(fd, (callback, self._sides(fd)[1]))

    def watch_write(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` takes bytes or its reader has gone; otherwise as `watch_read`."""
        self._watch(fd, (self._sides(fd)[0], callback))

    def unwatch_read(self, fd: int) -> None:
        """End `watch_read`, also for a readiness that was noticed already; harmless when there is none."""
        self._watch(fd, (None, self._sides(fd)[1]))

    def unwatch_write(self, fd: int) -> None:
        """End `watch_write`; otherwise as `unwatch_read`."""
        self._watch(fd, (self._sides(fd)[0], None))

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now or a little later."""
        timer = Timer(self._timers, time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Call `callback` once, after the callback that runs now has returned."""
        self._soon.append(callback)

    def run(self) -> None:
        """Wait and call back until `stop`."""
        try:
            while not self._stopping:
                self._dispatch_ready()
                self._dispatch_due()
                self._dispatch_queued()
        finally:
            self._stopping = False

    def stop(self) -> None:
        """Make `run` return after the present callback; before `run`, make it return at once."""
        self._stopping = True

    def close(self) -> None:
        """Release the epoll descriptor and forget all callbacks; watched descriptors stay open."""
        self._epoll.close()
        self._watched.clear()
        self._timers.clear()
        self._soon.clear()

    def _sides(self, fd: int) -> Sides:
        return self._watched.get(fd, (None, None))

    def _watch(self, fd: int, sides: Sides) -> None:
        events = (EPOLLIN if sides[0] else 0) | (EPOLLOUT if sides[1] else 0)
        if fd not in self._watched:
            if events:
                self._register(fd, events)
                self._watched[fd] = sides
        elif events:
            self._epoll.modify(fd, events)
            self._watched[fd] = sides
        else:
            del self._watched[fd]
            try:
                self._epoll.unregister(fd)
            except OSError:  # it was closed before
                return

    def _register(self, fd: int, events: int) -> None:
        try:
            self._epoll.register(fd, events)
        except PermissionError as error:
            sentence = f"descriptor {fd} is a regular file or a directory, which cannot be waited for; read it directly"
            raise ValueError(sentence) from error

    def _timeout(self) -> float | None:
        """In seconds, in whole milliseconds upwards, as epoll_wait(2) counts: less would not wait for a timer."""
        if self._soon:
            return 0
        if self._timers:
            return max(0.0, math.ceil((self._timers[0].when - time.monotonic()) * 1e3) * 1e-3)
        return None

    def _dispatch_ready(self) -> None:
        polled = self._epoll.poll(self._timeout(), len(self._watched) or 1)
        for fd, events, sides in [(fd, events, self._sides(fd)) for fd, events in polled]:
            for side, other in ((0, EPOLLOUT), (1, EPOLLIN)):
                callback = self._sides(fd)[side]
                # An earlier callback of this batch may have removed the watch, or closed the descriptor and
                # watched a new one with the same number: only the callback registered then and now is called.
                if events & ~other and callback is not None and callback is sides[side]:
                    callback()
                if self._stopping:
                    return

    def _dispatch_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now and not self._stopping:
            heapq.heappop(self._timers).callback()

    def _dispatch_queued(self) -> None:
        # Only those queued by now: one that queues itself again must not starve the descriptors.
        for _ in range(len(self._soon)):
            if self._stopping:
                return
            self._soon.popleft()()

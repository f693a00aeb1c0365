"""One thread's event loop: callbacks for readable and writable descriptors, timers and queued calls.

The pod shim and `wasm-shim run` live on it, because asyncio would cost every pod more than a megabyte.
A forked child must not unwatch anything of an inherited loop: the epoll instance is shared, so that would take
the parent's watch away.
"""

from __future__ import annotations

import heapq
import selectors
import time
from collections import deque
from selectors import EVENT_READ, EVENT_WRITE
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

    __slots__ = ("_selector", "_soon", "_stopping", "_timers")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
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
        self._selector.close()
        self._timers.clear()
        self._soon.clear()

    def _sides(self, fd: int) -> Sides:
        key = self._selector.get_map().get(fd)
        return key.data if key is not None else (None, None)

    def _watch(self, fd: int, sides: Sides) -> None:
        events = (EVENT_READ if sides[0] else 0) | (EVENT_WRITE if sides[1] else 0)
        if fd not in self._selector.get_map():
            if events:
                self._register(fd, events, sides)
        elif events:
            self._selector.modify(fd, events, sides)
        else:
            self._selector.unregister(fd)

    def _register(self, fd: int, events: int, sides: Sides) -> None:
        try:
            self._selector.register(fd, events, sides)
        except PermissionError as error:
            sentence = f"descriptor {fd} is a regular file or a directory, which cannot be waited for; read it directly"
            raise ValueError(sentence) from error

    def _timeout(self) -> float | None:
        if self._soon:
            return 0
        if self._timers:
            return max(0.0, self._timers[0].when - time.monotonic())
        return None

    def _dispatch_ready(self) -> None:
        for key, events in self._selector.select(self._timeout()):
            for side, bit in ((0, EVENT_READ), (1, EVENT_WRITE)):
                callback = self._sides(key.fd)[side]
                # An earlier callback of this batch may have removed the watch, or closed the descriptor and
                # watched a new one with the same number: only the callback registered then and now is called.
                if events & bit and callback is not None and callback is key.data[side]:
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

"""Tells containerd what happens to tasks: events in order, kept while it is away."""

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from wasm_shim.eventloop import EventLoop, Timer
from wasm_shim.log import Log
from wasm_shim.shim.convert import event_message, moment
from wasm_shim.steps import reached
from wasm_shim.task.events import Exited, TaskEvent
from wasm_shim.ttrpc.client import Client
from wasm_shim.ttrpc.envelope import Code, RpcError
from wasm_shim.ttrpc.events import EVENTS_SERVICE, Envelope, ForwardRequest

LIMIT: Final = 4096  # events that wait
_ANSWER_TIME: Final = 5.0  # seconds, as runc's shim waits for containerd (pkg/shim/publisher.go)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts
_MANY_ATTEMPTS: Final = 3  # after these it is worth a line in the log
# containerd is going, gone or busy: what it says with any other code it would say again.
_TRY_AGAIN: Final = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)


class _Waiting(NamedTuple):
    """An event on its way, as the argument of Forward."""

    topic: str
    payload: bytes


class EventPublisher:
    """Forwards events to the ttrpc socket of containerd at `address`; to nobody when that is empty.

    One is sent at a time and the next after its answer, so they arrive in order; one whose answer was lost arrives
    twice. Beyond LIMIT of them the oldest are dropped.
    """

    def __init__(
        self, loop: EventLoop, address: str, namespace: str, log: Log, answer_time: float = _ANSWER_TIME
    ) -> None:
        """`answer_time` in seconds is how long containerd may take for one event."""
        self._loop, self._namespace, self._log, self._answer_time = loop, namespace, log, answer_time
        self._address = address.removeprefix("unix://")
        self._waiting: deque[_Waiting] = deque()
        self._sent: _Waiting | None = None  # not answered yet
        self._client: Client | None = None
        self._retry: Timer | None = None
        self._failures = 0  # in a row
        self._dropped = 0
        self._drains: list[Callable[[], None]] = []

    def publish(self, event: TaskEvent) -> None:
        """Send it now or when containerd is there; never blocks."""
        if not self._address:
            return
        if len(self._waiting) >= LIMIT:
            self._waiting.popleft()
            self._dropped += 1
        message = event_message(event)
        envelope = Envelope(
            timestamp=moment(time.time()), namespace=self._namespace, topic=message.TOPIC, event=message.pack()
        )
        self._waiting.append(_Waiting(message.TOPIC, ForwardRequest(envelope=envelope).encode()))
        if isinstance(event, Exited):
            reached("shim.telling")
        self._send_next()

    def drain(self, callback: Callable[[], None], timeout: float) -> None:
        """Call back once, from the loop, when nothing waits any more or `timeout` seconds have passed."""
        timer = self._loop.call_later(timeout, lambda: self._drained(once))

        def once() -> None:
            timer.cancel()
            callback()

        self._drains.append(once)
        self._loop.call_soon(self._check_drained)

    def close(self) -> None:
        """Hang up; what still waits is lost, and later events are."""
        self._address = ""
        self._waiting.clear()
        if self._retry:
            self._retry.cancel()
        if self._client:
            self._client.close()

    def _send_next(self) -> None:
        if self._sent or self._retry or not self._waiting:
            return
        client = self._connected()
        if client is None:
            self._try_later()
            return
        self._sent = self._waiting.popleft()
        client.call(EVENTS_SERVICE, "Forward", self._sent.payload, self._answered, self._answer_time)

    def _connected(self) -> Client | None:
        """The connection that is there, or a new one; None while there cannot be one."""
        if self._client is None or self._client.closed:
            try:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            except OSError:  # no descriptor is left: later
                return None
            connection.setblocking(False)
            try:
                connection.connect(self._address)  # at once, or EAGAIN when too many others wait (connect(2))
            except OSError:
                connection.close()
                return None
            self._client = Client(self._loop, connection)
        return self._client

    def _answered(self, _payload: bytes | None, error: RpcError | None) -> None:
        sent, self._sent = self._sent, None
        if sent is None or not self._address:
            return
        if error and error.code in _TRY_AGAIN:
            if len(self._waiting) < LIMIT:
                self._waiting.appendleft(sent)
            else:
                self._dropped += 1
            if self._client:
                self._client.close()
            self._try_later()
            return
        self._failures = 0
        if error:
            self._log.warning(f"containerd refused the event {sent.topic}, which is lost: {error.message}")
        if self._dropped:
            self._log.warning(f"{self._dropped} events are lost, because containerd was away for long")
            self._dropped = 0
        self._send_next()
        self._check_drained()

    def _try_later(self) -> None:
        pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 10), _LONGEST_PAUSE)
        self._failures += 1
        if self._failures == _MANY_ATTEMPTS:
            self._log.warning(f"events cannot be told to containerd at {self._address}; they are kept and tried again")
        self._retry = self._loop.call_later(pause, self._try_now)

    def _try_now(self) -> None:
        self._retry = None
        self._send_next()

    def _check_drained(self) -> None:
        if not self._sent and not self._waiting:
            for callback in tuple(self._drains):
                self._drained(callback)

    def _drained(self, callback: Callable[[], None]) -> None:
        if callback in self._drains:
            self._drains.remove(callback)
            callback()

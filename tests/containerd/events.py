"""The events of a private containerd, as `ctr events` shows them."""

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.containerd.daemon import DEADLINE, Daemon

_LINE = re.compile(r"(?P<time>.+?) (?P<namespace>\S+) (?P<topic>/\S+) (?P<fields>.*)")


class Event(NamedTuple):
    """One line of `ctr events`."""

    time: str  # as Go prints it; when the event was published
    namespace: str
    topic: str
    fields: dict[str, Any]

    @property
    def container(self) -> str:
        """The container's id, empty where it is of none."""
        return str(self.fields.get("container_id") or self.fields.get("id") or "")


class Events:
    """Everything that was published since `follow`; a context manager that follows at once.

    It ends with containerd. To miss nothing of what shims have kept for the next one: `daemon.start(events.follow)`.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.seen: list[Event] = []
        self._daemon = daemon
        self._process: subprocess.Popen[str] | None = None
        self._rest = b""
        self._other: list[bytes] = []  # lines that are no events, such as errors

    def __enter__(self) -> "Events":
        self.follow()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self) -> None:
        """Follow from now on, until containerd ends."""
        self.close()
        self._process = self._daemon.ctr("events", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.synchronise()

    def synchronise(self) -> None:
        """Return when all that was published before this call has been seen.

        A subscription says nothing when it has begun, so we publish events of our own until one comes.
        """
        end = time.monotonic() + DEADLINE
        marker = f"{len(self.seen)}.{end}"
        while not any(event.fields.get("labels", {}).get("marker") == marker for event in self.seen):
            assert time.monotonic() < end, "ctr events says nothing"
            self._daemon.run("namespaces", "label", self._daemon.namespace, f"marker={marker}")
            assert self._read(0.2), f"ctr events ended: {self._other}"

    def close(self) -> None:
        """Follow no longer; what has come is taken in."""
        if self._process is not None:
            with self._process:
                self._process.kill()
                while self._read(DEADLINE):
                    pass
            self._process, self._rest = None, b""

    def wait_for(self, predicate: Callable[[Event], bool], deadline: float = DEADLINE) -> Event:
        """The first event that fits, also among those seen before; AssertionError after `deadline` seconds."""
        end = time.monotonic() + deadline
        checked = 0
        while True:
            for event in self.seen[checked:]:
                if predicate(event):
                    return event
            checked = len(self.seen)
            remaining = end - time.monotonic()
            assert remaining > 0, f"no such event among {self._seen()}"
            assert self._read(remaining), f"ctr events ended: {self._other}; no such event among {self._seen()}"

    def wait_for_topic(self, container: str, topic: str, deadline: float = DEADLINE) -> Event:
        """The first event of this topic of this container."""
        return self.wait_for(lambda event: event.topic == topic and event.container == container, deadline)

    def of(self, container: str) -> list[str]:
        """The topics of this container's task, in the order in which they came, "/tasks/create" first."""
        return [
            event.topic for event in self.seen if event.container == container and event.topic.startswith("/tasks/")
        ]

    def _seen(self) -> list[str]:
        return [f"{event.topic} {event.container}".strip() for event in self.seen]

    def _read(self, timeout: float) -> bool:
        """Take in what comes within `timeout` seconds; False where nothing can come any more."""
        assert self._process is not None, "it follows no longer"
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], timeout)[0]:
            return True
        data = os.read(descriptor, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = _parse(line)
            if event:
                self.seen.append(event)
            else:
                self._other.append(line)
        return bool(data)


def _parse(line: bytes) -> Event | None:
    """One line, or nothing where it is none."""
    found = _LINE.fullmatch(line.decode())
    if not found:
        return None
    fields = json.loads(found["fields"] or "{}")
    return Event(found["time"], found["namespace"], found["topic"], fields if isinstance(fields, dict) else {})

"""What tests of cgroups share: a cgroup of the test's own, processes that join it, and waiting for what it says."""

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wasm_shim.container.cgroup import Cgroup, cgroup_at
from wasm_shim.container.cgroup.hierarchy import mounted
from wasm_shim.errors import PermissionDenied
from wasm_shim.eventloop import EventLoop
from wasm_shim.ttrpc.metrics import V1Metrics, V2Metrics

DEADLINE = 60  # seconds; a virtual machine without KVM is slow
MIB = 1 << 20
# A program of a few MiB that then takes as much as its argument says, and ends.
TAKE = [sys.executable, "-I", "-S", "-c", "import sys; len(bytearray(int(sys.argv[1]) << 20)); print('done')"]

KILLED = -signal.SIGKILL

_numbers = itertools.count()


def unique_path() -> str:
    """A path that nobody else uses."""
    return f"/wasm-shim-test-{os.getpid()}-{next(_numbers)}/leaf"


@contextmanager
def own_cgroup() -> Iterator["OwnCgroup"]:
    """A cgroup that is not made yet; it and its parent are gone at the end, with all processes in it."""
    cgroup = OwnCgroup(unique_path())
    try:
        yield cgroup
    finally:
        cgroup.clean()


class OwnCgroup:
    """A cgroup beside the directories that it should be."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.it: Cgroup = cgroup_at(path, systemd=False)
        here = mounted()
        self.version = 2 if here.unified else 1
        carried = [(item.mount, item.controllers) for item in here.v1] or [(here.unified, ())]
        self.mounts = [Path(mount) for mount, _ in carried]
        self._of = {name: Path(mount + path) for mount, names in carried for name in names}

    @property
    def directories(self) -> list[Path]:
        """One in each hierarchy."""
        return [Path(f"{mount}{self.path}") for mount in self.mounts]

    def made(self) -> list[Path]:
        """What there is of it and of its parent."""
        return [path for leaf in self.directories for path in (leaf, leaf.parent) if path.exists()]

    def file(self, controller: str, name: str) -> Path:
        """A file of the controller."""
        return (self._of.get(controller) or self.directories[0]) / name

    def create(self, resources: Mapping[str, Any] | None = None) -> Cgroup:
        """Make it; skips the test where this is not allowed."""
        try:
            self.it.create(resources or {})
        except PermissionDenied as error:
            pytest.skip(error.message)
        return self.it

    @contextmanager
    def running(self, *command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A program in the cgroup from its first instruction on; killed at the end."""
        entrances = self.it.entrances()

        def join() -> None:
            for entrance in entrances:
                Path(entrance).write_text("0", encoding="ascii")

        defaults: dict[str, Any] = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, preexec_fn=join, **defaults | options) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError, OSError):
                    self.it.thaw()
                process.kill()

    def v1(self) -> V1Metrics:
        """Its metrics on version 1."""
        name, encoded = self.it.metrics()
        assert name == "io.containerd.cgroups.v1.Metrics"
        return V1Metrics.decode(encoded)

    def v2(self) -> V2Metrics:
        """Its metrics on version 2."""
        name, encoded = self.it.metrics()
        assert name == "io.containerd.cgroups.v2.Metrics"
        return V2Metrics.decode(encoded)

    def clean(self) -> None:
        """Remove it with all that is in it, and its parent."""
        self.it.kill()
        wait_until(lambda: not self.it.pids())
        self.it.remove()
        for leaf in self.directories:
            with contextlib.suppress(FileNotFoundError):
                leaf.parent.rmdir()


def wait_until(condition: Callable[[], bool]) -> None:
    """Look until it is so; for what the kernel tells by no descriptor."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        select.select([], [], [], 0.005)


def wait_readable(descriptor: int) -> None:
    """Wait until there is something to read, or the process of a pidfd has ended."""
    assert select.select([descriptor], [], [], DEADLINE)[0], "nothing came"


def turn(loop: EventLoop, until: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Run the loop until it is so, or for these seconds."""
    end = time.monotonic() + seconds

    def look() -> None:
        if until() or time.monotonic() > end:
            loop.stop()
        else:
            loop.call_later(0.005, look)

    look()
    loop.run()


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end; the signal as a negative number."""
    return process.wait(DEADLINE)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def cpu_time(cgroup: OwnCgroup) -> int:
    """What its processes have spent, in nanoseconds."""
    if cgroup.version == 1:
        first = cgroup.v1().cpu
        assert first
        assert first.usage
        return first.usage.total
    second = cgroup.v2().cpu
    assert second
    return second.usage_usec * 1000


def oom_kills(cgroup: OwnCgroup) -> int:
    """How often the kernel has killed in it for lack of memory."""
    found = cgroup.v1().memory_oom_control if cgroup.version == 1 else cgroup.v2().memory_events
    assert found
    return found.oom_kill


def only(cgroup: OwnCgroup, version: int) -> None:
    """Skip the test on the other version."""
    if cgroup.version != version:
        pytest.skip(f"cgroups are of version {cgroup.version} here")

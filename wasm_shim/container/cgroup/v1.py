"""A cgroup of version 1: one directory in each mounted hierarchy.

Source: the kernel's Documentation/admin-guide/cgroup-v1.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from wasm_shim.container.cgroup import files, oom, v1_metrics
from wasm_shim.container.cgroup.files import Write
from wasm_shim.container.cgroup.hierarchy import Hierarchy
from wasm_shim.container.cgroup.resources import UNLIMITED, Limits, parse_resources
from wasm_shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from wasm_shim.eventloop import EventLoop


class CgroupV1:
    """The directories of one path; implements `Cgroup`."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...], path: str) -> None:
        self.path = path
        self._hierarchies = hierarchies
        self._directories = tuple(f"{hierarchy.mount}/{path}" for hierarchy in hierarchies)
        self._of = {name: f"{item.mount}/{path}" for item in hierarchies for name in item.controllers}

    def create(self, resources: Mapping[str, Any]) -> None:
        """See `Cgroup.create`."""
        writes = self._writes(parse_resources(resources))
        if self.pids():
            raise AlreadyExists(f"processes run in the cgroup {self.path} already; give another linux.cgroupsPath")
        made: list[str] = []
        try:
            self._make(made)
            self.thaw()
            files.write_together(writes)
            if "devices" in self._of:
                self._write("devices", "devices.deny", "a")
                self._write("devices", "devices.allow", "c 1:3 rw")  # /dev/null, which stands for stdio that nobody has
        except BaseException:
            files.remove_directories(made)
            raise

    def _make(self, made: list[str]) -> None:
        for hierarchy, directory in zip(self._hierarchies, self._directories, strict=True):
            prepare = _fill_cpuset if "cpuset" in hierarchy.controllers else _leave
            try:
                files.make_directories(hierarchy.mount, self.path, made, prepare)
                prepare(directory)
            except OSError as error:
                raise files.refusal(error, directory) from error

    def entrances(self) -> tuple[str, ...]:
        """See `Cgroup.entrances`."""
        return tuple(f"{directory}/tasks" for directory in self._directories)

    def update(self, resources: Mapping[str, Any]) -> None:
        """See `Cgroup.update`."""
        files.write_together(self._writes(parse_resources(resources)))

    def freeze(self) -> None:
        """See `Cgroup.freeze`."""
        self._write("freezer", "freezer.state", "FROZEN")

    def thaw(self) -> None:
        """See `Cgroup.thaw`."""
        if "freezer" in self._of:
            self._write("freezer", "freezer.state", "THAWED")

    @property
    def frozen(self) -> bool:
        """See `Cgroup.frozen`."""
        return files.read_or_empty(f"{self._of.get('freezer', '')}/freezer.state").strip() == "FROZEN"

    def pids(self) -> tuple[int, ...]:
        """See `Cgroup.pids`; a process joins the first hierarchy first, and that one is removed last."""
        return files.processes(self._directories[0])

    def kill(self) -> None:
        """See `Cgroup.kill`; frozen while it is done, so that nothing forks away and nothing runs after the thaw."""
        try:
            self.freeze()
        except (FailedPrecondition, NotFound):
            pass
        try:
            files.kill_processes(self._directories[0])
        finally:
            try:
                self.thaw()
            except NotFound:
                pass

    def metrics(self) -> tuple[str, bytes]:
        """See `Cgroup.metrics`."""
        files.require_directory(self._directories[0])
        return v1_metrics.TYPE_URL, v1_metrics.measure(self._of).encode()

    def watch_oom(self, loop: EventLoop, callback: Callable[[], None]) -> oom.OomWatch:
        """See `Cgroup.watch_oom`."""
        if "memory" not in self._of:
            return oom.OomWatch(loop, callback, lambda: None)
        memory = self._of["memory"]
        try:
            return oom.watch_v1(loop, callback, memory)
        except OSError as error:
            raise files.refusal(error, f"{memory}/cgroup.event_control") from error

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        for directory in reversed(self._directories):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass

    def _file(self, controller: str, name: str, field: str) -> str:
        if controller not in self._of:
            raise FailedPrecondition(f"{field} needs the cgroup controller {controller}, which is not mounted")
        return f"{self._of[controller]}/{name}"

    def _write(self, controller: str, name: str, value: str) -> None:
        path = self._file(controller, name, name)
        try:
            files.write(path, value)
        except OSError as error:
            raise files.refusal(error, path, value) from error

    def _writes(self, limits: Limits) -> list[Write]:
        if limits.unified:
            key = limits.unified[0][0]
            raise InvalidArgument(f"linux.resources.unified sets {key}, which is for cgroup version 2; leave it out")
        simple = (
            ("cpu", "cpu.idle", limits.idle),
            ("cpu", "cpu.shares", None if limits.idle else limits.shares),  # idle leaves no share to set
            ("cpu", "cpu.cfs_period_us", limits.period),
            ("cpu", "cpu.cfs_quota_us", limits.quota),
            ("cpu", "cpu.cfs_burst_us", limits.burst),
            ("cpuset", "cpuset.cpus", limits.cpus),
            ("cpuset", "cpuset.mems", limits.mems),
            ("pids", "pids.max", "max" if limits.pids == UNLIMITED else limits.pids),
            ("blkio", "blkio.bfq.weight", limits.weight),
            *(("hugetlb", f"hugetlb.{size}.limit_in_bytes", limit) for size, limit in limits.huge_pages),
        )
        return [*self._memory_writes(limits), *self._given(simple)]

    def _given(self, settings: Iterable[tuple[str, str, object]]) -> Iterator[Write]:
        for controller, name, value in settings:
            lifts = value in (UNLIMITED, "max") and controller not in self._of  # there is no limit then
            if value is not None and not lifts:
                yield Write(self._file(controller, name, name), str(value))

    def _memory_writes(self, limits: Limits) -> Iterator[Write]:
        swap, off = limits.memory_and_swap, limits.oom_killer_off
        if swap is None and limits.memory == UNLIMITED:
            swap = UNLIMITED  # else the limit of both together would stay below
        simple = (
            ("memory.limit_in_bytes", limits.memory),
            ("memory.memsw.limit_in_bytes", swap),
            ("memory.soft_limit_in_bytes", limits.reservation),
            ("memory.swappiness", limits.swappiness),
            ("memory.oom_control", None if off is None else int(off)),
        )
        for item in self._given(("memory", name, value) for name, value in simple):
            # Without swap accounting there is no file; to lift its limit, or to allow no swap, asks for nothing.
            yield item._replace(optional=".memsw." in item.path and swap in (UNLIMITED, limits.memory))


def _leave(directory: str) -> None:
    """What most controllers need before a child is made: nothing."""


def _fill_cpuset(directory: str) -> None:
    """A new cpuset is empty and takes no process: give it what its parent has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not files.read(f"{directory}/{name}").strip():
            files.write(f"{directory}/{name}", files.read(f"{os.path.dirname(directory)}/{name}").strip())

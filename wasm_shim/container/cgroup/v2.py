"""A cgroup of version 2: one directory, whose ancestors enable the controllers that it needs.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst. Device files would need a BPF program here; there is none,
because a guest's tree has no device file and its mounts are all nodev.
"""

import errno
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from wasm_shim.container.cgroup import files, oom, v2_metrics
from wasm_shim.container.cgroup.files import Write
from wasm_shim.container.cgroup.resources import UNLIMITED, Limits, parse_resources
from wasm_shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from wasm_shim.eventloop import EventLoop

_WANTED: Final = ("cpu", "memory", "pids", "io", "cpuset")  # enabled where they can be, for limits and for metrics


class CgroupV2:
    """The directory of one path; implements `Cgroup`."""

    def __init__(self, mount: str, path: str) -> None:
        self.path = path
        self._mount = mount
        self._directory = f"{mount}/{path}"

    def create(self, resources: Mapping[str, Any]) -> None:
        """See `Cgroup.create`."""
        limits = parse_resources(resources)
        needed = {name.partition(".")[0] for name, value in self._values(limits) if value != "max"}
        needed.discard("cgroup")
        if self.pids():
            raise AlreadyExists(f"processes run in the cgroup {self.path} already; give another linux.cgroupsPath")
        made: list[str] = []
        try:
            self._make(made, needed)
            self.thaw()
            files.write_together(self._writes(limits))
        except BaseException:
            files.remove_directories(made)
            raise

    def _make(self, made: list[str], needed: set[str]) -> None:
        wanted = tuple(dict.fromkeys((*_WANTED, *sorted(needed))))
        refused: dict[str, str] = {}
        missing = needed
        try:
            # Twice: a parent may have been removed and made again by another shim before this one held it.
            for _ in range(2):
                files.make_directories(
                    self._mount, self.path, made, lambda directory: _enable(directory, wanted, refused)
                )
                missing = needed - set(files.read(f"{self._directory}/cgroup.controllers").split())
                if not missing:
                    return
        except OSError as error:
            raise files.refusal(error, self._directory) from error
        name = min(missing)
        why = refused.get(name, "this kernel, or who delegates the cgroup, does not offer it")
        raise FailedPrecondition(f"a limit needs the cgroup controller {name}: {why}; leave out the limit")

    def entrances(self) -> tuple[str, ...]:
        """See `Cgroup.entrances`."""
        return (f"{self._directory}/cgroup.procs",)

    def update(self, resources: Mapping[str, Any]) -> None:
        """See `Cgroup.update`."""
        limits = parse_resources(resources)
        files.require_directory(self._directory)
        files.write_together(self._writes(limits))

    def freeze(self) -> None:
        """See `Cgroup.freeze`."""
        self._write("cgroup.freeze", "1")

    def thaw(self) -> None:
        """See `Cgroup.thaw`."""
        self._write("cgroup.freeze", "0")

    @property
    def frozen(self) -> bool:
        """See `Cgroup.frozen`."""
        return files.numbers(f"{self._directory}/cgroup.events").get("frozen") == 1

    def pids(self) -> tuple[int, ...]:
        """See `Cgroup.pids`."""
        return files.processes(self._directory)

    def kill(self) -> None:
        """See `Cgroup.kill`; a frozen process of version 2 dies as it is, the thaw is for those that come later."""
        try:
            if os.path.exists(f"{self._directory}/cgroup.kill"):  # Linux 5.14
                self._write("cgroup.kill", "1")
            else:
                files.kill_processes(self._directory)
            self.thaw()
        except NotFound:
            pass

    def metrics(self) -> tuple[str, bytes]:
        """See `Cgroup.metrics`."""
        files.require_directory(self._directory)
        return v2_metrics.TYPE_URL, v2_metrics.measure(self._directory).encode()

    def watch_oom(self, loop: EventLoop, callback: Callable[[], None]) -> oom.OomWatch:
        """See `Cgroup.watch_oom`."""
        events = f"{self._directory}/memory.events"
        try:
            return oom.watch_v2(loop, callback, events)
        except FileNotFoundError:
            return oom.OomWatch(loop, callback, lambda: None)
        except OSError as error:
            raise files.refusal(error, events) from error

    def remove(self) -> None:
        """See `Cgroup.remove`."""
        try:
            os.rmdir(self._directory)
        except FileNotFoundError:
            pass

    def _write(self, name: str, value: str) -> None:
        path = f"{self._directory}/{name}"
        try:
            files.write(path, value)
        except OSError as error:
            raise files.refusal(error, path, value) from error

    def _writes(self, limits: Limits) -> list[Write]:
        # Nothing is needed to lift a limit, nor to allow no swap where it is not even counted.
        # BFQ has a weight file of its own while its module is loaded.
        nothing = (("memory.swap.max", "0"), ("io.bfq.weight", str(limits.weight)))
        return [
            Write(f"{self._directory}/{name}", value, optional=value == "max" or (name, value) in nothing)
            for name, value in self._values(limits)
        ]

    def _values(self, limits: Limits) -> Iterator[tuple[str, str]]:
        """The files to write and their values."""
        swap = self._swap(limits)
        quota = "max" if limits.quota == UNLIMITED else limits.quota
        simple = (
            ("memory.max", _number(limits.memory)),
            ("memory.swap.max", _number(swap)),
            ("memory.low", _number(limits.reservation)),
            ("cpu.idle", limits.idle),
            ("cpu.weight", None if limits.idle or limits.shares is None else cpu_weight(limits.shares)),
            ("cpu.max", self._cpu_max(quota, limits.period)),
            ("cpu.max.burst", limits.burst),
            ("cpuset.cpus", limits.cpus),
            ("cpuset.mems", limits.mems),
            ("pids.max", _number(limits.pids)),
            ("io.weight", None if limits.weight is None else io_weight(limits.weight)),
            ("io.bfq.weight", limits.weight),
            *((f"hugetlb.{size}.max", limit) for size, limit in limits.huge_pages),
            *limits.unified,
        )
        return ((name, str(value)) for name, value in simple if value is not None)

    def _cpu_max(self, quota: int | str | None, period: int | None) -> str | None:
        if period is None:
            return None if quota is None else str(quota)  # the kernel keeps the period
        if quota is None:
            quota = (files.read_or_empty(f"{self._directory}/cpu.max").split() or ["max"])[0]
        return f"{quota} {period}"

    def _swap(self, limits: Limits) -> int | None:
        """The limit of swap alone, where the document gives that of memory and swap together."""
        together, memory = limits.memory_and_swap, limits.memory
        if together is None:
            return UNLIMITED if memory == UNLIMITED else None  # as version 1 has to do it
        if memory is None and together != UNLIMITED:
            now = files.number(f"{self._directory}/memory.max")
            memory = UNLIMITED if now == files.NO_LIMIT else now
        if together == UNLIMITED or memory == UNLIMITED:
            return together
        if memory is None:
            raise InvalidArgument("linux.resources.memory.swap is given without a limit; give memory.limit, too")
        if together < memory:
            message = f"linux.resources.memory.swap is {together}, less than the limit of {memory} which it includes"
            raise InvalidArgument(f"{message}; give at least as much")
        return together - memory


def _enable(directory: str, wanted: tuple[str, ...], refused: dict[str, str]) -> None:
    """Let the children of a cgroup have these controllers; each alone, as one refusal would refuse them all."""
    enabled = files.read(f"{directory}/cgroup.subtree_control").split()
    offered = files.read(f"{directory}/cgroup.controllers").split()
    for name in wanted:
        if name in offered and name not in enabled:
            try:
                files.write(f"{directory}/cgroup.subtree_control", f"+{name}")
            except OSError as error:
                if error.errno == errno.ENODEV:  # the cgroup is gone
                    raise
                # EBUSY: processes live in the cgroup itself.
                refused[name] = f"{directory} does not give it to its children ({error.strerror})"


def _number(value: int | None) -> str | None:
    return None if value is None else "max" if value == UNLIMITED else str(value)


def cpu_weight(shares: int) -> int:
    """1 to 10000 for the 2 to 262144 of version 1, so that both ends and the defaults (1024 and 100) meet.

    The curve is the one that runc 1.4 and crun use, so that Wasm and Linux containers weigh the same beside each other.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    doublings = math.log2(shares)
    return math.ceil(10 ** ((doublings * doublings + 125 * doublings) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """1 to 10000 for the 10 to 1000 of version 1, in a straight line, as runc does it."""
    return 1 + (weight - 10) * 9999 // 990

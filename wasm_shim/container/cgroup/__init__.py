"""The cgroup of a container, of version 1 or 2: limits, freezer, kill, metrics and the end for lack of memory."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from wasm_shim.container.cgroup.hierarchy import mounted, relative_path
from wasm_shim.container.cgroup.oom import OomWatch
from wasm_shim.container.cgroup.v1 import CgroupV1
from wasm_shim.container.cgroup.v2 import CgroupV2
from wasm_shim.eventloop import EventLoop

__all__ = ["Cgroup", "OomWatch", "cgroup_at", "path_without_spec"]


class Cgroup(Protocol):
    """One container's cgroup, which need not exist yet.

    Methods on one that does not exist raise NotFound, except those that say otherwise.
    """

    @property
    def frozen(self) -> bool:
        """Whether all processes stand still; False while they are on the way, and when the cgroup is gone."""

    def create(self, resources: Mapping[str, Any]) -> None:
        """Make it, with its parents and the limits of an OCI document LinuxResources; one that is empty is taken over.

        On failure every directory that was made is removed again. Raises InvalidArgument, AlreadyExists (processes
        run in it), FailedPrecondition (no such controller), PermissionDenied, ResourceExhausted.
        """

    def entrances(self) -> tuple[str, ...]:
        """The files into which a process of one thread writes "0" to join, in this order."""

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change what the document names, all or nothing; raises as `create`."""

    def freeze(self) -> None:
        """Have all processes stop; does not wait until they have, see `frozen`."""

    def thaw(self) -> None:
        """Let them go on."""

    def pids(self) -> tuple[int, ...]:
        """The processes in it; none when it is gone."""

    def kill(self) -> None:
        """Send SIGKILL to all in it, also where they are frozen; does not wait. Harmless when it is gone."""

    def metrics(self) -> tuple[str, bytes]:
        """The protobuf name of its metrics message, and the encoded message."""

    def watch_oom(self, loop: EventLoop, callback: Callable[[], None]) -> OomWatch:
        """Call back when the kernel has killed in it for lack of memory; never where nothing limits memory."""

    def remove(self) -> None:
        """Remove it, not its parents; fine when it is gone. Raises OSError, EBUSY while processes are in it."""


def cgroup_at(path: str, *, systemd: bool) -> Cgroup:
    """The cgroup that linux.cgroupsPath means to the cgroupfs or the systemd driver; makes nothing.

    Raises InvalidArgument for the path, FailedPrecondition where no cgroups are mounted.
    """
    relative = relative_path(path, systemd=systemd)
    hierarchies = mounted()
    if hierarchies.unified:
        return CgroupV2(hierarchies.unified, relative)
    return CgroupV1(hierarchies.v1, relative)


def path_without_spec(id_: str) -> str:
    """What stands for linux.cgroupsPath where a container's spec leaves it out."""
    return f"/wasm-shim/{id_}"

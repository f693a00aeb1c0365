"""Files and directories of a cgroup: made, read, written together, and what the kernel's refusals mean."""

import errno
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from wasm_shim.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    WasmShimError,
)

NO_LIMIT: Final = (1 << 64) - 1  # how "max" is told in numbers


class Write(NamedTuple):
    """A value for a file. One that is `optional` may be missing: it asks for what holds without it, too."""

    path: str
    value: str
    optional: bool = False


def read(path: str) -> str:
    """The text of a file; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("ascii", "replace")


def write(path: str, value: str) -> None:
    """Write in one go to a file that exists; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def read_or_empty(path: str) -> str:
    """The text of a file, empty where there is none or its cgroup is going away."""
    try:
        return read(path)
    except OSError:
        return ""


def number(path: str) -> int | None:
    """The number in a file; "max" is NO_LIMIT, and None stands for a file that is not there."""
    text = read_or_empty(path).strip()
    if text == "max":
        return NO_LIMIT
    return int(text) if text.isdecimal() else None


def numbers(path: str) -> dict[str, int]:
    """The lines `name number` of a file; none where it is not there."""
    pairs = (line.split() for line in read_or_empty(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def fill(target: object, values: Mapping[str, int]) -> None:
    """Set those attributes that `target` has and `values` names."""
    for name in vars(target).keys() & values.keys():
        setattr(target, name, values[name])


def processes(directory: str) -> tuple[int, ...]:
    """The processes of one cgroup, none where it is gone."""
    return tuple(int(word) for word in read_or_empty(f"{directory}/cgroup.procs").split())


def require_directory(directory: str) -> None:
    """Raise NotFound where the cgroup is gone."""
    if not os.path.isdir(directory):
        raise NotFound(f"there is no cgroup {directory}")


def kill_processes(directory: str) -> None:
    """Send SIGKILL to all in the cgroup, and to those that appear meanwhile."""
    killed: set[int] = set()
    while found := set(processes(directory)) - killed:
        batch = list(found)[:_BATCH]
        _kill(batch, directory)
        killed.update(batch)


_BATCH: Final = 64  # descriptors held at once


def _kill(batch: list[int], directory: str) -> None:
    """Kill those that are in the cgroup still after their pidfd is held: a pid may have become another process."""
    held: dict[int, int] = {}
    try:
        for pid in batch:
            try:
                held[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
        for pid in held.keys() & set(processes(directory)):
            try:
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
            except ProcessLookupError:
                pass
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def write_together(writes: Iterable[Write]) -> None:
    """Write all, or put the old values back and raise what the refusal means.

    Some values are only valid beside others (a memory limit below that of memory and swap, a burst below its quota),
    so what the kernel refuses is tried again after the others.
    """
    waiting = list(writes)
    old: list[Write] = []
    while waiting:
        refused: list[tuple[Write, OSError]] = []
        for item in waiting:
            try:
                before = read_or_empty(item.path)
                write(item.path, item.value)
                old.append(Write(item.path, before))
            except OSError as error:
                if not (item.optional and error.errno == errno.ENOENT):
                    refused.append((item, error))
        if len(refused) == len(waiting):
            _put_back(old)
            item, cause = refused[0]
            raise refusal(cause, item.path, item.value) from cause
        waiting = [item for item, _ in refused]


def _put_back(old: list[Write]) -> None:
    for item in reversed(old):
        try:
            write(item.path, item.value)
        except OSError:  # not every file takes what it shows; the failure that led here is what counts
            pass


def refusal(error: OSError, path: str, value: str = "") -> WasmShimError:
    """What it means that the kernel refused to make `path`, or to take `value` for it."""
    asked = f"{path} = {value}" if value else path
    if error.errno in (errno.ENOENT, errno.ENODEV):
        if not os.path.isdir(os.path.dirname(path)):
            return NotFound(f"there is no cgroup {os.path.dirname(path)}")
        return FailedPrecondition(f"the kernel has no {path}; leave out the limit or enable its controller")
    kind, remedy = _meaning(error.errno)
    return kind(f"the kernel refused {asked}: {error.strerror or error}; {remedy}")


# E2BIG: a value that is longer than a page.
_WRONG: Final = (
    *(errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.E2BIG),
    *(errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR),
)


def _meaning(number: int | None) -> tuple[type[WasmShimError], str]:
    if number in (errno.EPERM, errno.EACCES, errno.EROFS):
        return PermissionDenied, "run as root where cgroups can be written to"
    if number in (errno.ENOSPC, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return ResourceExhausted, "remove cgroups that nobody uses"
    if number in _WRONG:
        return InvalidArgument, "give another limit or path"
    if number in (errno.EBUSY, errno.EOPNOTSUPP):
        return FailedPrecondition, "what runs there needs more"
    return Internal, "this is not expected"


def make_directories(mount: str, path: str, made: list[str], prepare: Callable[[str], None]) -> str:
    """Make the cgroup `path` below `mount` with its parents, and add to `made` what did not exist before.

    `prepare` is called with each directory before the next one is made in it. Raises OSError.
    """
    for _ in range(_RACES):
        directory = mount
        try:
            for name in path.split("/"):
                prepare(directory)
                directory = f"{directory}/{name}"
                _make(directory, made)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            continue  # another shim has just removed a parent that it made in vain
        return directory
    raise FileNotFoundError(errno.ENOENT, "its parents come and go", f"{mount}/{path}")


_RACES: Final = 100


def _make(directory: str, made: list[str]) -> None:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        if os.path.isfile(directory):  # one of the kernel's own in the parent
            raise
    else:
        made.append(directory)


def remove_directories(made: Iterable[str]) -> None:
    """Take back what was made, the last first; what others use by now stays."""
    for directory in reversed(tuple(made)):
        try:
            os.rmdir(directory)
        except OSError:
            pass

"""Where the kernel's cgroup hierarchies are mounted, and which directory below them a `cgroupsPath` means.

Sources: proc_pid_mountinfo(5), cgroups(7), systemd.slice(5).
"""

from typing import Final, NamedTuple

from wasm_shim.errors import FailedPrecondition, InvalidArgument

UNIFIED: Final = "/sys/fs/cgroup"

# In the order in which a process joins them: who is in any of them is in the first, which counts and freezes.
CONTROLLERS: Final = ("freezer", "pids", "memory", "cpu", "cpuacct", "cpuset", "blkio", "hugetlb", "devices")


class Hierarchy(NamedTuple):
    """One mounted hierarchy of version 1 with the controllers that it carries."""

    mount: str
    controllers: tuple[str, ...]


class Hierarchies(NamedTuple):
    """What is mounted: `unified` is the mount of version 2, or empty where version 1 rules."""

    unified: str
    v1: tuple[Hierarchy, ...]


_mounted: Hierarchies | None = None


def mounted() -> Hierarchies:
    """The hierarchies of this process's mount namespace, read once; FailedPrecondition where there are none."""
    global _mounted
    if _mounted is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            _mounted = parse_mountinfo(file.read())
    return _mounted


def parse_mountinfo(text: str) -> Hierarchies:
    """Version 2 where /sys/fs/cgroup itself is of it; else version 1, which rules on a hybrid machine, too."""
    found: dict[str, Hierarchy] = {}
    top = ""
    for line in text.splitlines():
        place, _, source = line.partition(" - ")
        mount, kind = _unescaped(place.split(" ")[4]), source.split(" ")[0]
        if mount == UNIFIED:
            top = kind  # the last one mounted there hides those before
        if kind == "cgroup":
            options = source.split(" ")[2].split(",")
            carried = tuple(name for name in CONTROLLERS if name in options)
            for name in carried:
                found.setdefault(name, Hierarchy(mount, carried))
    if top == "cgroup2":
        return Hierarchies(UNIFIED, ())
    if not found:
        raise FailedPrecondition(f"no cgroup hierarchy is mounted below {UNIFIED}; mount one")
    return Hierarchies("", tuple(dict.fromkeys(found[name] for name in CONTROLLERS if name in found)))


def _unescaped(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def relative_path(path: str, *, systemd: bool) -> str:
    """The directory below the root of each hierarchy that linux.cgroupsPath means, without a slash at either end.

    With the systemd driver the path is `slice:prefix:name` and means the directory that systemd makes for it. A
    path of the other driver's form is taken for what it says where it cannot be misread: with systemd one that
    begins with a slash, without it one whose slice ends in `.slice`. Raises InvalidArgument.
    """
    parts = path.split(":")
    is_unit = len(parts) == 3 and "/" not in path and (systemd or parts[0].endswith(".slice"))
    if is_unit:
        path = _unit_path(*parts)
    elif systemd and not path.startswith("/"):
        raise InvalidArgument(f"linux.cgroupsPath is {path!r}; with the systemd driver it is slice:prefix:name")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names or any(mark in path for mark in "\0\n"):
        raise InvalidArgument(f"linux.cgroupsPath is {path!r}; write a path without '..' and control characters")
    if not names:
        raise InvalidArgument(f"linux.cgroupsPath is {path!r}; name a cgroup of the container's own")
    return "/".join(names)


def _unit_path(slice_name: str, prefix: str, name: str) -> str:
    if not name or name in (".", ".."):
        raise InvalidArgument(f"linux.cgroupsPath names the unit {name!r}; write slice:prefix:name")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{expand_slice(slice_name or 'system.slice')}/{unit}"


def expand_slice(name: str) -> str:
    """The directory of a slice: each dash begins a slice within one, so `a-b.slice` lies in `a.slice`."""
    if name == "-.slice":
        return ""
    stem = name.removesuffix(".slice")
    steps = stem.split("-")
    if stem == name or not all(steps):
        raise InvalidArgument(f"linux.cgroupsPath names the slice {name!r}; write one like a-b.slice")
    return "/".join("-".join(steps[: count + 1]) + ".slice" for count in range(len(steps)))

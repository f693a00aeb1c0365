"""The metrics of a cgroup of version 2, read from its files; a file that is not there leaves its part out."""

from typing import Final, TypeVar

from wasm_shim.container.cgroup import files
from wasm_shim.ttrpc import metrics as stats
from wasm_shim.ttrpc.protobuf import Message

TYPE_URL: Final = "io.containerd.cgroups.v2.Metrics"
M = TypeVar("M", bound=Message)


def measure(directory: str) -> stats.V2Metrics:
    """Read the files of one cgroup."""
    return stats.V2Metrics(
        pids=_pids(f"{directory}/pids"),
        cpu=_lines(stats.V2CPUStat(), f"{directory}/cpu.stat"),
        memory=_memory(f"{directory}/memory"),
        io=_io(f"{directory}/io.stat"),
        memory_events=_lines(stats.V2MemoryEvents(), f"{directory}/memory.events"),
    )


def _lines(found: M, path: str) -> M | None:
    lines = files.numbers(path)
    if not lines:
        return None
    files.fill(found, lines)
    return found


def _pids(prefix: str) -> stats.PidsStat | None:
    current, limit = files.number(f"{prefix}.current"), files.number(f"{prefix}.max")
    return None if current is None or limit is None else stats.PidsStat(current=current, limit=limit)


def _memory(prefix: str) -> stats.V2MemoryStat | None:
    found = _lines(stats.V2MemoryStat(), f"{prefix}.stat")
    usage = files.number(f"{prefix}.current")
    if found is None or usage is None:
        return None
    found.usage = usage
    found.usage_limit = files.number(f"{prefix}.max") or 0
    found.max_usage = files.number(f"{prefix}.peak") or 0
    found.swap_usage = files.number(f"{prefix}.swap.current") or 0
    found.swap_limit = files.number(f"{prefix}.swap.max") or 0
    found.swap_max_usage = files.number(f"{prefix}.swap.peak") or 0
    return found


def _io(path: str) -> stats.V2IOStat | None:
    """Lines like `8:0 rbytes=4096 wbytes=0 …`."""
    try:
        text = files.read(path)
    except OSError:
        return None
    found = stats.V2IOStat()
    for line in text.splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if colon and major.isdecimal() and minor.isdecimal():
            entry = stats.V2IOEntry(major=int(major), minor=int(minor))
            pairs = (word.partition("=") for word in words)
            files.fill(entry, {name: int(value) for name, _, value in pairs if value.isdecimal()})
            found.usage.append(entry)
    return found

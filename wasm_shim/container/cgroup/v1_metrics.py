"""The metrics of a cgroup of version 1, read from its files; a file that is not there leaves its part out."""

from collections.abc import Mapping
from typing import Final

from wasm_shim.container.cgroup import files
from wasm_shim.ttrpc import metrics as stats

TYPE_URL: Final = "io.containerd.cgroups.v1.Metrics"


def measure(directories: Mapping[str, str]) -> stats.V1Metrics:
    """Read the controllers' directories, by name of the controller."""
    return stats.V1Metrics(
        pids=_pids(f"{directories['pids']}/pids") if "pids" in directories else None,
        cpu=_cpu(directories.get("cpuacct"), directories.get("cpu")),
        memory=_memory(f"{directories['memory']}/memory") if "memory" in directories else None,
        blkio=_blkio(f"{directories['blkio']}/blkio") if "blkio" in directories else None,
        memory_oom_control=_oom_control(directories["memory"]) if "memory" in directories else None,
    )


def _pids(prefix: str) -> stats.PidsStat | None:
    current, limit = files.number(f"{prefix}.current"), files.number(f"{prefix}.max")
    if current is None or limit is None:
        return None
    # No limit is zero in version 1, as containerd's library has it.
    return stats.PidsStat(current=current, limit=0 if limit == files.NO_LIMIT else limit)


def _cpu(accounting: str | None, scheduling: str | None) -> stats.V1CPUStat | None:
    if accounting is None and scheduling is None:
        return None
    found = stats.V1CPUStat()
    total = files.number(f"{accounting}/cpuacct.usage") if accounting else None
    if total is not None:
        found.usage = stats.V1CPUUsage(
            total=total,
            kernel=files.number(f"{accounting}/cpuacct.usage_sys") or 0,
            user=files.number(f"{accounting}/cpuacct.usage_user") or 0,
            per_cpu=[int(word) for word in files.read_or_empty(f"{accounting}/cpuacct.usage_percpu").split()],
        )
    lines = files.numbers(f"{scheduling}/cpu.stat") if scheduling else {}
    if lines:
        found.throttling = stats.V1Throttle(
            periods=lines.get("nr_periods", 0),
            throttled_periods=lines.get("nr_throttled", 0),
            throttled_time=lines.get("throttled_time", 0),
        )
    return found


def _memory(prefix: str) -> stats.V1MemoryStat | None:
    lines = files.numbers(f"{prefix}.stat")
    if not lines:
        return None
    found = stats.V1MemoryStat()
    files.fill(found, {_field(name): value for name, value in lines.items()})
    found.usage = _counter(prefix)
    found.swap = _counter(f"{prefix}.memsw")  # a line of memory.stat is called swap, too, and is not meant
    found.kernel = _counter(f"{prefix}.kmem")
    found.kernel_tcp = _counter(f"{prefix}.kmem.tcp")
    return found


def _field(line: str) -> str:
    """containerd's name for a line of memory.stat."""
    if line == "hierarchical_memsw_limit":
        return "hierarchical_swap_limit"
    name = line.replace("pgpg", "pg_pg_").replace("pgmajfault", "pg_maj_fault")
    return name.replace("pgfault", "pg_fault")


def _counter(prefix: str) -> stats.V1MemoryEntry | None:
    usage = files.number(f"{prefix}.usage_in_bytes")
    if usage is None:
        return None
    return stats.V1MemoryEntry(
        limit=files.number(f"{prefix}.limit_in_bytes") or 0,
        usage=usage,
        max=files.number(f"{prefix}.max_usage_in_bytes") or 0,
        failcnt=files.number(f"{prefix}.failcnt") or 0,
    )


def _blkio(prefix: str) -> stats.V1BlkIOStat:
    # BFQ counts what goes through it; the throttling layer counts everything.
    return stats.V1BlkIOStat(
        io_service_bytes_recursive=_operations(f"{prefix}.throttle.io_service_bytes_recursive"),
        io_serviced_recursive=_operations(f"{prefix}.throttle.io_serviced_recursive"),
    )


def _operations(path: str) -> list[stats.V1BlkIOEntry]:
    """Lines like `8:0 Read 4096`; a line of two words sums up all devices."""
    entries = []
    for line in files.read_or_empty(path).splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            entry = stats.V1BlkIOEntry(op=words[1], major=int(major), minor=int(minor), value=int(words[2]))
            entries.append(entry)
    return entries


def _oom_control(memory: str) -> stats.V1MemoryOomControl | None:
    lines = files.numbers(f"{memory}/memory.oom_control")
    if not lines:
        return None
    found = stats.V1MemoryOomControl()
    files.fill(found, lines)
    return found

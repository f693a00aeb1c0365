"""What Stats answers: the metrics of a cgroup, as much of them as we fill.

Names and numbers are those of io.containerd.cgroups.v1 and v2 (containerd/cgroups, metrics.proto). Version 1 counts
processor time in nanoseconds, version 2 in microseconds. Fields are named like the lines of the kernel's files where
containerd's are.
"""

from __future__ import annotations

from wasm_shim.ttrpc import wire
from wasm_shim.ttrpc.protobuf import Message, message, repeated, string, uint64


class PidsStat(Message):
    """Processes and threads; the same in both versions."""

    current: int = uint64(1)
    limit: int = uint64(2)


class V1CPUUsage(Message):
    """Processor time in nanoseconds."""

    total: int = uint64(1)
    kernel: int = uint64(2)
    user: int = uint64(3)
    per_cpu: list[int] = repeated(4, wire.UINT64)


class V1Throttle(Message):
    """How often, and for how many nanoseconds, the quota held processes back."""

    periods: int = uint64(1)
    throttled_periods: int = uint64(2)
    throttled_time: int = uint64(3)


class V1CPUStat(Message):
    """Processor time and what was withheld."""

    usage: V1CPUUsage | None = message(1, V1CPUUsage)
    throttling: V1Throttle | None = message(2, V1Throttle)


class V1MemoryEntry(Message):
    """One of the memory counters, in bytes."""

    limit: int = uint64(1)
    usage: int = uint64(2)
    max: int = uint64(3)
    failcnt: int = uint64(4)


class V1MemoryStat(Message):
    """The lines of memory.stat, bytes and counts, and the counters; `swap` is memory and swap together."""

    cache: int = uint64(1)
    rss: int = uint64(2)
    rss_huge: int = uint64(3)
    mapped_file: int = uint64(4)
    dirty: int = uint64(5)
    writeback: int = uint64(6)
    pg_pg_in: int = uint64(7)
    pg_pg_out: int = uint64(8)
    pg_fault: int = uint64(9)
    pg_maj_fault: int = uint64(10)
    inactive_anon: int = uint64(11)
    active_anon: int = uint64(12)
    inactive_file: int = uint64(13)
    active_file: int = uint64(14)
    unevictable: int = uint64(15)
    hierarchical_memory_limit: int = uint64(16)
    hierarchical_swap_limit: int = uint64(17)
    total_cache: int = uint64(18)
    total_rss: int = uint64(19)
    total_rss_huge: int = uint64(20)
    total_mapped_file: int = uint64(21)
    total_dirty: int = uint64(22)
    total_writeback: int = uint64(23)
    total_pg_pg_in: int = uint64(24)
    total_pg_pg_out: int = uint64(25)
    total_pg_fault: int = uint64(26)
    total_pg_maj_fault: int = uint64(27)
    total_inactive_anon: int = uint64(28)
    total_active_anon: int = uint64(29)
    total_inactive_file: int = uint64(30)
    total_active_file: int = uint64(31)
    total_unevictable: int = uint64(32)
    usage: V1MemoryEntry | None = message(33, V1MemoryEntry)
    swap: V1MemoryEntry | None = message(34, V1MemoryEntry)
    kernel: V1MemoryEntry | None = message(35, V1MemoryEntry)
    kernel_tcp: V1MemoryEntry | None = message(36, V1MemoryEntry)


class V1BlkIOEntry(Message):
    """Bytes or requests of one kind of operation on one device."""

    op: str = string(1)
    major: int = uint64(3)
    minor: int = uint64(4)
    value: int = uint64(5)


class V1BlkIOStat(Message):
    """Block I/O, with that of cgroups below."""

    io_service_bytes_recursive: list[V1BlkIOEntry] = repeated(1, V1BlkIOEntry)
    io_serviced_recursive: list[V1BlkIOEntry] = repeated(2, V1BlkIOEntry)


class V1MemoryOomControl(Message):
    """The lines of memory.oom_control."""

    oom_kill_disable: int = uint64(1)
    under_oom: int = uint64(2)
    oom_kill: int = uint64(3)


class V1Metrics(Message):
    """io.containerd.cgroups.v1.Metrics."""

    pids: PidsStat | None = message(2, PidsStat)
    cpu: V1CPUStat | None = message(3, V1CPUStat)
    memory: V1MemoryStat | None = message(4, V1MemoryStat)
    blkio: V1BlkIOStat | None = message(5, V1BlkIOStat)
    memory_oom_control: V1MemoryOomControl | None = message(9, V1MemoryOomControl)


class V2CPUStat(Message):
    """The lines of cpu.stat."""

    usage_usec: int = uint64(1)
    user_usec: int = uint64(2)
    system_usec: int = uint64(3)
    nr_periods: int = uint64(4)
    nr_throttled: int = uint64(5)
    throttled_usec: int = uint64(6)
    nr_bursts: int = uint64(8)
    burst_usec: int = uint64(9)


class V2MemoryStat(Message):
    """The lines of memory.stat, bytes and counts, and the counters in bytes; no limit is the greatest number."""

    anon: int = uint64(1)
    file: int = uint64(2)
    kernel_stack: int = uint64(3)
    slab: int = uint64(4)
    sock: int = uint64(5)
    shmem: int = uint64(6)
    file_mapped: int = uint64(7)
    file_dirty: int = uint64(8)
    file_writeback: int = uint64(9)
    anon_thp: int = uint64(10)
    inactive_anon: int = uint64(11)
    active_anon: int = uint64(12)
    inactive_file: int = uint64(13)
    active_file: int = uint64(14)
    unevictable: int = uint64(15)
    slab_reclaimable: int = uint64(16)
    slab_unreclaimable: int = uint64(17)
    pgfault: int = uint64(18)
    pgmajfault: int = uint64(19)
    workingset_nodereclaim: int = uint64(22)
    pgrefill: int = uint64(23)
    pgscan: int = uint64(24)
    pgsteal: int = uint64(25)
    pgactivate: int = uint64(26)
    pgdeactivate: int = uint64(27)
    pglazyfree: int = uint64(28)
    pglazyfreed: int = uint64(29)
    thp_fault_alloc: int = uint64(30)
    thp_collapse_alloc: int = uint64(31)
    usage: int = uint64(32)
    usage_limit: int = uint64(33)
    swap_usage: int = uint64(34)
    swap_limit: int = uint64(35)
    max_usage: int = uint64(36)
    swap_max_usage: int = uint64(37)
    workingset_refault_anon: int = uint64(39)
    workingset_refault_file: int = uint64(40)
    workingset_activate_anon: int = uint64(41)
    workingset_activate_file: int = uint64(42)


class V2IOEntry(Message):
    """What one device has read and written, bytes and requests."""

    major: int = uint64(1)
    minor: int = uint64(2)
    rbytes: int = uint64(3)
    wbytes: int = uint64(4)
    rios: int = uint64(5)
    wios: int = uint64(6)


class V2IOStat(Message):
    """The lines of io.stat."""

    usage: list[V2IOEntry] = repeated(1, V2IOEntry)


class V2MemoryEvents(Message):
    """The lines of memory.events."""

    low: int = uint64(1)
    high: int = uint64(2)
    max: int = uint64(3)
    oom: int = uint64(4)
    oom_kill: int = uint64(5)
    oom_group_kill: int = uint64(6)


class V2Metrics(Message):
    """io.containerd.cgroups.v2.Metrics."""

    pids: PidsStat | None = message(1, PidsStat)
    cpu: V2CPUStat | None = message(2, V2CPUStat)
    memory: V2MemoryStat | None = message(4, V2MemoryStat)
    io: V2IOStat | None = message(6, V2IOStat)
    memory_events: V2MemoryEvents | None = message(8, V2MemoryEvents)

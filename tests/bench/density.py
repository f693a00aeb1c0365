"""What processes cost in memory together, as the kernel counts it."""

from collections.abc import Iterable
from pathlib import Path


def processes_pss(pids: Iterable[int]) -> int:
    """Their proportional set sizes in KiB, summed: what is shared is divided among those who share it (proc(5))."""
    return sum(map(pss, pids))


def pss(pid: int) -> int:
    """The proportional set size of one, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Pss in smaps_rollup of {pid}")

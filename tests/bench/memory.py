"""What running programs cost in memory: PSS of their pod shims and guests, counted by the kernel."""

import subprocess
from pathlib import Path
from typing import Any

from tests.bench.density import pss
from tests.conftest import children, nurseries, zygote_pids


def measure_pods(home: dict[str, str], program: Path, pods: int) -> list[dict[str, Any]]:
    """Rows for `pods` sleeping guests, a pod each: KiB of a shim, a nursery, a guest, and of the three together."""
    command = ["wasm-shim", "run", "--rm", str(program), "sleep", "600000"]
    running = [subprocess.Popen(command, env=home, stdout=subprocess.PIPE) for _ in range(pods)]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()  # "ready"
        (zygote,) = zygote_pids(home)
        shims = children(zygote)
        guests = [guest for shim in shims for guest in children(shim)]
        nursing = [nursery for shim in shims for nursery in nurseries(shim)]
        if not len(shims) == len(guests) == len(nursing) == pods:
            raise RuntimeError(f"{pods} pods have {len(shims)} shims and {len(guests)} guests")
        shim, nursery, guest = ([pss(pid) for pid in pids] for pids in (shims, nursing, guests))
        whole = [sum(three) for three in zip(shim, nursery, guest, strict=True)]
        rows = {"zygote": [pss(zygote)], "pod shim": shim, "nursery": nursery, "guest": guest, "pod": whole}
        return [_row(f"PSS of {name}, {pods} running", values) for name, values in rows.items()]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.communicate(timeout=60)


def _row(name: str, values: list[int]) -> dict[str, Any]:
    ordered = sorted(values)
    p95 = ordered[int(len(ordered) * 0.95)]
    return {"what": name, "unit": "KiB", "n": len(ordered), "median": ordered[len(ordered) // 2], "p95": p95}

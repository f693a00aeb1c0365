"""Benchmarks of part 1: starting a program and what it costs in memory, beside its peers, in one run.

    .build/venv-*/bin/python -m tests.bench.run [--rounds N] [--pods N] [--json FILE]

Figures of one machine at one time: read the ratios. Rounds are interleaved, so that a busy minute hurts all
alike. Ends with 0 also when we are behind; a peer that cannot run here is named with its reason.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.memory import measure_pods
from tests.bench.peers import IMAGE, Containerd, PeerMissing, containerd
from tests.bench.report import interleaved, report
from tests.conftest import BUILD, GUEST_SOURCES, private_home
from tests.guests.build import build
from wasm_shim.runtime.binding import wasmtime_version
from wasm_shim.version import VERSION

Sample = Callable[[], float]


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--pods", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    missing: list[str] = []
    versions = [f"wasm-shim {VERSION}", f"wasmtime {wasmtime_version()}", f"Python {sys.version.split()[0]}"]
    guests = BUILD / "guests"
    guests.mkdir(parents=True, exist_ok=True)
    unbuilt = build(guests, slow=False)
    missing += [f"{name}: {reason}" for name, reason in unbuilt.items() if name == "kit_p2.wasm"]
    sleeper = guests / ("kit_p1.wasm" if "kit_p2.wasm" in unbuilt else "kit_p2.wasm")
    with private_home(os.geteuid()) as home:
        rows = _start_rows(home, options.rounds, versions, missing)
        for pods in sorted({1, options.pods}):
            rows += measure_pods(home, sleeper, pods)
    report(rows, versions, missing, options.json)


def _start_rows(home: dict[str, str], rounds: int, versions: list[str], missing: list[str]) -> list[dict[str, Any]]:
    program = str(GUEST_SOURCES / "hello.wat")
    ours = [shutil.which("wasm-shim", path=home["PATH"]) or "wasm-shim", "run", "--rm", program]
    samples: dict[str, Sample] = {
        "wasm-shim run, hello": lambda: _whole(ours, home),
        "wasm-shim run, hello, first byte": lambda: _first_byte(ours, home),
    }
    wasmtime = shutil.which("wasmtime")
    if wasmtime:
        samples["wasmtime run, hello"] = lambda: _whole([wasmtime, "run", program], home)
    else:
        missing.append("wasmtime: the command is not installed")
    try:
        with containerd(BUILD) as peer:
            versions.append(peer.version())
            return _rows({"ctr run, hello in runc": _ctr(peer), **samples}, rounds)
    except PeerMissing as reason:
        missing.append(str(reason))
        return _rows(samples, rounds)


def _ctr(peer: Containerd) -> Sample:
    numbers = iter(range(1 << 30))
    return lambda: _whole(peer.ctr("run", "--rm", IMAGE, f"bench-{next(numbers)}"), peer.environment)


def _rows(samples: dict[str, Sample], rounds: int) -> list[dict[str, Any]]:
    named = {name: lambda sample=sample: {"": sample()} for name, sample in samples.items()}
    return interleaved(named, rounds, base="ctr run, hello in runc")


def _whole(command: list[str], environment: dict[str, str]) -> float:
    """Milliseconds from start to end of a process."""
    begin = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    return (time.perf_counter() - begin) * 1e3


def _first_byte(command: list[str], environment: dict[str, str]) -> float:
    """Milliseconds from the start of a process to its first byte of output."""
    begin = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        taken = (time.perf_counter() - begin) * 1e3
        process.communicate(timeout=60)
    return taken


if __name__ == "__main__":
    main()

"""Benchmarks of part 2: tasks of containerd, beside runc and, where it is built, runwasi, in one run.

    .build/venv-*/bin/python -m tests.bench.tasks [--rounds N] [--tasks N] [--cycles N] [--json FILE]

Figures of one machine at one time: read the ratios. Rounds are interleaved, so that a busy minute hurts all alike.
Needs root. A peer that cannot run here is named with its reason.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from wasmtime import wat2wasm

from tests.bench.density import processes_pss
from tests.bench.report import Sample, interleaved, report
from tests.conftest import BUILD, GUEST_SOURCES
from tests.containerd import leftovers
from tests.containerd.daemon import RUNC, WASM, Daemon
from tests.containerd.events import Events
from tests.containerd.images import Image, native_image, wasm_image
from tests.containerd.releases import PeerMissing, fetch
from tests.containerd.runwasi import programs, stress
from tests.guests.build import build
from wasm_shim.runtime.binding import wasmtime_version
from wasm_shim.version import VERSION

RELEASE = "2.1"
POD = "io.kubernetes.cri.sandbox-id"
IN_ONE_POD = 20
_CROWDS = (100, 500)  # how many sleep while another one is started


class Peer(NamedTuple):
    """A runtime with an image that greets and one that sleeps, each with its command line."""

    name: str
    runtime: str
    hello: Image
    sleeper: Image
    idle: tuple[str, ...]  # what the sleeper is started with


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--crowds", action="store_true", help=f"start beside {_CROWDS} others, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    missing: list[str] = []
    with Daemon(fetch(RELEASE, BUILD)) as daemon:
        peers = _peers(daemon, missing)
        rows = _start_rows(daemon, peers, options.rounds)
        for peer in peers:
            rows += _memory_rows(daemon, peer, options.tasks)
        ours = next(peer for peer in peers if peer.runtime == WASM)
        if len(peers) > 2:
            rows += _stress_rows(daemon, 3)
        rows += _crowd_rows(daemon, ours, options.rounds) if options.crowds else []
        rows += _cycle_rows(daemon, ours, options.cycles)
        versions = [f"wasm-shim {VERSION}", f"wasmtime {wasmtime_version()}", f"Python {sys.version.split()[0]}"]
        report(rows, [*versions, daemon.release.version], missing, options.json)


def _peers(daemon: Daemon, missing: list[str]) -> list[Peer]:
    guests = BUILD / "guests"
    guests.mkdir(parents=True, exist_ok=True)
    build(guests, slow=False)
    native = daemon.load(native_image(BUILD))
    greeting = bytes(wat2wasm((GUEST_SOURCES / "hello.wat").read_text()))
    hello = daemon.load(wasm_image("localhost/hello:wasm", {"hello.wasm": greeting}, ["/hello.wasm"]))
    kit = daemon.load(wasm_image("localhost/kit:wasm", {"kit.wasm": guests / "kit_p1.wasm"}, ["/kit.wasm"]))
    idle = ("/kit.wasm", "sleep", "600000000")
    found = [Peer("runc", RUNC, native, native, ("/hello", "sleep")), Peer("wasm-shim", WASM, hello, kit, idle)]
    try:
        found.append(Peer("runwasi", str(programs().shim), hello, kit, idle))
    except PeerMissing as reason:
        missing.append(str(reason))
    return found


# Starting and ending


def _start_rows(daemon: Daemon, peers: list[Peer], rounds: int) -> list[dict[str, Any]]:
    samples: dict[str, Sample] = {
        peer.name: lambda peer=peer: _one_life(daemon, peer) for peer in peers  # type: ignore[misc]
    }
    return interleaved(samples, rounds, base="runc")


def _one_life(daemon: Daemon, peer: Peer) -> dict[str, float]:
    """Milliseconds of each step: `run --rm` of a greeting; `run -d`, kill until stopped, and delete of a sleeper."""
    took: dict[str, float] = {}

    def timed(what: str, *words: str) -> None:
        begin = time.perf_counter()
        daemon.run(*words)
        took[what] = (time.perf_counter() - begin) * 1e3

    timed("run --rm hello", *daemon.container(peer.hello, daemon.new_id(), runtime=peer.runtime, options=["--rm"]))
    name = daemon.new_id()
    timed("run -d", *_sleeper(daemon, peer, name))
    with Events(daemon) as events:
        begin = time.perf_counter()
        daemon.run("task", "kill", "--signal", "SIGKILL", name)
        events.wait_for_topic(name, "/tasks/exit")
        took["kill -9 until stopped"] = (time.perf_counter() - begin) * 1e3
    timed("task rm", "task", "delete", name)
    daemon.run("container", "delete", name)
    return took


def _sleeper(daemon: Daemon, peer: Peer, name: str, *options: str) -> list[str]:
    words = ["--detach", "--null-io", *options]
    return daemon.container(peer.sleeper, name, *peer.idle, runtime=peer.runtime, options=words)


# Memory


def _memory_rows(daemon: Daemon, peer: Peer, tasks: int) -> list[dict[str, Any]]:
    rows = []
    for count, annotation in ((tasks, []), (IN_ONE_POD, ["--annotation", f"{POD}={daemon.new_id('pod')}"])):
        known = set(leftovers.processes(daemon.owner))
        for _ in range(count):
            daemon.run(*_sleeper(daemon, peer, daemon.new_id(), *annotation))
        new = [pid for pid in leftovers.processes(daemon.owner) if pid not in known]
        new += [pid for pid in leftovers.zygotes(daemon.owner) if pid not in new and peer.runtime == WASM]
        where = "in one pod" if annotation else "alone"
        median = round(processes_pss(new) / count)
        what = f"{peer.name}: PSS per container, {count} {where}"
        rows.append({"what": what, "unit": "KiB", "n": count, "median": median, "processes": len(new)})
        daemon.clear()
        assert daemon.leftovers() == []
    return rows


# Many


def _stress_rows(daemon: Daemon, rounds: int) -> list[dict[str, Any]]:
    """Tasks per second of runwasi's stress-test, which plays containerd itself: median of interleaved rounds."""
    shims = {"runc": daemon.release.programs / "containerd-shim-runc-v2", "runwasi": programs().shim}
    shims["wasm-shim"] = Path(sys.executable).parent / "containerd-shim-wasm-v1"
    taken: dict[tuple[int, str], list[float]] = {}
    for _ in range(rounds):
        for parallel in (1, 10):
            for name, shim in shims.items():
                taken.setdefault((parallel, name), []).append(stress(shim, 100, parallel))
    medians = {key: sorted(values)[rounds // 2] for key, values in taken.items()}
    return [
        {
            "what": f"{name}: stress-test, {parallel} at a time",
            "unit": "tasks/s",
            "n": rounds,
            "median": round(median, 1),
            "ratio": round(median / medians[parallel, "runwasi"], 2),
        }
        for (parallel, name), median in medians.items()
    ]


def _crowd_rows(daemon: Daemon, peer: Peer, rounds: int) -> list[dict[str, Any]]:
    rows, running = [], 0
    for crowd in (0, *_CROWDS):
        for _ in range(crowd - running):
            daemon.run(*_sleeper(daemon, peer, daemon.new_id()))
        running = crowd

        def sample() -> dict[str, float]:
            begin = time.perf_counter()
            daemon.run(*daemon.container(peer.hello, daemon.new_id(), options=["--rm"]))
            return {f"run --rm hello, {crowd} running": (time.perf_counter() - begin) * 1e3}  # noqa: B023 - called here

        rows += interleaved({peer.name: sample}, rounds, base=peer.name)
    daemon.clear()
    return [row | {"ratio": round(row["median"] / rows[0]["median"], 2)} for row in rows]


def _cycle_rows(daemon: Daemon, peer: Peer, cycles: int) -> list[dict[str, Any]]:
    """What create, start, kill, delete leave behind after many times: nothing, and no descriptor of the zygote's."""
    [zygote] = leftovers.zygotes(daemon.owner)
    descriptors = Path(f"/proc/{zygote}/fd")
    before, begin = len(list(descriptors.iterdir())), time.perf_counter()
    for _ in range(cycles):
        name = daemon.new_id()
        daemon.run(*_sleeper(daemon, peer, name))
        daemon.run("task", "delete", "--force", name)
        daemon.run("container", "delete", name)
    seconds = time.perf_counter() - begin
    left = [*daemon.leftovers(), *range(len(list(descriptors.iterdir())) - before)]
    return [
        {"what": f"left behind after {cycles} of run -d, kill and delete", "unit": "things", "median": len(left)},
        {"what": "one of these", "unit": "ms", "n": cycles, "median": round(seconds / cycles * 1e3)},
    ]


if __name__ == "__main__":
    main()

"""Look at the processes of a home from outside: which there are, whose child each is, what the kernel says of it."""

import os
import select
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import descendants
from tests.integration.support import DEADLINE, Environment, read_soon, started, wait_ready
from wasm_shim.container.control import NURSERY_NAME

GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # the last where a process is about to end


class Chain(NamedTuple):
    """The processes behind one running container."""

    cli: int
    zygote: int
    shim: int
    guest: int


@contextmanager
def running(environment: Environment, *words: str | Path, **options: Any) -> Iterator[Chain]:
    """A guest that has said "ready", run with these words behind `run --rm`; it is killed at the end."""
    with started(environment, "run", "--rm", *words, **options) as cli:
        wait_ready(cli)
        yield chain_of(environment, cli.pid)


def chain_of(environment: Environment, cli: int) -> Chain:
    """The processes of the only container."""
    zygote = the_zygote(environment)
    [shim] = children(zygote)
    [guest] = children(shim)
    return Chain(cli, zygote, shim, guest)


def family(environment: Environment) -> set[int]:
    """Our own long-lived processes in this home: each has a path of it among its arguments; zombies have none."""
    return {pid for pid in all_pids() if environment["HOME"].encode() in command(pid) and b"wasm_shim" in command(pid)}


def zygotes(environment: Environment) -> list[int]:
    """Those of them that listen on a zygote's socket."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    rows = [line.split() for line in lines if f"{environment['HOME']}/run/wasm-shim/zygote-" in line]
    sockets = {f"socket:[{row[6]}]" for row in rows}
    return [pid for pid in sorted(family(environment)) if descriptors(pid).get(3) in sockets]


def the_zygote(environment: Environment) -> int:
    """The only zygote."""
    [zygote] = zygotes(environment)
    return zygote


def settle(environment: Environment) -> None:
    """Wait until none of our processes is left in this home but the zygote."""
    for pid in family(environment) - set(zygotes(environment)):
        wait_end(pid)


def wait_end(pid: int) -> None:
    """Wait until the process has ended; one that is gone already is no error."""
    wait_ends(pidfds_of([pid]))


def pidfds_of(pids: Iterable[int | None]) -> list[int]:
    """A pidfd of each process that is still there."""
    found = []
    for pid in pids:
        with suppress(ProcessLookupError):
            found += [os.pidfd_open(pid)] if pid else []
    return found


def wait_ends(pidfds: list[int]) -> None:
    """Wait until all these processes have ended, and close the pidfds."""
    with ExitStack() as stack:
        for pidfd in pidfds:
            stack.callback(os.close, pidfd)
        for pidfd in pidfds:
            pid = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").partition("Pid:")[2].split()[0]
            assert select.select([pidfd], [], [], DEADLINE)[0], f"process {pid} did not end"


@contextmanager
def traced(environment: Environment, log: Path, calls: str) -> Iterator[None]:
    """Note these system calls of all that the zygote forks meanwhile; skips the test where strace cannot."""
    command = ["strace", "-f", "-s", "1000", "-e", f"trace={calls}", "-o", str(log), "-p", str(the_zygote(environment))]
    try:
        strace = subprocess.Popen(command, stderr=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("needs strace")
    with strace:
        assert strace.stderr
        try:
            said = read_soon(strace.stderr.fileno())
            if b"attached" not in said:
                pytest.skip(f"strace cannot attach: {said.decode().strip()}")
            yield
            settle(environment)
        finally:
            strace.terminate()


# One process


def all_pids() -> list[int]:
    """Every process that this one can see."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def children(pid: int) -> list[int]:
    """The children that have not ended, but for a pod shim's nursery."""
    return [child for child in _living(pid) if status(child).get("Name") != NURSERY_NAME]


def nurseries(pid: int) -> list[int]:
    """A pod shim's nursery, from its beginning to its end."""
    return [child for child in _living(pid) if status(child).get("Name") == NURSERY_NAME]


def _living(pid: int) -> list[int]:
    return [child for child in descendants(pid) if status(child).get("PPid") == str(pid) and command(child)]


def status(pid: int, thread: int | None = None) -> dict[str, str]:
    """/proc/PID/status, or that of one thread; empty when it has ended."""
    path = f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status"
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except GONE:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def threads(pid: int) -> list[int]:
    """The ids of its threads."""
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor is; empty when the process has ended."""
    found = {}
    with suppress(*GONE):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*GONE):
                found[int(path.name)] = str(path.readlink())
    return found


def namespace(pid: int | str, kind: str) -> str:
    """Which namespace of this kind a process is in."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def mounts(pid: int | str) -> list[tuple[str, set[str], str]]:
    """(mount point, options, source) of every mount that a process sees."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    rows = [(line.split(" - ")[0].split(), line.split(" - ")[1].split()) for line in lines]
    return [(left[4], set(left[5].split(",")), right[1]) for left, right in rows]


def command(pid: int) -> bytes:
    """Its arguments; empty when it has ended, also while its parent has not asked how."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except GONE:
        return b""

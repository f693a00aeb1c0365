"""What belongs to one private containerd: its processes, mounts, cgroups and files; found from outside, and removed.

Everything of it names its directory, or its containerd namespace, whose name is the directory's.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # the last where a process is about to end
_LISTENING = "00010000"  # the flag __SO_ACCEPTCON in /proc/net/unix
_RUNC_ROOT = Path("/run/containerd/runc")  # where the runc shim keeps runc's state, one directory per namespace


class Owner(NamedTuple):
    """Whose leftovers: a directory, the namespace named like it, and where the wasm shim keeps its files."""

    directory: Path
    namespace: str
    shim_root: Path


def leftovers(owner: Owner, known: Iterable[int], deadline: float) -> list[str]:
    """What is there although no container is, each as a line; waits up to `deadline` seconds for processes to end.

    `known` are pids that may go on; a zygote or an image resolver that listens on its socket may, too, with its files.
    """
    expected = {os.getpid(), *known, *zygotes(owner), *resolvers(owner)}
    wait_gone((pid for pid in processes(owner) if pid not in expected), deadline)
    found = [f"process {pid}: {_said(pid)}" for pid in processes(owner) if pid not in expected]
    found += [f"mount {path}" for path in mounts(owner)]
    found += [f"cgroup {path}" for path in cgroups(owner) if _hierarchy_top(path) != owner.namespace]
    found += [f"file {path}" for path in _files(owner)]
    return found


def remove(owner: Owner) -> None:
    """End and remove all of it but the directory."""
    remaining = [pid for pid in processes(owner) if pid != os.getpid()]
    for pid in remaining:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_gone(remaining, 10)
    for place in mounts(owner):
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)
    for path in [*cgroups(owner), *_runc_state(owner)]:
        with contextlib.suppress(OSError):
            path.rmdir()


# Processes


def processes(owner: Owner) -> list[int]:
    """Every process of it that has not ended: by arguments, environment, working directory or cgroup."""
    return [pid for pid in _all_pids() if _belongs(pid, owner)]


def zygotes(owner: Owner) -> list[int]:
    """Those that listen on a zygote's socket: they stay when no container is left."""
    return _listening(owner, "zygote-")


def resolvers(owner: Owner) -> list[int]:
    """Those that listen on an image resolver's socket, which stay, too."""
    return _listening(owner, "resolver-")


def _listening(owner: Owner, prefix: str) -> list[int]:
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    rows = [line.split() for line in lines if f"{owner.shim_root}/{prefix}" in line]
    sockets = {f"socket:[{row[6]}]" for row in rows if row[3] == _LISTENING}  # what it has accepted has its path, too
    return [pid for pid in processes(owner) if sockets & _descriptors(pid)] if sockets else []


def wait_gone(pids: Iterable[int], deadline: float) -> None:
    """Wait until these processes have ended, `deadline` seconds at most."""
    end = time.monotonic() + deadline
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                select.select([pidfd], [], [], max(0, end - time.monotonic()))
            finally:
                os.close(pidfd)


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _belongs(pid: int, owner: Owner) -> bool:
    arguments = _read(pid, "cmdline")
    if not arguments:
        return False  # a kernel thread, or one that has ended and waits for its parent
    directory = os.fsencode(owner.directory)
    if directory in arguments or directory in _read(pid, "environ"):
        return True
    if any(line.split(b":", 2)[2].startswith(f"/{owner.namespace}".encode()) for line in _cgroup_lines(pid)):
        return True
    with contextlib.suppress(*_GONE):
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(owner.directory)
    return False


def _cgroup_lines(pid: int) -> list[bytes]:
    return _read(pid, "cgroup").splitlines()


def _descriptors(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(*_GONE):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(*_GONE):
                found.add(str(path.readlink()))
    return found


def _said(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except _GONE:
        return b""


# Mounts, cgroups, files


def mounts(owner: Owner) -> list[str]:
    """Mount points below its directory, the inner ones first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [path for path in reversed([line.split()[4] for line in lines]) if path.startswith(f"{owner.directory}/")]


def cgroups(owner: Owner) -> list[Path]:
    """Its cgroups in all hierarchies, the inner ones first; that of the namespace itself comes last."""
    found = []
    for mount in _hierarchies():
        for top in mount.glob(f"{owner.namespace}*"):
            found += [*reversed([path for path in sorted(top.rglob("*")) if path.is_dir()]), top]
    return found


def _hierarchies() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] in ("cgroup", "cgroup2"):
            yield Path(left.split()[4])


def _hierarchy_top(path: Path) -> str:
    """The name of a cgroup directly below its hierarchy's root, else nothing."""
    return path.name if path.parent in set(_hierarchies()) else ""


def _files(owner: Owner) -> list[Path]:
    """Bundles, runc's state, and the shim's files but programs and what belongs to a zygote that runs."""
    bundles = (owner.directory / "state").glob("io.containerd.runtime.v2.task/*/*")
    shims = [path for path in owner.shim_root.rglob("*") if not path.is_dir() and not _is_kept(path, owner)]
    runc = [path for path in _runc_state(owner) if path.name != owner.namespace]
    return sorted([*bundles, *shims, *runc])


def _is_kept(path: Path, owner: Owner) -> bool:
    """What belongs to no container: programs, what is known of containerd's version, and what listens there for all."""
    ours = path.relative_to(owner.shim_root).parts[0] if path.is_relative_to(owner.shim_root) else ""
    return ours in ("programs", "versions", "start.lock") or path.name.startswith(("zygote-", "resolver-"))


def _runc_state(owner: Owner) -> list[Path]:
    """What runc keeps for its containers, the inner ones first."""
    found = []
    for top in _RUNC_ROOT.glob(f"{owner.namespace}*"):
        found += [*top.iterdir(), top]
    return found

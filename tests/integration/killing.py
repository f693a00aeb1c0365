"""Hold a process of a container on a private containerd at a step, find those around it, and see what is left."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.containerd.daemon import DEADLINE, Daemon
from tests.containerd.events import Events
from tests.containerd.leftovers import leftovers as leftovers_of
from tests.containerd.leftovers import zygotes
from tests.integration.fleet import Shim, sockets
from tests.integration.observe import all_pids, children, command, descriptors, nurseries, status, wait_ends
from tests.integration.support import Hold
from wasm_shim.container.control import PREPARER_NAME
from wasm_shim.steps import VARIABLE
from wasm_shim.ttrpc import task as messages

SCRIPT: Final = Path(sys.executable).parent / "containerd-shim-wasm-v1"
_OF_A_ZYGOTE: Final = 4  # descriptors: /dev/null three times, and its socket


@contextmanager
def holding(daemon: Daemon, directory: Path, step: str) -> Iterator[Hold]:
    """Whatever containerd starts of ours meanwhile stops at the step; a zygote too, if it is started meanwhile."""
    link = daemon.programs / SCRIPT.name
    with Hold({"HOME": str(directory)}, step) as hold:
        script = directory / SCRIPT.name
        script.write_text(f'#!/bin/sh\n{VARIABLE}={hold.environment[VARIABLE]} exec {SCRIPT} "$@"\n')
        script.chmod(0o755)
        _link(link, script)
        try:
            yield hold
        finally:
            _link(link, SCRIPT)


def _link(link: Path, target: Path) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


# Processes


def cast(daemon: Daemon, step: str = "") -> dict[str, int]:
    """Who takes part in the life of the only container, or in its `delete`: pids by the names of their parts."""
    found = {"containerd": daemon.pid}
    for pid in children(daemon.pid):
        if SCRIPT.name.encode() in command(pid) or b"wasm_shim.shim.start" in command(pid):
            found["client"] = pid
    for zygote in zygotes(daemon.owner):
        found["zygote"] = zygote
        for pid in children(zygote):
            found["worker" if step.startswith("delete.") else "shim"] = pid
    if "shim" in found:
        for pid in nurseries(found["shim"]):
            found["nursery"] = pid
        for pid in children(found["shim"]):
            other = "preparer" if status(pid).get("Name") == PREPARER_NAME else "guest"
            found["compiler" if b"runtime.compiler" in command(pid) else other] = pid
    return found


def kill(*pids: int) -> None:
    """Kill processes, all before the first has ended, and wait for their ends."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    for pidfd in pidfds:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_ends(pidfds)


def wait_served(daemon: Daemon) -> None:
    """Wait until the only pod shim serves its socket: by then it has answered its client."""
    wait_until(lambda: bool(sockets(daemon)))
    with Shim(str(sockets(daemon)[0])) as shim:
        shim.call("Connect", messages.ConnectRequest())


def wait_until(condition: Callable[[], object]) -> None:
    """For what tells nobody that it has happened."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        os.sched_yield()


# What was told, and what is left


def story(events: Events, container: str) -> str:
    """The events of a container's task as words, ends with their exit status: `create start exit 0 delete 0`."""
    words = []
    for event in events.seen:
        if event.container == container and event.topic.startswith("/tasks/"):
            topic = event.topic.removeprefix("/tasks/")
            words.append(f"{topic} {event.fields.get('exit_status', 0)}" if topic in ("exit", "delete") else topic)
    return " ".join(words)


def empty_cache(daemon: Daemon) -> None:
    """Remove all compiled programs."""
    for path in _programs(daemon):
        path.unlink()


def leftovers(daemon: Daemon) -> list[str]:
    """What no container needs: beside what leftovers.leftovers finds, descriptors, zombies and parts of programs."""
    own = children(os.getpid())  # containerd, and a `ctr events`
    found = leftovers_of(daemon.owner, own, DEADLINE)
    places = tuple(str(path) for path in (_bundles(daemon), daemon.directory / "fifo", daemon.shim_root))
    found += [f"containerd has open {path}" for path in descriptors(daemon.pid).values() if path.startswith(places)]
    parents = {daemon.pid, *zygotes(daemon.owner)}
    for zygote in zygotes(daemon.owner):
        if len(descriptors(zygote)) != _OF_A_ZYGOTE:
            found.append(f"the zygote has open {descriptors(zygote)}")
    for pid in all_pids():
        said = status(pid)
        if said.get("State", "").startswith("Z") and int(said["PPid"]) in parents:
            found.append(f"zombie {pid} {said['Name']}")
    codes = {path.stem for path in _programs(daemon) if path.suffix == ".cwasm"}
    whole = {f"{code}.{suffix}" for code in codes for suffix in ("cwasm", "json")}
    return found + [f"part of a program {path}" for path in _programs(daemon) if path.name not in whole]


def _bundles(daemon: Daemon) -> Path:
    return daemon.directory / "state/io.containerd.runtime.v2.task"


def _programs(daemon: Daemon) -> list[Path]:
    """All files of the program cache but its lock."""
    return [path for path in daemon.shim_root.glob("programs/*/*") if path.name != "lock"]

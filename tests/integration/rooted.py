"""A container with a root file system in a pod shim of the test's own: its bundle, its life, and what is left of it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from tests.integration.observe import children, descriptors, mounts, settle, wait_end
from tests.integration.pod import Pod
from tests.integration.support import leftovers, need_private_mounts, read_to_end, wait_for, wasm_shim
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.support import Environment

APP: Final = "/app.wasm"
CGROUPS: Final = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class Ended(NamedTuple):
    """How a guest ended and what it wrote."""

    status: int
    stdout: str
    stderr: str


class Refusal(NamedTuple):
    """The error that answered Create."""

    code: int
    message: str


class Container:
    """One container, as containerd describes it: a bundle, root file system mounts, FIFOs.

    `image` is the directory that the only mount binds, with the program at APP; `spec` is what is written as
    config.json at the next Create, `rootfs` the mounts that go with it.
    """

    def __init__(self, pod: Pod, directory: Path, program: Path) -> None:
        self.pod, self.directory = pod, directory
        self.image = directory / "image"
        self.bundle = directory / "bundle"
        for path in (self.image, self.bundle):
            path.mkdir(parents=True)
        shutil.copy(program, self.image / APP[1:])
        self.cgroup = f"wasm-shim-rooted-{os.getpid()}-{next(_numbers)}"
        self.spec = stock_spec(f"/{self.cgroup}")
        self.rootfs = [Mount(type="bind", source=str(self.image), options=["rbind", "rw"])]
        answer = messages.ConnectResponse.decode(pod.call("Connect", messages.ConnectRequest(id="one")))
        self.shim = answer.shim_pid
        self.stdout = self.stderr = -1
        self._before = self._open_files()
        self._mounted = self.mounted("self")

    @property
    def process(self) -> dict[str, Any]:
        """The part of the spec that is about the process."""
        process: dict[str, Any] = self.spec["process"]
        return process

    def mount(self, source: Path | str, target: str, *options: str) -> None:
        """Add a bind mount to the spec."""
        entry = {"type": "bind", "source": str(source), "destination": target, "options": ["rbind", *options]}
        self.spec["mounts"].append(entry)

    def request(self, *words: str, **fields: Any) -> messages.CreateTaskRequest:
        """Write the bundle for APP and these words (without any, for what the spec says); the request that fits it."""
        if words:
            self.process["args"] = [APP, *words]
        (self.bundle / "config.json").write_text(json.dumps(self.spec), encoding="utf-8")
        return self.pod.create(**{"options": None, "bundle": str(self.bundle), "rootfs": self.rootfs} | fields)

    def create(self, *words: str, **fields: Any) -> int:
        """Create with FIFOs for what it writes; the pid."""
        paths = {name: self.fifo(name) for name in ("stdout", "stderr") if name not in fields}
        request = self.request(*words, **{name: str(path) for name, path in paths.items()} | fields)
        pid = messages.CreateTaskResponse.decode(self.pod.call("Create", request)).pid
        for name, path in paths.items():
            setattr(self, name, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return pid

    def fifo(self, name: str) -> Path:
        """A new FIFO that belongs to root and is closed to all others."""
        path = self.directory / f"{next(_numbers)}-{name}"
        os.mkfifo(path, 0o600)
        return path

    def start(self) -> None:
        """Start."""
        self.pod.call("Start", messages.StartRequest(id="one"))

    def begin(self, *words: str, **fields: Any) -> int:
        """Create and start a guest that says "ready"; the pid."""
        pid = self.create(*words, **fields)
        self.start()
        wait_for(self.stdout, b"ready\n")
        return pid

    def end(self, number: int = 0) -> Ended:
        """Send it a signal, if one is given, wait for its end, and delete it."""
        if number:
            self.pod.call("Kill", messages.KillRequest(id="one", signal=number))
        status = messages.WaitResponse.decode(self.pod.call("Wait", messages.WaitRequest(id="one"))).exit_status
        self.pod.call("Delete", messages.DeleteRequest(id="one"))
        return Ended(status, *(self._read(name) for name in ("stdout", "stderr")))

    def run(self, *words: str, **fields: Any) -> Ended:
        """Its whole life; nothing of it may be left."""
        self.create(*words, **fields)
        self.start()
        ended = self.end()
        assert self.left() == []
        return ended

    def refused(self, *words: str, **fields: Any) -> Refusal:
        """Create what must be refused, in one sentence and without a trace."""
        refusal = Refusal(*self.pod.refused("Create", self.request(*words, **fields)))
        assert self.left() == []
        assert "\n" not in refusal.message
        assert "fault" not in refusal.message
        return refusal

    def cgroups(self) -> list[Path]:
        """The directories of its cgroup in all hierarchies."""
        return [path for path in (CGROUPS / self.cgroup, *CGROUPS.glob(f"*/{self.cgroup}")) if path.is_dir()]

    def mounted(self, pid: int | str) -> set[str]:
        """Where something is mounted in a process's tree, but for temporary directories of others."""
        others = (place for place, _, _ in mounts(pid))
        temporary, own = Path(tempfile.gettempdir()), self.directory.parent
        return {place for place in others if temporary not in Path(place).parents or own in Path(place).parents}

    def left(self) -> list[str]:
        """What should not be there while it is not: cgroups, mounts, processes, open files of the shim."""
        found = [f"cgroup {path}" for path in self.cgroups()]
        found += [f"mount {place}" for place in sorted(self.mounted("self") - self._mounted - OnHost.places)]
        found += [f"process {pid}" for pid in children(self.shim)]
        return found + [f"open {what}" for what in (self._open_files() - self._before)]

    def _open_files(self) -> Counter[str]:
        """What the shim has open, but for code that stays loaded."""
        kinds = (what.partition(":")[0] for what in descriptors(self.shim).values())
        return Counter(kind for kind in kinds if not kind.endswith(".cwasm"))

    def _read(self, name: str) -> str:
        descriptor, written = getattr(self, name), b""
        if descriptor >= 0:
            written = read_to_end(descriptor)
            os.close(descriptor)
            setattr(self, name, -1)
        return written.decode()


def stock_spec(cgroup: str) -> dict[str, Any]:
    """A spec as containerd's command line writes it, with all that a guest never gets to see."""
    quiet = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
            "args": [APP],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*quiet, "mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*quiet, "ro"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=65536k"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "cgroupsPath": cgroup,
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


class OnHost:
    """Something mounted on the host for as long as the block runs."""

    places: ClassVar[set[str]] = set()  # no container's leftovers

    def __init__(self, kind: str, place: Path, *options: str) -> None:
        self._command = ["mount", "-t", kind, *options, kind, str(place)]
        self._place = place

    def __enter__(self) -> None:
        self._place.mkdir(exist_ok=True)
        subprocess.run(self._command, check=True)
        self.places.add(str(self._place))

    def __exit__(self, *_: object) -> None:
        self.places.discard(str(self._place))
        subprocess.run(["umount", self._place], check=True)


def tree(pid: int) -> dict[str, set[str]]:
    """What is mounted where in a guest's tree, with those options that tests are about."""
    return {place: options & {"ro", "rw", "nosuid", "nodev"} for place, options, _ in mounts(pid)}


@contextmanager
def rooted(home: Environment, program: Path, directory: Path, hold: str = "") -> Iterator[Container]:
    """A container in a pod shim of its own; at the end both must go without a trace."""
    need_private_mounts()
    assert wasm_shim(home, "run", "--rm", program).returncode == 0
    pod = Pod(home, program, hold=hold)
    container = Container(pod, directory / "container", program)
    try:
        yield container
        kill(container)
    finally:
        pod.close()
        for descriptor in (container.stdout, container.stderr):
            if descriptor >= 0:
                os.close(descriptor)
        wait_end(container.shim)
        for path in container.cgroups():  # of a test that has failed, or has killed the shim
            path.rmdir()
    settle(home)
    assert leftovers(home) == []


def kill(container: Container) -> None:
    """End a guest that still runs."""
    for pid in children(container.shim):
        os.kill(pid, signal.SIGKILL)
        container.end()
    if Path(f"/proc/{container.shim}").exists():
        assert container.left() == []

"""A private containerd: its own directories, sockets, namespace and PATH; nothing of the machine's is used."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.containerd import leftovers
from tests.containerd.images import Image
from tests.containerd.place import overlay_works, short_directory
from tests.containerd.releases import PROGRAMS, PeerMissing, Release

# Seconds that one call of ctr, a start or a stop may take; a virtual machine needs more.
DEADLINE = float(os.environ.get("WASM_SHIM_TEST_DEADLINE", 60))
WASM = "io.containerd.wasm.v1"
RUNC = "io.containerd.runc.v2"
_SHIM = "containerd-shim-wasm-v1"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NRI = "io.containerd.nri.v1.nri"  # its socket has one path for the whole machine
_CRI = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime")
_CONFIG = """version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = {disabled}

[grpc]
address = "{directory}/containerd.sock"

[ttrpc]
address = "{ttrpc}"

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

{settings}
"""  # all releases read a file of version 2, and JSON's lists of strings are TOML's


class Daemon:
    """One containerd with one root directory, which may be stopped, killed and started again.

    As a context manager it starts at the beginning; at the end it removes its containers, stops, and raises
    AssertionError if anything of it was left, which it has removed then.
    """

    def __init__(
        self, release: Release, *, environment: Mapping[str, str] | None = None, cri: bool = False, settings: str = ""
    ) -> None:
        """`environment` is added to what containerd and so every shim gets; `settings` is TOML, added at the end."""
        self.release = release
        self.directory = short_directory()
        self.namespace = self.directory.name  # of containerd, unless a call names another; cgroups lie below it
        self.address = f"{self.directory}/containerd.sock"
        self.programs = self.directory / "bin"  # the first directory of PATH; tests may add to it
        self.shim_root = self.directory / "wasm"
        self.log = self.directory / "containerd.log"
        self.owner = leftovers.Owner(self.directory, self.namespace, self.shim_root)
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses = [self.directory / "containerd.sock.ttrpc"]
        self._loaded: dict[str, bytes] = {}
        self._ids = iter(range(1 << 30))
        self._given = dict(environment or {})
        disabled = json.dumps([_NRI, *(() if cri else _CRI)])
        self._options = {"directory": str(self.directory), "disabled": disabled, "settings": settings}
        self._lay_out()

    def _lay_out(self) -> None:
        for name in ("bin", "fifo", "tmp", "wasm"):
            (self.directory / name).mkdir(mode=0o700)
        shim = Path(sys.executable).parent / _SHIM
        files = [*(self.release.programs / name for name in PROGRAMS), self.release.runc, shim]
        for file in files:
            if file.exists():
                (self.programs / file.name).symlink_to(file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its clients."""
        snapshotter = "overlayfs" if overlay_works(self.directory.parent) else "native"
        client = {"CONTAINERD_NAMESPACE": self.namespace, "CONTAINERD_SNAPSHOTTER": snapshotter}
        return {**self._server_environment(), "CONTAINERD_ADDRESS": self.address, **client}

    def _server_environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PATH": f"{self.programs}:{_SYSTEM_PATH}",
            "TMPDIR": f"{self.directory}/tmp",
            "WASM_SHIM_ROOT": str(self.shim_root),
            **self._given,
        }

    # Its life

    def __enter__(self) -> "Daemon":
        try:
            self.start()
        except BaseException:
            leftovers.remove(self.owner)
            shutil.rmtree(self.directory)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        left: list[str] = []
        try:
            if not self.running:
                self.start()
            self.clear()
            self.stop()
            left = leftovers.leftovers(self.owner, [], DEADLINE / 6)
        finally:
            self.kill()
            said = self.said()
            leftovers.remove(self.owner)
            shutil.rmtree(self.directory)
            if error:
                error.add_note(said)
        if not error:
            assert left == [], f"left behind: {left}\n{said}"

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of containerd, also when it has ended."""
        assert self._process is not None, "containerd was not started"
        return self._process.pid

    def start(self, first: Callable[[], object] | None = None) -> None:
        """Start it and wait until it serves; raises PeerMissing with the end of its log where it ends instead.

        `first` is called before shims that run already can reach it with what they have to publish.
        """
        assert not self.running, "containerd runs already"
        if first:
            self._addresses.append(self.directory / f"late-{len(self._addresses)}.ttrpc")
        serving = self._addresses[-1 if first else 0]
        config = self.directory / "config.toml"
        config.write_text(_CONFIG.format(**self._options, ttrpc=serving))
        self._launch(config)
        if first:
            first()
        for address in self._addresses:  # a shim keeps the one that was containerd's when it was started
            if address != serving:
                address.unlink(missing_ok=True)
                address.symlink_to(serving)

    def _launch(self, config: Path) -> None:
        notify = self.directory / "notify.sock"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("ab") as log:
            ready.bind(str(notify))  # as systemd would: containerd says READY=1 there when it has booted
            self._process = subprocess.Popen(
                [self.programs / "containerd", "--config", config],
                env={**self._server_environment(), "NOTIFY_SOCKET": str(notify)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._wait_ready(ready)

    def _wait_ready(self, ready: socket.socket) -> None:
        ended = os.pidfd_open(self.pid)
        try:
            came, _, _ = select.select([ready.fileno(), ended], [], [], DEADLINE)
        finally:
            os.close(ended)
        if ready.fileno() not in came:
            self.kill()
            raise PeerMissing(f"containerd {self.release.name}: it does not start here: {self.said(3)}")

    def stop(self) -> None:
        """End it as systemd does, with SIGTERM; its shims and containers stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # nothing, where it has been waited for
            self._process.wait(DEADLINE)

    def said(self, lines: int = 60) -> str:
        """The end of its log, of all its starts."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    # Its clients

    def command(self, *words: str) -> list[str]:
        """The command line of a ctr call; it needs `environment`."""
        return [str(self.programs / "ctr"), *words]

    def ctr(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a ctr call; `options` are those of subprocess.Popen."""
        defaults: dict[str, Any] = {"env": self.environment, "stdin": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(self.command(*words), **defaults | options)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a ctr call to its end and capture its text; raises AssertionError where it fails, but for check=False.

        `options` are those of subprocess.run.
        """
        check = options.pop("check", True)
        defaults: dict[str, Any] = {"env": self.environment, "text": True, "timeout": DEADLINE}
        if not {"stdout", "stderr"} & options.keys():
            defaults["capture_output"] = True
        if "input" not in options:
            defaults["stdin"] = subprocess.DEVNULL
        done = subprocess.run(self.command(*words), **defaults | options, check=False)
        assert done.returncode == 0 or not check, f"ctr {' '.join(words)}: {done.returncode}: {done.stderr}"
        return done

    def container(
        self, image: Image, container: str, *arguments: str, runtime: str = WASM, options: Sequence[str] = ()
    ) -> list[str]:
        """The words of `ctr run` for a container with this id; `options` are ctr's, as in ["--detach"].

        `arguments` stand for the image's whole command line, its entrypoint too: ctr does not put them together.
        """
        own = ["--runtime", runtime, "--fifo-dir", f"{self.directory}/fifo"]
        return ["run", *own, *options, image.name, container, *arguments]

    def new_id(self, prefix: str = "c") -> str:
        """An id that no container here has had."""
        return f"{prefix}-{next(self._ids)}"

    def load(self, image: Image) -> Image:
        """Import the image, unless it was already, and return it."""
        if self._loaded.get(image.name) == image.archive:
            return image
        archive = self.directory / "tmp" / f"image-{next(self._ids)}.tar"
        archive.write_bytes(image.archive)
        default = self.release.name == "1.6" or self.environment["CONTAINERD_SNAPSHOTTER"] == "overlayfs"
        local = [] if default else ["--local"]  # containerd's own way of importing unpacks for its default only
        self.run("image", "import", *local, str(archive))
        archive.unlink()
        self._loaded[image.name] = image.archive
        return image

    # What is left

    def clear(self) -> None:
        """Kill and delete all tasks and containers of all namespaces; what cannot be deleted is left."""
        for namespace in self.run("namespaces", "list", "--quiet").stdout.split():
            here = ("--namespace", namespace)
            for task in self.run(*here, "task", "list", "--quiet").stdout.split():
                if self.run(*here, "task", "delete", "--force", task, check=False).returncode:
                    self.run(*here, "task", "resume", task, check=False)  # a frozen one does not end
                    self.run(*here, "task", "delete", "--force", task, check=False)
            for container in self.run(*here, "container", "list", "--quiet").stdout.split():
                self.run(*here, "container", "delete", container, check=False)
        for fifos in (self.directory / "fifo").iterdir():  # ctr forgets those of a task that it has not deleted
            shutil.rmtree(fifos)

    def leftovers(self, deadline: float = DEADLINE / 6) -> list[str]:
        """What no container needs: see leftovers.leftovers; a zygote may stay, programs too."""
        return leftovers.leftovers(self.owner, [self.pid], deadline)


def without_log(text: str) -> str:
    """What a program said on stderr without the lines of ctr's own log: 2.4 warns of cgroup v1 at each run."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith('time="'))

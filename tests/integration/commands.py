"""Run containerd-shim-wasm-v1 as containerd does: in a bundle, with its flags, its two outputs read together."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.conftest import descendants, zygote_pids
from tests.integration.observe import pidfds_of, wait_ends
from tests.integration.support import DEADLINE, Environment
from wasm_shim.ttrpc import task as messages

SCRIPT: Final = Path(sys.executable).parent / "containerd-shim-wasm-v1"
CONTAINERD: Final = "/run/containerd/containerd.sock"


class Commands:
    """The commands for one home; its bundles are made when they are asked for."""

    def __init__(self, home: Environment) -> None:
        self.home = home
        self.root = Path(home["XDG_RUNTIME_DIR"], "wasm-shim")
        self.environment = home | {"WASM_SHIM_ROOT": str(self.root)}

    def bundle(self, id_: str, **config: Any) -> Path:
        """A bundle with this config.json; one that is there keeps its own."""
        bundle = Path(self.home["HOME"], "bundles", id_)
        if not bundle.exists():
            bundle.mkdir(parents=True)
            (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return bundle

    def words(self, action: str, id_: str, binary: Path | str = "", script: Path = SCRIPT) -> list[str]:
        """The command line of containerd."""
        flags = ["-namespace", "test", "-address", CONTAINERD, "-publish-binary", str(binary), "-id", id_]
        bundle = ["-bundle", str(self.bundle(id_))] if action == "delete" else []
        return [str(script), *flags, *bundle, action]

    def options(self, id_: str) -> dict[str, Any]:
        """Options for subprocess: the bundle as directory, nothing to read, both outputs as one."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return {"cwd": self.bundle(id_), "env": self.environment, **streams}

    def run(self, action: str, id_: str = "one", **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end. `binary` and `script` go into its command line, the rest to subprocess.run."""
        words = self.words(action, id_, options.pop("binary", ""), options.pop("script", SCRIPT))
        defaults = self.options(id_) | {"timeout": DEADLINE, "check": False}
        if "input" in options:
            del defaults["stdin"]
        return subprocess.run(words, **defaults | options)

    def start(self, id_: str = "one", **options: Any) -> bytes:
        """What a start that succeeds prints."""
        done = self.run("start", id_, **options)
        assert done.returncode == 0, done.stdout
        said: bytes = done.stdout
        return said

    def address(self, id_: str = "one") -> str:
        """The path of the socket that a start answers with; the shim is started if there is none."""
        said = self.start(id_).decode()
        assert said.startswith("unix:///")
        return said.removeprefix("unix://")

    def delete(self, id_: str = "one", **options: Any) -> messages.DeleteResponse:
        """What a delete that succeeds prints, and nothing else."""
        done = self.run("delete", id_, **options)
        assert done.returncode == 0, done.stdout
        return messages.DeleteResponse.decode(done.stdout)

    def refusal(self, action: str, id_: str = "one", **options: Any) -> str:
        """The sentence with which a command fails."""
        done = self.run(action, id_, **options)
        assert done.returncode == 1, done.stdout
        said: str = done.stdout.decode()
        assert "\n" not in said
        assert "Traceback" not in said
        return said

    def sockets(self) -> list[Path]:
        """The sockets of pod shims."""
        return sorted(self.root.glob("s/*"))

    def shims(self) -> list[int]:
        """The pids of pod shims: who listens on those sockets."""
        pids = []
        for path in self.sockets():
            with socket.socket(socket.AF_UNIX) as connection, suppress(ConnectionRefusedError):
                connection.connect(str(path))
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                pids.append(int.from_bytes(credentials[:4], sys.byteorder))
        return pids

    def zygote(self) -> int:
        """The only zygote."""
        [pid] = zygote_pids(self.home)
        return pid

    def nothing_left(self) -> bool:
        """Whether there is no socket and, as soon as those on their way have ended, no process but the zygote."""
        wait_ends(pidfds_of(pid for zygote in zygote_pids(self.home) for pid in descendants(zygote)))
        return not self.sockets()


def kill(*pids: int) -> None:
    """Kill processes and wait until they have ended."""
    pidfds = pidfds_of(pids)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_ends(pidfds)

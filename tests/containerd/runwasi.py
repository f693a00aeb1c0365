"""runwasi's stress-test with any shim: so many tasks, some at a time, each created, started, waited for and deleted.

It knows containerd's socket and the directory for its link to the shim by fixed paths. So it runs in a mount namespace
in which these are a private containerd's, and nothing of the machine is touched. tests/containerd/build-runwasi builds
it and runwasi's own shim.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from wasmtime import wat2wasm

from tests.containerd.daemon import Daemon
from tests.containerd.images import Image, native_image, wasm_image
from tests.containerd.place import overlay_works
from tests.containerd.releases import PeerMissing, fetch

BUILD: Final = Path(__file__).resolve().parents[2] / ".build"
NAMESPACE: Final = "default"  # of containerd: the tool knows no other
PATIENCE: Final = 120  # seconds that one run may take
_RELEASE: Final = "2.1"
_RUNC: Final = "containerd-shim-runc-v2"
_ANSWER_SECONDS: Final = 30  # after which the tool gives up when no task has ended meanwhile
_TINY: Final = """(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 0))))"""

# The machine may have no /run/containerd. In /usr/local/bin the tool makes a link, which is for a PATH of containerd.
_PRIVATE: Final = """
    mount -t tmpfs tmpfs /run
    mkdir /run/containerd
    mount --bind "$1" /run/containerd
    mount --bind "$1/bin" /usr/local/bin
    shift
    exec "$@"
"""


class Programs(NamedTuple):
    """What was built of runwasi."""

    stress_test: Path
    shim: Path


def programs() -> Programs:
    """Raises PeerMissing, saying how to build them, where they were not."""
    directory = BUILD / "peers/runwasi"
    found = Programs(directory / "stress-test", directory / "containerd-shim-wasmtime-v1")
    if not all(path.exists() for path in found):
        raise PeerMissing("runwasi is not built; run tests/containerd/build-runwasi")
    return found


def build() -> Programs:
    """The programs, built by cargo unless they are there, which takes minutes; raises PeerMissing."""
    try:
        return programs()
    except PeerMissing:
        if not shutil.which("cargo"):
            raise PeerMissing("runwasi is not built, and there is no cargo to build it with") from None
    done = subprocess.run([Path(__file__).with_name("build-runwasi")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissing(f"runwasi: {' '.join(done.stderr.split())[-300:]}")
    return programs()


def tiny_image() -> Image:
    """An image whose program ends at once."""
    return wasm_image("localhost/stress:latest", {"app.wasm": bytes(wat2wasm(_TINY))}, ["/app.wasm"])


def image_for(shim: Path) -> Image:
    """What the shim can run: a tiny program, Wasm or Linux; raises PeerMissing where there is none."""
    return native_image(BUILD) if shim.name == _RUNC else tiny_image()


def stress(shim_path: Path | str, tasks: int, parallel: int) -> float:
    """Tasks per second of a shim that the tool starts itself, as its mock of containerd; raises PeerMissing.

    A private containerd of its own hands out the image. AssertionError where a task failed or something is left.
    """
    shim = Path(shim_path)
    built, image = programs(), image_for(shim)
    with Daemon(fetch(_RELEASE, BUILD)) as daemon:
        tool = Stress(daemon, built)
        tool.import_image(image)
        return tool.run(shim, image, tasks, parallel)


class Stress:
    """The tool with a private containerd, where the images come from and which, if wanted, manages the shim."""

    def __init__(self, daemon: Daemon, built: Programs) -> None:
        """Raises PeerMissing where the only snapshotter that the tool knows does not work."""
        self._tool = built.stress_test
        self.daemon = daemon
        if not overlay_works(daemon.directory.parent):
            raise PeerMissing(f"runwasi's stress-test needs overlays, which {daemon.directory.parent} cannot hold")

    def import_image(self, image: Image) -> Image:
        """Put it into containerd where the tool looks for it."""
        archive = self.daemon.directory / "tmp/stress.tar"
        archive.write_bytes(image.archive)
        self.daemon.run("--namespace", NAMESPACE, "image", "import", str(archive))
        archive.unlink()
        return image

    def run(self, shim: Path, image: Image, tasks: int, parallel: int, *, managed: bool = False) -> float:
        """Tasks per second; AssertionError with what the tool said where one failed.

        `parallel` are created and started at a time. The shim is started by the tool itself, or where it is `managed`
        by containerd.
        """
        result = self.daemon.directory / "tmp/stress.json"
        words = [str(self._tool), *(["--containerd"] if managed else []), "--image", image.name]
        words += ["--parallel", str(parallel), "--count", str(tasks), "--timeout", f"{_ANSWER_SECONDS}s"]
        done = self._in_private(*words, "--json-output", str(result), str(shim))
        assert done.returncode == 0, f"stress-test with {shim}: {done.stdout}{done.stderr}"
        value = json.loads(result.read_text())[0]["value"]
        result.unlink()
        return float(value)

    def _in_private(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command where the tool's fixed paths are the private containerd's."""
        daemon = self.daemon
        command = ["unshare", "--mount", "sh", "-ec", _PRIVATE, "sh", str(daemon.directory), *words]
        return subprocess.run(
            command,
            env=daemon.environment,
            cwd=daemon.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )



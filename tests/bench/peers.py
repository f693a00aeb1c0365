"""The peers that a benchmark runs beside: containerd with runc from Debian's packages, kept out of the system."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

GREETING = "hello from runc\n"
IMAGE = "localhost/hello:latest"
_SOURCE = f'#include <unistd.h>\nint main(void) {{ return write(1, "{GREETING[:-1]}\\n", {len(GREETING)}) < 0; }}\n'


class PeerMissing(Exception):
    """A peer cannot run here; the message says why."""


class Containerd:
    """A private containerd: own root, state and socket."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs, self._directory = programs, directory
        self.environment = {**os.environ, "PATH": f"{programs}/usr/bin:{programs}/usr/sbin:{os.environ['PATH']}"}

    def ctr(self, *words: str) -> list[str]:
        """The command line of a ctr call."""
        return [str(self._programs / "usr/bin/ctr"), "--address", f"{self._directory}/containerd.sock", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a ctr call to its end."""
        command = self.ctr(*words)
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=60)

    def version(self) -> str:
        """containerd's and runc's versions."""
        found = []
        for program in ("containerd", "runc"):
            said = subprocess.check_output([program, "--version"], env=self.environment, text=True)
            words = said.split()
            found.append(f"{program} {next(word for word in words if word[0].isdigit() or word[1:2].isdigit())}")
        return ", ".join(found)


@contextmanager
def containerd(build: Path) -> Iterator[Containerd]:
    """A running containerd that knows IMAGE; raises PeerMissing without root or the packages."""
    if os.geteuid() != 0:
        raise PeerMissing("runc: needs root")
    programs = _unpack(build / "peers")
    with tempfile.TemporaryDirectory(prefix="ctr-") as name:
        directory = Path(name)
        peer = Containerd(programs, directory)
        config = directory / "config.toml"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        command = ["containerd", "--config", str(config), "--address", f"{name}/containerd.sock"]
        command += ["--root", f"{name}/root", "--state", f"{name}/state"]
        with subprocess.Popen(command, env=peer.environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                _wait_until_serving(process)
                _import(peer, build, directory)
                yield peer
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)


def _wait_until_serving(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if "containerd successfully booted" in line:
            return
    raise PeerMissing("runc: containerd ended at its start")


def _unpack(target: Path) -> Path:
    """Debian's containerd and runc below `target`, without installing them."""
    if (target / "usr/bin/containerd").exists():
        return target
    if not shutil.which("apt-get"):
        raise PeerMissing("runc: no apt-get to fetch containerd and runc with")
    with tempfile.TemporaryDirectory() as name:
        if not _download(name):
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=300, check=False)
            if not _download(name):
                raise PeerMissing("runc: apt-get cannot download containerd and runc")
        unpacked = Path(name) / "unpacked"
        for package in Path(name).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(unpacked, target)
    return target


def _download(directory: str) -> bool:
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "containerd", "runc"]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=300, check=False).returncode == 0


def _import(peer: Containerd, build: Path, directory: Path) -> None:
    archive = directory / "hello.tar"
    archive.write_bytes(_archive(_program(build)))
    peer.run("image", "import", str(archive))


def _program(build: Path) -> bytes:
    """A static Linux program that prints GREETING."""
    program = build / "peers/hello"
    if not program.exists():
        source = program.with_suffix(".c")
        source.write_text(_SOURCE)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-Os", "-s", "-o"]
        zig = str(build / "zig")
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
        made = subprocess.run([*command, program, source], env=environment, capture_output=True, text=True, check=False)
        if made.returncode:
            raise PeerMissing(f"runc: cannot build its program: {made.stderr.strip()[-200:]}")
    return program.read_bytes()


def _archive(program: bytes) -> bytes:
    """An OCI image layout as a tar file, with one layer that holds the program."""
    layer = _tar({"hello": program})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    blobs: dict[str, bytes] = {}

    def descriptor(kind: str, data: bytes) -> dict[str, object]:
        digest = sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", json.dumps(config).encode()),
        "layers": [descriptor("layer.v1.tar", layer)],
    }
    entry = descriptor("manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"io.containerd.image.name": IMAGE}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return _tar({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs})


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()

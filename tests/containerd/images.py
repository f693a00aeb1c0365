"""Images for the tests, as OCI archives that every `ctr image import` takes; the same input gives the same bytes."""

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from tests.containerd.releases import PeerMissing

GREETING = "hello from runc\n"
NATIVE = "localhost/native:latest"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go names them
# `hello` greets; `hello exit N` ends with N; `hello sleep` says "ready" and ends with 0 at SIGTERM or SIGINT.
_SOURCE = f"""
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int say(const char *words) {{ return write(1, words, strlen(words)) < 0; }}

int main(int count, char **words) {{
    int number;
    sigset_t signals;
    if (count > 2 && !strcmp(words[1], "exit")) return atoi(words[2]);
    if (count < 2 || strcmp(words[1], "sleep")) return say("{GREETING[:-1]}\\n");
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return say("ready\\n") || sigwait(&signals, &number);
}}
"""

Content = bytes | Path | str | None
"""A name in an image: a file's bytes, a file to copy, a symbolic link's target, or a directory open to everybody."""


class Image(NamedTuple):
    """An image to import."""

    name: str
    archive: bytes


def wasm_image(
    name: str,
    files: Mapping[str, Content],
    entrypoint: Sequence[str],
    *,
    command: Sequence[str] = (),
    environment: Sequence[str] = (),
    user: str = "",
    directory: str = "",
) -> Image:
    """An ordinary image for this machine's platform with these files, `{"app.wasm": …}`, in one layer.

    Files have mode 0755. `environment` holds NAME=VALUE, `directory` is where the program starts.
    """
    config = {
        "Entrypoint": list(entrypoint),
        "Cmd": list(command),
        "Env": list(environment),
        "User": user,
        "WorkingDir": directory,
    }
    return Image(name, _archive(name, _layer(files), {key: value for key, value in config.items() if value}))


def native_image(build: Path) -> Image:
    """An image for runc, with the program `hello` described above; raises PeerMissing where it cannot be built."""
    return wasm_image(NATIVE, {"hello": native_program(build)}, ["/hello"])


def native_program(build: Path) -> bytes:
    """The bytes of a static Linux program, built once; raises PeerMissing."""
    program = build / "peers" / f"hello-{sha256(_SOURCE.encode()).hexdigest()[:12]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent, prefix="new-") as work:
            source, made = Path(work, "hello.c"), Path(work, "hello")
            source.write_text(_SOURCE)
            _compile(source, made, build / "zig")
            made.rename(program)  # whole or not at all: others may build it meanwhile
    return program.read_bytes()


def _compile(source: Path, program: Path, cache: Path) -> None:
    target = f"{platform.machine()}-linux-musl"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-Os", "-s", "-o", str(program), str(source)]
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        raise PeerMissing(f"runc: cannot build its program: {made.stderr.strip()[-200:]}")


# The formats: image-spec's layout, manifest and config


def _archive(name: str, layer: bytes, settings: Mapping[str, Any]) -> bytes:
    """An image layout with one image of one layer, as a tar file."""
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    blobs: dict[str, bytes] = {}

    def descriptor(kind: str, data: bytes) -> dict[str, Any]:
        digest = sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", _json(config)),
        "layers": [descriptor("layer.v1.tar", layer)],
    }
    entry = descriptor("manifest.v1+json", _json(manifest))
    entry["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}
    return _tar([_file(path, data) for path, data in files.items()])


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _layer(files: Mapping[str, Content]) -> bytes:
    """A layer with the directories above its files; all belongs to root."""
    above = sorted({str(parent) for name in files for parent in Path(name.strip("/")).parents if parent.name})
    members = [_member(name.strip("/"), content) for name, content in files.items()]
    return _tar([*(_directory(name, 0o755) for name in above), *members])


def _member(name: str, content: Content) -> tuple[tarfile.TarInfo, bytes]:
    if content is None:
        return _directory(name, 0o1777)
    if isinstance(content, str):
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, content, 0o777
        return member, b""
    return _file(name, content.read_bytes() if isinstance(content, Path) else content)


def _directory(name: str, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member, b""


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755
    return member, data


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()

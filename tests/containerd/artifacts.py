"""Images whose program is a layer of its own, as `oci` packs them and as others push them; and containers of them.

`ctr` makes no container of an image whose config is not an image's: `create` does, as a CRI would.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from oci.archive import save
from oci.copy import copy
from oci.descriptor import Descriptor, Platform
from oci.manifest import Manifest, new_index, new_manifest
from oci.memory import MemoryStore
from oci.pack import pack
from oci.pack_options import ArtifactLayout, PackOptions
from tests.containerd.daemon import DEADLINE, WASM, Daemon, without_log
from tests.containerd.images import Image
from wasm_shim.api.containers_pb2 import Container, CreateContainerRequest, CreateContainerResponse

CNCF_CONFIG: Final = "application/vnd.wasm.config.v0+json"
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
WASM_LAYER: Final = "application/wasm"
_SPEC: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


def packed(name: str, program: Path, layout: ArtifactLayout, **options: Any) -> Image:
    """An image as `wasm-shim pack` makes it; `options` are those of PackOptions. Its word is /<name of the file>."""
    store, made = MemoryStore(), pack(program, PackOptions(layout, **options))
    copy(made, made.name, store, name)
    return archived(store, name)


def indexed(name: str, program: Path, os: str, architecture: str, **options: Any) -> Image:
    """The same in CNCF's layout, as the one entry of an index for this platform."""
    store, made = MemoryStore(), pack(program, PackOptions(**options))
    entry = copy(made, made.name, store, None)
    platform = Platform(architecture, os)
    index = new_index([Descriptor(entry.media_type, entry.digest, entry.size, platform=platform)])
    store.write(index.descriptor, [index.raw])
    store.tag(name, index.descriptor)
    return archived(store, name)


def pushed(name: str, config: tuple[str, Any], layers: Sequence[tuple[str, bytes, str]]) -> Image:
    """An artifact with this config, media type and contents, and layers: media type, bytes and title or nothing."""
    store = MemoryStore()
    titles = [{"org.opencontainers.image.title": title} if title else {} for _, _, title in layers]
    described = [Descriptor.of(kind, data, titled) for (kind, data, _), titled in zip(layers, titles, strict=True)]
    raw = json.dumps(config[1]).encode()
    for descriptor, data in zip(described, (data for _, data, _ in layers), strict=True):
        store.write(descriptor, [data])
    store.write(Descriptor.of(config[0], raw), [raw])
    made: Manifest = new_manifest(Descriptor.of(config[0], raw), described)
    store.write(made.descriptor, [made.raw])
    store.tag(name, made.descriptor)
    return archived(store, name)


def archived(store: MemoryStore, name: str) -> Image:
    """What a store has under a name."""
    out = io.BytesIO()
    save(store, [name], out)
    return Image(name, out.getvalue())


def load(daemon: Daemon, image: Image) -> Image:
    """Import an image as the CRI pulls it: there is nothing to unpack, and no platform that is left out."""
    archive = daemon.directory / "tmp" / "artifact.tar"
    archive.write_bytes(image.archive)
    daemon.run("image", "import", "--all-platforms", "--no-unpack", str(archive))
    archive.unlink()
    return image


def create(daemon: Daemon, image: str, *words: str, name: str = "", **process: Any) -> str:
    """Make a container by containerd's API and return its id; `ctr task start` runs it.

    Its root file system is a new snapshot of nothing, as for an image without layers of one; `process` is added to
    the specification's.
    """
    name = name or daemon.new_id()
    environment = daemon.environment
    daemon.run("snapshots", "--snapshotter", environment["CONTAINERD_SNAPSHOTTER"], "prepare", name)
    spec = {
        "ociVersion": "1.1.0",
        "process": {"args": list(words), "cwd": "/", "user": {"uid": 65532, "gid": 65532}, **process},
        "root": {"path": "rootfs"},
        "linux": {
            "cgroupsPath": f"/{daemon.namespace}/{name}",
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }
    container = Container(
        id=name,
        image=image,
        runtime=Container.Runtime(name=WASM),
        spec=AnyMessage(type_url=_SPEC, value=json.dumps(spec).encode()),
        snapshotter=environment["CONTAINERD_SNAPSHOTTER"],
        snapshot_key=name,
    )
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{daemon.address}", options=options) as channel:
        method = channel.unary_unary(
            "/containerd.services.containers.v1.Containers/Create",
            request_serializer=CreateContainerRequest.SerializeToString,
            response_deserializer=CreateContainerResponse.FromString,
        )
        metadata = (("containerd-namespace", daemon.namespace),)
        method(CreateContainerRequest(container=container), metadata=metadata, timeout=DEADLINE)
    return name


def start(daemon: Daemon, name: str) -> tuple[int, str, str]:
    """Run a container that was made by `create` to its end, and remove it: its code, and what it wrote."""
    done = daemon.run("task", "start", "--fifo-dir", f"{daemon.directory}/fifo", name, check=False)
    daemon.run("task", "delete", name, check=False)
    daemon.run("container", "delete", name)
    return done.returncode, done.stdout, without_log(done.stderr)


def unique(program: Path, path: Path, words: str) -> Path:
    """A copy of a program with these words in a section without meaning: no cache and no containerd has it."""
    note = bytes([len(words)]) + words.encode()
    path.write_bytes(program.read_bytes() + bytes([0, len(note)]) + note)
    return path

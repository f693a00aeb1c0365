"""Artifacts in every form that is found in registries, made as the tools make them that are named beside each."""

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import wasmtime

from oci.descriptor import Descriptor, Platform
from oci.forms import Form
from oci.manifest import Index, Manifest, new_index, new_manifest, parse_manifest
from oci.memory import MemoryStore
from tests.unit.oci.tars import archive, member

IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TAR, TAR_GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
TITLE = "org.opencontainers.image.title"

COMMAND = bytes(
    wasmtime.wat2wasm("""(module
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))""")
)
FILTER = bytes(wasmtime.wat2wasm('(module (func (export "proxy_abi_version_0_2_1")))'))
POLICY = bytes(wasmtime.wat2wasm('(module (func (export "__guest_call") (param i32 i32) (result i32) i32.const 1))'))
HTTP = bytes(wasmtime.wat2wasm('(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))'))
NATIVE = b"\x7fELF\2\1\1" + bytes(100)

Layer = tuple[str, bytes, Mapping[str, str]]


def layer(media_type: str, data: bytes, title: str = "") -> Layer:
    return media_type, data, {TITLE: title} if title else {}


def put(
    store: MemoryStore, config: tuple[str, Any], layers: list[Layer], *, docker: bool = False, **fields: Any
) -> Descriptor:
    """Write an artifact; `config` is its media type and its contents, which are JSON unless they are bytes."""
    media_type, contents = config
    raw = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    described = [Descriptor.of(kind, data, annotations) for kind, data, annotations in layers]
    for descriptor, (_kind, data, _annotations) in zip(described, layers, strict=True):
        store.write(descriptor, [data])
    store.write(Descriptor.of(media_type, raw), [raw])
    made: Manifest | Index = new_manifest(Descriptor.of(media_type, raw), described, **fields)
    if docker:
        document = json.loads(made.raw) | {"mediaType": DOCKER_MANIFEST}
        made = parse_manifest(json.dumps(document).encode())
    store.write(made.descriptor, [made.raw])
    return made.descriptor


def put_index(store: MemoryStore, *manifests: Descriptor | tuple[Descriptor, str, str]) -> Descriptor:
    """Write an index; a manifest may have an architecture and an os."""
    described = []
    for each in manifests:
        descriptor, platform = (each, None) if isinstance(each, Descriptor) else (each[0], Platform(each[1], each[2]))
        described.append(Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, platform=platform))
    index = new_index(described)
    store.write(index.descriptor, [index.raw])
    return index.descriptor


def image(os: str = "linux", architecture: str = "amd64", **settings: Any) -> dict[str, Any]:
    return {"architecture": architecture, "os": os, "config": settings, "rootfs": {"type": "layers", "diff_ids": []}}


def rootfs(path: str = "app.wasm", data: bytes = COMMAND) -> bytes:
    return archive(member(path, data))


def cncf(store: MemoryStore, data: bytes = COMMAND) -> Descriptor:
    """A: wkg, wash. The config has no entrypoint."""
    digest = str(Descriptor.of("", data).digest)
    config = {"created": "2024-09-25T12:22:22.179309Z", "author": None, "architecture": "wasm", "os": "wasip2",
              "layerDigests": [digest], "component": None}  # fmt: skip
    return put(store, ("application/vnd.wasm.config.v0+json", config), [layer("application/wasm", data)])


def runwasi(store: MemoryStore) -> Descriptor:
    """B: oci-tar-builder of runwasi."""
    config = image("wasip1", "wasm", Entrypoint=["app.wasm"], Labels={"containerd.runwasi.layers": "sha256:1"})
    kind = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
    names = {"io.containerd.image.name": "ghcr.io/example/app:1", "org.opencontainers.image.ref.name": "1"}
    return put(store, (IMAGE_CONFIG, config), [layer(kind, COMMAND)], annotations=names)


def docker(store: MemoryStore) -> Descriptor:
    """C: docker buildx build --platform wasi/wasm, in an index with an attestation."""
    config = image("wasi", "wasm", Entrypoint=["/app.wasm"], Env=["PATH=/usr/bin", "A=b"])
    manifest = put(store, (IMAGE_CONFIG, config), [layer(TAR_GZIP, gzip.compress(rootfs(), mtime=0))])
    statement = put(store, (IMAGE_CONFIG, image("unknown", "unknown")), [layer("application/vnd.in-toto+json", b"{}")])
    return put_index(store, (manifest, "wasm", "wasi"), (statement, "unknown", "unknown"))


def plain(store: MemoryStore) -> Descriptor:
    """D: docker build of FROM scratch, in Docker's own format."""
    config = image(Cmd=["/app.wasm", "x"], WorkingDir="/", User="1000")
    return put(store, (DOCKER_CONFIG, config), [layer(DOCKER_LAYER, gzip.compress(rootfs(), mtime=0))], docker=True)


def istio(store: MemoryStore) -> Descriptor:
    """E: oras push as Istio's documentation says."""
    layers = [
        layer("application/vnd.module.wasm.config.v1+json", b'{"type":"envoy_proxy"}', "runtime-config.json"),
        layer("application/vnd.module.wasm.content.layer.v1+wasm", FILTER, "filter.wasm"),
    ]
    return put(store, ("application/vnd.unknown.config.v1+json", b"not JSON at all"), layers)


def compat(store: MemoryStore) -> Descriptor:
    """F: docker build of FROM scratch with plugin.wasm for Istio."""
    data = archive(member("runtime-config.json", b"{}"), member("plugin.wasm", FILTER))
    return put(store, (DOCKER_CONFIG, image()), [layer(DOCKER_LAYER, gzip.compress(data, mtime=0))], docker=True)


def higress(store: MemoryStore) -> Descriptor:
    """G: oras push of a Higress plugin with its documentation."""
    layers = [
        layer("application/vnd.module.wasm.spec.v1+yaml", b"apiVersion: 1.0.0\n", "spec.yaml"),
        layer("application/vnd.module.wasm.doc.v1+markdown", b"# Plugin\n", "README.md"),
        layer(TAR_GZIP, gzip.compress(archive(member("plugin.wasm", FILTER)), mtime=0), "plugin.tar.gz"),
    ]
    return put(store, (EMPTY, b"{}"), layers, artifact_type="application/vnd.unknown.artifact.v1")


def spin(store: MemoryStore, *components: bytes) -> Descriptor:
    """H: spin registry push."""
    config = image("Wasip1", "wasm", Labels={"com.fermyon.spin.lockedAppDigest": "sha256:1"})
    layers = [layer("application/vnd.wasm.content.layer.v1+wasm", data) for data in components or (COMMAND,)]
    layers += [
        layer("application/vnd.wasm.content.layer.v1+data", b"static"),
        layer("application/vnd.fermyon.spin.application.v1+config", b'{"spin_lock_version":1}'),
    ]
    return put(store, (IMAGE_CONFIG, config), layers)


def kubewarden(store: MemoryStore) -> Descriptor:
    """I: kwctl push, wasm-to-oci, cosign upload wasm. Their configs are all the same."""
    layers = [layer("application/vnd.wasm.content.layer.v1+wasm", POLICY)]
    annotations = {"io.kubewarden.policy.title": "p"}
    return put(store, ("application/vnd.wasm.config.v1+json", b"{}"), layers, annotations=annotations)


def crun(store: MemoryStore) -> Descriptor:
    """J: buildah build --annotation module.wasm.image/variant=compat."""
    annotations = {"module.wasm.image/variant": "compat-smart"}
    config = image(Entrypoint=["/app.wasm"], Cmd=["x"])
    return put(store, (IMAGE_CONFIG, config), [layer(TAR, rootfs())], annotations=annotations)


def oras(store: MemoryStore) -> Descriptor:
    """K: oras push app.wasm:application/wasm."""
    layers = [layer("application/wasm", COMMAND, "app.wasm")]
    return put(store, (EMPTY, b"{}"), layers, artifact_type="application/vnd.example", annotations={"a": "b"})


def oras_without_type(store: MemoryStore) -> Descriptor:
    """K without a media type: oras calls every file a tar layer."""
    return put(store, (EMPTY, b"{}"), [layer(TAR, COMMAND, "app.wasm")], artifact_type="application/vnd.unknown")


def gadget(store: MemoryStore) -> Descriptor:
    """L: ig image build, an index with a manifest for each architecture."""
    layers = [
        layer("application/vnd.gadget.ebpf.program.v1+binary", NATIVE, "program.o"),
        layer("application/vnd.gadget.wasm.program.v1+binary", COMMAND, "program.wasm"),
    ]
    manifest = put(store, ("application/vnd.gadget.config.v1+yaml", b"name: g\n"), layers)
    return put_index(store, (manifest, "amd64", "linux"), (manifest, "arm64", "linux"))


class Known(NamedTuple):
    """A form, how it is made, and what is to be found in it."""

    put: Callable[[MemoryStore], Descriptor]
    form: Form
    program: bytes
    path: str
    name: str


FORMS = {
    "A": Known(cncf, Form.CNCF, COMMAND, "", str(Descriptor.of("", COMMAND).digest)),
    "B": Known(runwasi, Form.RUNWASI, COMMAND, "", str(Descriptor.of("", COMMAND).digest)),
    "C": Known(docker, Form.WASI_IMAGE, COMMAND, "/app.wasm", "/app.wasm"),
    "D": Known(plain, Form.IMAGE, COMMAND, "/app.wasm", "/app.wasm"),
    "E": Known(istio, Form.ISTIO, FILTER, "", "filter.wasm"),
    "F": Known(compat, Form.ISTIO_COMPAT, FILTER, "", "/plugin.wasm"),
    "G": Known(higress, Form.HIGRESS, FILTER, "", "/plugin.wasm"),
    "H": Known(spin, Form.SPIN, COMMAND, "", str(Descriptor.of("", COMMAND).digest)),
    "I": Known(kubewarden, Form.WASM_TO_OCI, POLICY, "", str(Descriptor.of("", POLICY).digest)),
    "J": Known(crun, Form.CRUN, COMMAND, "/app.wasm", "/app.wasm"),
    "K": Known(oras, Form.ORAS, COMMAND, "", "app.wasm"),
    "K without a type": Known(oras_without_type, Form.ORAS, COMMAND, "", "app.wasm"),
    "L": Known(gadget, Form.GADGET, COMMAND, "", "program.wasm"),
}

"""Packing: what is written, byte for byte, and that it can be read back and copied like anything else."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci.content import read_all
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import InvalidWasm, NotFound, UnsupportedArtifact
from oci.extract import extract_program
from oci.forms import Form
from oci.layout import Layout
from oci.memory import MemoryStore
from oci.pack import Packed, pack
from oci.pack_options import ArtifactLayout, PackOptions
from oci.program import find_program
from tests.unit.oci.forms import COMMAND, HTTP

# A core module without anything in it, so that the digests below depend on no compiler.
SMALLEST = b"\0asm\1\0\0\0"
ALL = list(ArtifactLayout)


def packed(data: bytes = COMMAND, name: str = "app.wasm", **options: Any) -> Packed:
    return pack(io.BytesIO(data), PackOptions(**options), name)


def config(artifact: Packed) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(artifact.config)
    return parsed


def contents(artifact: Packed) -> bytes:
    return b"".join(artifact.read(artifact.manifest.layers[0]))


def test_the_cncf_layout_of_a_core_module() -> None:
    artifact = packed()
    layer = Descriptor.of("application/wasm", COMMAND, {"org.opencontainers.image.title": "app.wasm"})
    assert json.loads(artifact.manifest.raw) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": str(Digest.of(artifact.config)),
            "size": len(artifact.config),
        },
        "layers": [layer.to_json()],
    }
    assert config(artifact) == {
        "architecture": "wasm",
        "os": "wasip1",
        "created": "1970-01-01T00:00:00Z",
        "layerDigests": [str(layer.digest)],
        "config": {"Entrypoint": ["/app.wasm"], "User": "65532:65532"},
    }
    assert contents(artifact) == COMMAND


def test_the_cncf_layout_of_a_component(guest: Callable[[str], Path]) -> None:
    said = config(pack(guest("kit_p2.wasm")))
    assert said["os"] == "wasip2"
    assert said["component"]["exports"] == ["wasi:cli/run@0.2.3"]
    assert said["component"]["imports"][0] == "wasi:cli/environment@0.2.3"
    with_types = config(pack(guest("fraction.wasm")))
    assert with_types["component"] == {"exports": ["new", "add", "example:fraction/ops"], "imports": []}
    assert config(packed(HTTP))["component"]["exports"] == ["wasi:http/incoming-handler@0.2.0"]


def test_the_runwasi_layout() -> None:
    artifact = packed(layout=ArtifactLayout.RUNWASI, labels={"a": "b"})
    (layer,) = artifact.manifest.layers
    assert artifact.manifest.config.media_type == "application/vnd.oci.image.config.v1+json"
    assert layer.media_type == "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
    assert dict(layer.annotations) == {"org.opencontainers.image.title": "app.wasm"}
    assert config(artifact) == {
        "architecture": "wasm",
        "os": "wasip1",
        "created": "1970-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {
            "Entrypoint": ["/app.wasm"],
            "User": "65532:65532",
            "Labels": {"a": "b", "containerd.runwasi.layers": str(Digest.of(COMMAND))},
        },
    }
    assert contents(artifact) == COMMAND


def test_the_image_layout() -> None:
    artifact = packed(layout=ArtifactLayout.IMAGE)
    (layer,) = artifact.manifest.layers
    assert artifact.manifest.config.media_type == "application/vnd.oci.image.config.v1+json"
    assert (layer.media_type, dict(layer.annotations)) == ("application/vnd.oci.image.layer.v1.tar", {})
    assert config(artifact) == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [str(layer.digest)]},
        "config": {"Entrypoint": ["/app.wasm"], "User": "65532:65532"},
    }
    with tarfile.open(fileobj=io.BytesIO(contents(artifact))) as tar:
        assert tar.getnames() == ["app.wasm"]
        file = tar.extractfile("app.wasm")
        assert file is not None
        assert file.read() == COMMAND


@pytest.mark.parametrize("layout", ALL)
def test_options_arrive(layout: ArtifactLayout) -> None:
    artifact = packed(
        layout=layout, created="2020-01-02T03:04:05Z", cmd=("a", "b"), env=("A=b", "C="), labels={"l": "m"},
        annotations={"n": "o"}, user="7",
    )  # fmt: skip
    said = config(artifact)
    assert said["created"] == "2020-01-02T03:04:05Z"
    assert said["config"].pop("Labels")["l"] == "m"
    assert said["config"] == {"Entrypoint": ["/app.wasm"], "Cmd": ["a", "b"], "Env": ["A=b", "C="], "User": "7"}
    assert dict(artifact.manifest.annotations) == {"n": "o"}
    assert "User" not in config(packed(layout=layout, user=""))["config"]


def test_annotations_come_from_the_program_and_those_given_win() -> None:
    data = COMMAND + b"\0\x0b\7version1.0" + b"\0\x0e\x0bdescriptionme"
    artifact = packed(data, annotations={"org.opencontainers.image.description": "you"})
    assert dict(artifact.manifest.annotations) == {
        "org.opencontainers.image.version": "1.0",
        "org.opencontainers.image.description": "you",
    }


@pytest.mark.parametrize(
    ("layout", "digest"),
    [
        (ArtifactLayout.CNCF, "sha256:97ed1fb1adedd124d1319dbad1768a864fe5ffd7de59390e54f5f1a2d616ce18"),
        (ArtifactLayout.RUNWASI, "sha256:3a1715ecef19916ff3a51920036a9fab16e9fdcbd3761c00d9efc806bb97dae2"),
        (ArtifactLayout.IMAGE, "sha256:6a0cf7eb851856c4e41f6061282d9f4a6f235c4124d7a293a991516e6848c0c7"),
    ],
)
def test_the_digest_is_the_same_everywhere(layout: ArtifactLayout, digest: str) -> None:
    """On any machine and in any version: what was pushed once must not be pushed again under another digest."""
    assert packed(SMALLEST, layout=layout).name == digest


@pytest.mark.parametrize("layout", ALL)
def test_configs_differ_where_programs_do(layout: ArtifactLayout) -> None:
    other = COMMAND + b"\0\2\1x"
    artifacts = [packed(layout=layout), packed(other, layout=layout), packed(name="b.wasm", layout=layout)]
    assert len({artifact.manifest.config.digest for artifact in artifacts}) == len(artifacts)


@pytest.mark.parametrize("layout", ALL)
def test_a_packed_program_is_a_source(tmp_path: Path, layout: ArtifactLayout) -> None:
    (tmp_path / "app.wasm").write_bytes(COMMAND)
    artifact = pack(tmp_path / "app.wasm", PackOptions(layout, cmd=("x",)))
    for target in (MemoryStore(), Layout.create(tmp_path / "store")):
        assert copy(artifact, artifact.name, target, "app:1") == artifact.manifest.descriptor
        program = find_program(target, "app:1")
        assert program.form is {"cncf": Form.CNCF, "runwasi": Form.RUNWASI, "image": Form.IMAGE}[layout.value]
        assert (program.entrypoint, program.cmd, program.user) == (("/app.wasm",), ("x",), "65532:65532")
        out = io.BytesIO()
        assert extract_program(target, program, out) == ("/app.wasm" if layout is ArtifactLayout.IMAGE else "app.wasm")
        assert out.getvalue() == COMMAND


@pytest.mark.parametrize("layout", ALL)
def test_reads_from_any_offset(layout: ArtifactLayout) -> None:
    artifact = packed(layout=layout)
    for descriptor in (artifact.manifest.descriptor, *artifact.manifest.children):
        whole = read_all(artifact, descriptor, 1 << 20)
        for offset in range(len(whole) + 2):
            assert b"".join(artifact.read(descriptor, offset)) == whole[offset:]


def test_has_nothing_else() -> None:
    artifact = packed()
    assert artifact.resolve(artifact.name) == artifact.manifest.descriptor
    with pytest.raises(NotFound, match="'latest' is not what was packed"):
        artifact.resolve("latest")
    with pytest.raises(NotFound, match="is no part of what was packed"):
        artifact.read(Descriptor.of("x", b"other"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty"),
        (b"(module)", "WebAssembly text; name it .wat or translate it"),
        (b"\x7fELF\2\1\1\xc8" + bytes(100), "native code that wasmtime precompiled"),
        (COMMAND[:-1], "truncated"),
    ],
)
def test_refuses_what_is_no_wasm_binary(data: bytes, expected: str) -> None:
    for layout in ALL:
        with pytest.raises(InvalidWasm, match=expected):
            packed(data, layout=layout)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\0b", "\udcff", "a" * 256, "é" * 128])
def test_refuses_names_that_no_file_in_an_image_can_have(name: str) -> None:
    with pytest.raises(UnsupportedArtifact, match=r"cannot be a program's name|more than 255 bytes"):
        packed(name=name)


def test_refuses_names_that_an_archive_cannot_hold() -> None:
    packed(name="a" * 101)
    with pytest.raises(UnsupportedArtifact, match="more than 100 bytes; give a shorter one"):
        packed(name="a" * 101, layout=ArtifactLayout.IMAGE)
    packed(name=".wh.a")
    with pytest.raises(UnsupportedArtifact, match="would hide a file"):
        packed(name=".wh.a", layout=ArtifactLayout.IMAGE)


names = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable() and "/" not in name)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
labels = st.dictionaries(texts.filter(bool), texts, max_size=3)


@settings(max_examples=200)
@given(st.sampled_from(ALL), names, st.lists(texts, max_size=3), labels, labels)
def test_whatever_is_packed_is_found_again(
    layout: ArtifactLayout, name: str, cmd: list[str], said: dict[str, str], noted: dict[str, str]
) -> None:
    try:
        artifact = packed(name=name, layout=layout, cmd=tuple(cmd), labels=said, annotations=noted)
    except UnsupportedArtifact:
        return
    store = MemoryStore()
    copy(artifact, artifact.name, store, None)
    program = find_program(store, artifact.name)
    assert (program.entrypoint, program.cmd) == ((f"/{name}",), tuple(cmd))
    assert said.items() <= program.labels.items()
    assert dict(artifact.manifest.annotations) == noted
    out = io.BytesIO()
    extract_program(store, program, out)
    assert out.getvalue() == COMMAND

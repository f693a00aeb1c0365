"""What is told of artifacts: what they are, and who can run or read them and why the others cannot."""

import io
from typing import Any

import pytest

from oci.copy import copy
from oci.descriptor import Descriptor, Platform
from oci.errors import InvalidContent, NotFound
from oci.explain import Explanation, explain
from oci.forms import Form
from oci.memory import MemoryStore
from oci.pack import pack
from oci.pack_options import ArtifactLayout, PackOptions
from oci.tools import Answer
from tests.unit.oci import forms
from tests.unit.oci.forms import COMMAND, EMPTY, FORMS, HTTP, IMAGE_CONFIG, TAR, image, layer, put, put_index
from tests.unit.oci.tars import archive, member
from tests.unit.oci.test_wasm_interface import wat

TOOLS = (
    "wasm-shim run", "wasm-shim under Kubernetes (CRI)", "wasm-shim with ctr run", "runwasi", "crun and podman",
    "Docker Desktop", "Spin's shim", "Istio and Envoy Gateway", "Kubewarden", "wkg", "oras pull", "crane", "skopeo",
)  # fmt: skip
OURS, CRI, CTR, RUNWASI, CRUN, DOCKER, SPIN, ISTIO, KUBEWARDEN, WKG, ORAS, CRANE, SKOPEO = TOOLS
COPIERS = {CRANE, SKOPEO}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def able(explanation: Explanation) -> set[str]:
    return {answer.tool for answer in explanation.answers if answer.can}


def answer(explanation: Explanation, tool: str) -> Answer:
    return next(each for each in explanation.answers if each.tool == tool)


def packed(store: MemoryStore, layout: ArtifactLayout, data: bytes = COMMAND) -> Descriptor:
    artifact = pack(io.BytesIO(data), PackOptions(layout), "app.wasm")
    return copy(artifact, artifact.name, store, None)


def raw(store: MemoryStore, data: bytes, media_type: str = "application/wasm", config: Any = None) -> Descriptor:
    said = (IMAGE_CONFIG, image("wasip1", "wasm", Entrypoint=["/app.wasm"])) if config is None else config
    return put(store, said, [layer(media_type, data, "app.wasm")])


@pytest.mark.parametrize("letter", FORMS)
def test_every_form_is_told(store: MemoryStore, letter: str) -> None:
    known = FORMS[letter]
    told = explain(store, known.put(store))
    assert told.artifact is not None
    assert told.interface is not None
    assert (told.artifact.form, told.refusal, told.size, told.path) == (
        known.form, "", len(known.program), known.name,
    )  # fmt: skip
    assert tuple(each.tool for each in told.answers) == TOOLS
    assert all("\n" not in each.reason + each.remedy for each in told.answers)
    assert [each.tool for each in told.answers if not each.can and not each.reason] == []


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        ("A", {OURS, CRI, RUNWASI, WKG}),
        ("B", {OURS, CRI, CTR, RUNWASI}),
        ("C", {OURS, CTR, RUNWASI, CRUN, DOCKER}),
        ("D", {OURS, CRI, CTR, RUNWASI, CRUN, DOCKER}),
        ("E", {ISTIO, ORAS}),
        ("F", {ISTIO}),
        ("G", {ISTIO, ORAS}),
        ("H", {OURS, CRI, CTR, SPIN}),
        ("I", {KUBEWARDEN}),
        ("J", {OURS, CRI, CTR, RUNWASI, CRUN, DOCKER}),
        ("K", {OURS, CRI, ORAS}),
        ("L", {OURS, CRI, ORAS}),
    ],
)
def test_who_can_run_or_read_each_form(store: MemoryStore, letter: str, expected: set[str]) -> None:
    assert able(explain(store, FORMS[letter].put(store))) == expected | COPIERS


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (ArtifactLayout.CNCF, {OURS, CRI, RUNWASI, WKG, ORAS}),
        (ArtifactLayout.RUNWASI, {OURS, CRI, CTR, RUNWASI, ORAS}),
        (ArtifactLayout.IMAGE, {OURS, CRI, CTR, RUNWASI, CRUN, DOCKER}),
    ],
)
def test_who_can_run_or_read_what_we_pack(store: MemoryStore, layout: ArtifactLayout, expected: set[str]) -> None:
    told = explain(store, packed(store, layout))
    assert able(told) == expected | COPIERS
    assert (answer(told, OURS).reason, answer(told, CRI).reason) == ("", "")


def test_a_refusal_by_ctr_says_what_to_push(store: MemoryStore) -> None:
    assert answer(explain(store, packed(store, ArtifactLayout.CNCF)), CTR) == Answer(
        CTR,
        can=False,
        reason="ctr refuses a config of type 'application/vnd.wasm.config.v0+json'",
        remedy="push it with --layout runwasi or image",
    )


@pytest.mark.parametrize(
    ("data", "tool", "expected"),
    [
        ('(module (import "env" "launch" (func)) (func (export "_start")))', OURS, "it imports 'env.launch', which no"),
        ('(component (import "example:a/b@1.0.0" (instance)))', OURS, "it imports 'example:a/b@1.0.0', which no"),
        ('(component (import "wasi:sockets/tcp@0.2.0" (instance)))', CRI, "it imports 'wasi:sockets/tcp@0.2.0'"),
        ('(component (import "wasi:io/poll@0.3.0" (instance)))', OURS, "it is built for WASI 0.3"),
        ('(component (import "wasi:io/poll@0.3.0" (instance)))', RUNWASI, "it is built for WASI 0.3"),
        ('(module (func (export "add")))', CRI, "it is no command: it exports neither"),
        ('(module (func (export "add")))', RUNWASI, "it is no command: it exports neither"),
        ('(module (func (export "add")))', SPIN, "the Spin shim reads Spin applications and the CNCF layout"),
        ('(module (func (export "_start")))', ISTIO, "it is no proxy-wasm filter"),
        ('(module (func (export "_start")))', KUBEWARDEN, "Kubewarden reads artifacts that kwctl"),
        ('(module (func (export "proxy_abi_version_0_2_1")))', OURS, "it is a proxy-wasm filter, which needs a host"),
        ('(module (func (export "proxy_abi_version_0_2_1")))', RUNWASI, "it is a proxy-wasm filter"),
        ('(module (func (export "proxy_abi_version_0_2_1")))', ISTIO, "Istio looks for a plugin.wasm"),
        ('(module (func (export "__guest_call")))', CTR, "it is a waPC guest"),
    ],
)
def test_why_a_program_cannot_run(store: MemoryStore, data: str, tool: str, expected: str) -> None:
    told = answer(explain(store, raw(store, wat(data))), tool)
    assert not told.can
    assert told.reason.startswith(expected)


def test_who_runs_http_components(store: MemoryStore) -> None:
    told = explain(store, packed(store, ArtifactLayout.CNCF, HTTP))
    assert able(told) == {RUNWASI, SPIN, WKG, ORAS} | COPIERS
    assert answer(told, SPIN).reason == "as one HTTP component"
    command = explain(store, packed(store, ArtifactLayout.CNCF))
    assert answer(command, SPIN).reason.endswith("runs HTTP components only")
    assert answer(explain(store, packed(store, ArtifactLayout.IMAGE, HTTP)), CRUN).reason == "crun runs commands only"


def test_an_export_to_call_is_no_command(store: MemoryStore) -> None:
    told = explain(store, packed(store, ArtifactLayout.CNCF, wat('(module (func (export "add")))')))
    assert answer(told, OURS) == Answer(OURS, can=True, reason="it is no command: call an export with --invoke")


def test_a_policy_must_be_one(store: MemoryStore) -> None:
    kind = "application/vnd.wasm.content.layer.v1+wasm"
    told = explain(store, raw(store, wat('(module (func (export "x")))'), kind))
    assert answer(told, KUBEWARDEN).reason.startswith("it is no policy")
    assert answer(explain(store, raw(store, COMMAND, kind)), KUBEWARDEN).can
    assert answer(told, RUNWASI).reason.startswith("it is no command")
    assert (
        answer(explain(store, raw(store, COMMAND, kind)), RUNWASI).reason == f"runwasi knows no layers of type {kind!r}"
    )


@pytest.mark.parametrize(
    ("config", "layers", "expected"),
    [
        ((EMPTY, b"{}"), [layer("application/wasm", COMMAND)], "wkg wants a config of type"),
        (("application/vnd.wasm.config.v0+json", {}), [layer("application/wasm", COMMAND)], "wkg wants created and"),
        (("application/vnd.wasm.config.v0+json", {}), [layer("a/b+wasm", COMMAND)], "wkg wants one layer, of type"),
    ],
)
def test_why_wkg_cannot_read_it(store: MemoryStore, config: Any, layers: list[forms.Layer], expected: str) -> None:
    told = answer(explain(store, put(store, config, layers)), WKG)
    assert told.reason.startswith(expected)
    assert told.remedy == "push it with --layout cncf"


def test_what_containerd_makes_of_configs(store: MemoryStore) -> None:
    assert "the config names no program" in answer(explain(store, forms.cncf(store)), CRI).reason
    assert "an empty config for one image" in answer(explain(store, forms.oras(store)), CRI).reason
    without = raw(store, COMMAND, config=(IMAGE_CONFIG, image("wasip1", "wasm")))
    assert answer(explain(store, without), CTR).reason.endswith("give ctr run a command")
    not_wasm = raw(store, COMMAND, config=(IMAGE_CONFIG, image(Entrypoint=["/app.wasm"])))
    assert answer(explain(store, not_wasm), RUNWASI).reason == "its config does not say architecture wasm"
    wasi = put(store, (IMAGE_CONFIG, image("wasi", "wasm", Cmd=["/app.wasm"])), [layer(TAR, forms.rootfs())])
    assert answer(explain(store, wasi), CRI).reason == (
        "up to containerd 2.2; later ones unpack for linux only, not for 'wasi'"
    )
    unpacked_nowhere = put(store, (EMPTY, image(Cmd=["/app.wasm"])), [layer(TAR, forms.rootfs())])
    told = explain(store, unpacked_nowhere)
    reason = "its layers are unpacked only where the config is an image's"
    assert {answer(told, tool).reason for tool in (CRI, RUNWASI, CRUN, DOCKER)} == {reason}


# Indexes


def test_an_index_for_wasi_is_not_reached_by_containerd(store: MemoryStore) -> None:
    told = explain(store, put_index(store, (packed(store, ArtifactLayout.RUNWASI), "wasm", "wasi")))
    assert told.platforms == ("wasi/wasm",)
    assert able(told) == {OURS, CTR, ORAS} | COPIERS
    assert answer(told, CRI).remedy == answer(told, RUNWASI).remedy == "give the digest of the manifest in it"
    assert answer(told, CTR).reason == "pull it with --platform wasi/wasm"
    assert answer(told, SKOPEO).reason == "copies it with --all"


def test_an_index_for_the_host_is_reached_by_containerd(store: MemoryStore) -> None:
    told = explain(store, put_index(store, (packed(store, ArtifactLayout.CNCF), "amd64", "linux")))
    assert able(told) == {OURS, CRI, WKG, ORAS} | COPIERS
    silent = explain(store, put_index(store, packed(store, ArtifactLayout.IMAGE)))
    assert (silent.platforms, answer(silent, CRI).can) == (("any",), True)
    arm = explain(store, put_index(store, packed(store, ArtifactLayout.IMAGE)), Platform("arm64", "linux"))
    assert not answer(arm, CRI).can


def test_an_index_with_nothing_for_us_is_explained_too(store: MemoryStore) -> None:
    told = explain(store, put_index(store, (forms.cncf(store), "arm64", "linux")))
    assert (told.artifact, told.program, told.interface, told.size) == (None, None, None, 0)
    assert told.refusal == "an index with nothing for linux/amd64 or wasi/wasm; it is for linux/arm64"
    assert able(told) == {ORAS} | COPIERS
    assert answer(told, OURS).reason == told.refusal


# What cannot be run


def test_a_linux_image_is_explained_too(store: MemoryStore) -> None:
    data = archive(member("bin/sh", forms.NATIVE))
    told = explain(store, put(store, (IMAGE_CONFIG, image(Cmd=["/bin/sh"])), [layer(TAR, data)]))
    assert told.artifact is not None
    assert told.artifact.form is Form.IMAGE
    assert told.refusal.startswith("'/bin/sh' in the image: not Wasm but a native program (ELF)")
    assert able(told) == COPIERS


def test_a_spin_application_of_several_components_is_for_spin(store: MemoryStore) -> None:
    told = explain(store, forms.spin(store, b"1", b"2"))
    assert able(told) == {SPIN} | COPIERS
    assert told.refusal.startswith("a Spin application of 2 components")


def test_an_artifact_without_wasm_is_explained_too(store: MemoryStore) -> None:
    told = explain(store, put(store, (EMPTY, b"{}"), [layer("text/plain", b"x", "README")]))
    assert told.artifact is not None
    assert told.artifact.form is Form.OTHER
    assert able(told) == {ORAS} | COPIERS


def test_a_damaged_program_is_explained_too(store: MemoryStore) -> None:
    told = explain(store, raw(store, COMMAND[:-1]))
    assert told.refusal.startswith("truncated")
    assert able(told) == {ORAS} | COPIERS


def test_text_is_for_us_only(store: MemoryStore) -> None:
    told = explain(store, raw(store, b"(module)"))
    assert (told.interface, told.refusal, told.size) == (None, "", 8)
    assert able(told) == {OURS, CRI, CTR, ORAS} | COPIERS
    assert answer(told, RUNWASI).remedy == "translate it with wat2wasm and push it anew"


def test_damage_and_absence_are_errors(store: MemoryStore) -> None:
    with pytest.raises(NotFound):
        explain(store, "missing")
    with pytest.raises(InvalidContent):
        explain(store, put(store, (IMAGE_CONFIG, b"no JSON"), [layer("application/wasm", COMMAND)]))


def test_explains_by_name(store: MemoryStore) -> None:
    descriptor = packed(store, ArtifactLayout.CNCF)
    store.tag("app:1", descriptor)
    assert explain(store, "app:1") == explain(store, descriptor)

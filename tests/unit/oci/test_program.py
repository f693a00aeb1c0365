"""Finding the one program of an artifact, in every form, and the reasons where there is none."""

import json
from typing import Any

import pytest

from oci.descriptor import Descriptor, Platform
from oci.digest import Digest
from oci.errors import InvalidContent, NotFound, UnsupportedArtifact
from oci.forms import Form
from oci.memory import MemoryStore
from oci.program import Program, find_program
from tests.unit.oci import forms
from tests.unit.oci.forms import COMMAND, EMPTY, FORMS, IMAGE_CONFIG, TAR, image, layer, put, put_index

WASM = "application/wasm"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def refusal(store: MemoryStore, descriptor: Descriptor) -> str:
    with pytest.raises(UnsupportedArtifact) as caught:
        find_program(store, descriptor)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("letter", FORMS)
def test_finds_the_program_of_every_form(store: MemoryStore, letter: str) -> None:
    known = FORMS[letter]
    program = find_program(store, known.put(store))
    assert (program.form, program.path) == (known.form, known.path)
    assert (program.layer is None) == bool(program.rootfs)
    if program.layer is not None:
        assert program.name == known.name
        assert program.layer.digest == Digest.of(known.program)


def test_finds_it_by_name_and_by_digest(store: MemoryStore) -> None:
    descriptor = forms.cncf(store)
    store.tag("app:1", descriptor)
    by_name = find_program(store, "app:1")
    assert by_name == find_program(store, str(descriptor.digest)) == find_program(store, descriptor)
    with pytest.raises(NotFound):
        find_program(store, "app:2")


def test_tells_what_to_start_it_with(store: MemoryStore) -> None:
    config = image(
        Entrypoint=["/app.wasm", "-v"], Cmd=["x"], Env=["A=b"], Labels={"l": "m"}, User="1:2", WorkingDir="/w"
    )
    program = find_program(store, put(store, (IMAGE_CONFIG, config), [layer(TAR, forms.rootfs())]))
    assert (program.entrypoint, program.cmd, program.env) == (("/app.wasm", "-v"), ("x",), ("A=b",))
    assert (dict(program.labels), program.user, program.working_dir) == ({"l": "m"}, "1:2", "/w")
    assert program.size == len(forms.rootfs())


@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/vnd.example.layer"])
def test_a_file_pushed_under_any_type_is_told_by_its_name(store: MemoryStore, media_type: str) -> None:
    layers = [layer("text/markdown", b"# App", "README.md"), layer(media_type, COMMAND, "app.wasm")]
    assert find_program(store, put(store, (EMPTY, b"{}"), layers)).name == "app.wasm"


def test_an_image_of_tar_and_wasm_layers_is_its_wasm(store: MemoryStore) -> None:
    layers = [layer(TAR, forms.rootfs("other.wasm")), layer(WASM, COMMAND, "app.wasm")]
    program = find_program(store, put(store, (IMAGE_CONFIG, image("wasip1", "wasm")), layers))
    assert (program.form, program.name, program.rootfs) == (Form.RUNWASI, "app.wasm", ())


# Refusals


def test_refuses_several_wasm_layers_and_names_them(store: MemoryStore) -> None:
    layers = [layer(WASM, bytes([number]), f"{number}.wasm") for number in range(6)]
    assert refusal(store, put(store, (EMPTY, b"{}"), layers)) == (
        "6 Wasm layers ('0.wasm', '1.wasm', '2.wasm', '3.wasm'…) and nothing that says which to run; "
        "push one program per artifact"
    )


def test_refuses_a_spin_application_of_several_components(store: MemoryStore) -> None:
    digests = [Digest.of(b"1"), Digest.of(b"2")]
    assert refusal(store, forms.spin(store, b"1", b"2")) == (
        f"a Spin application of 2 components ({digests[0]}, {digests[1]}); run it with Spin, or push one of them alone"
    )


@pytest.mark.parametrize(
    ("media_type", "title"),
    [
        ("application/vnd.bytecodealliance.wasm.component.layer.v0+precompiled", ""),
        ("application/vnd.example.precompiled+wasm", ""),
        ("application/octet-stream", "app.cwasm"),
        ("application/vnd.wasmtime.cwasm", ""),
    ],
)
def test_refuses_native_code(store: MemoryStore, media_type: str, title: str) -> None:
    text = refusal(store, put(store, (EMPTY, b"{}"), [layer(media_type, forms.NATIVE, title)]))
    assert "is native code that was compiled from Wasm, which is not run from a registry" in text
    assert text.endswith("push the .wasm file that it was made from")


def test_takes_the_wasm_beside_native_code(store: MemoryStore) -> None:
    layers = [layer("application/vnd.example.precompiled", forms.NATIVE), layer(WASM, COMMAND)]
    program = find_program(store, put(store, (EMPTY, b"{}"), layers))
    assert program.layer is not None
    assert program.layer.media_type == WASM


@pytest.mark.parametrize("layers", [[], [layer(EMPTY, b"{}")]], ids=["no layer", "an empty layer"])
def test_refuses_an_empty_artifact(store: MemoryStore, layers: list[forms.Layer]) -> None:
    assert refusal(store, put(store, (EMPTY, b"{}"), layers)) == (
        "an empty artifact: its manifest names no layer; push the program anew"
    )


def test_refuses_an_empty_program(store: MemoryStore) -> None:
    text = refusal(store, put(store, (EMPTY, b"{}"), [layer(WASM, b"", "app.wasm")]))
    assert text == "the Wasm layer 'app.wasm' is empty; push the program anew"


def test_says_what_is_there_instead_of_wasm(store: MemoryStore) -> None:
    layers = [layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"c")]
    layers += [layer("text/plain", bytes([number])) for number in range(2)]
    text = refusal(store, put(store, ("application/vnd.cncf.helm.config.v1+json", {}), layers))
    assert text == (
        "an artifact without Wasm; its layers are 2 × 'text/plain', "
        "'application/vnd.cncf.helm.chart.content.v1.tar+gzip': run it with the tool that it was made for"
    )


# Indexes


def manifest(store: MemoryStore, data: bytes = COMMAND) -> Descriptor:
    return put(store, (EMPTY, b"{}"), [layer(WASM, data)])


def found(store: MemoryStore, *entries: Descriptor | tuple[Descriptor, str, str]) -> Program:
    return find_program(store, put_index(store, *entries))


def test_an_index_leads_to_the_host_then_to_wasm(store: MemoryStore) -> None:
    host, wasm, other = (manifest(store, data) for data in (b"host", b"wasm", b"other"))
    everything = ((other, "arm64", "linux"), (wasm, "wasm", "wasi"), (host, "amd64", "linux"))
    assert found(store, *everything).manifest.digest == host.digest
    assert found(store, *everything[:2]).manifest.digest == wasm.digest
    arm = find_program(store, put_index(store, *everything), Platform("arm64", "linux"))
    assert arm.manifest.digest == other.digest


@pytest.mark.parametrize(
    "platform", [("wasm", "wasi"), ("wasm32", "wasi"), ("wasm", "wasip1"), ("wasm", "wasip2"), ("wasm", "Wasip1")]
)
def test_an_index_may_name_wasm_in_several_ways(store: MemoryStore, platform: tuple[str, str]) -> None:
    descriptor = manifest(store)
    entry = (descriptor, *platform)
    assert found(store, (manifest(store, b"other"), "s390x", "linux"), entry).manifest.digest == descriptor.digest


def test_wasm_beside_a_linux_image_is_what_is_meant(store: MemoryStore) -> None:
    linux = put(store, (IMAGE_CONFIG, image(Entrypoint=["/bin/app"])), [layer(TAR, forms.rootfs("bin/app"))])
    in_rootfs = put(store, (IMAGE_CONFIG, image("wasi", "wasm", Cmd=["/app.wasm"])), [layer(TAR, forms.rootfs())])
    raw = manifest(store)
    assert found(store, (linux, "amd64", "linux"), (raw, "wasm", "wasi")).manifest.digest == raw.digest
    assert found(store, (linux, "amd64", "linux"), (in_rootfs, "wasm", "wasi")).path == "/app.wasm"
    assert found(store, (linux, "amd64", "linux")).path == "/bin/app"


def test_native_code_for_the_host_beside_wasm_is_passed_over(store: MemoryStore) -> None:
    native = put(store, (EMPTY, b"{}"), [layer("application/vnd.example.precompiled", forms.NATIVE)])
    wasm = manifest(store)
    assert found(store, (native, "amd64", "linux"), (wasm, "wasm", "wasi")).manifest.digest == wasm.digest
    text = refusal(store, put_index(store, (native, "amd64", "linux")))
    assert "is native code" in text


def test_an_entry_without_platform_counts_when_it_is_the_only_one(store: MemoryStore) -> None:
    one, two = manifest(store, b"1"), manifest(store, b"2")
    assert found(store, one).manifest.digest == one.digest
    assert found(store, one, (two, "arm64", "linux")).manifest.digest == one.digest
    assert refusal(store, put_index(store, one, two)) == (
        f"an index of 2 manifests that does not say what they are for; give one by its digest, {one.digest} for example"
    )


def test_an_index_with_nothing_for_us_says_what_it_has(store: MemoryStore) -> None:
    one = manifest(store)
    assert refusal(store, put_index(store, (one, "arm64", "linux"), (one, "amd64", "windows"))) == (
        "an index with nothing for linux/amd64 or wasi/wasm; it is for linux/arm64, windows/amd64"
    )
    assert refusal(store, put_index(store)) == "an index with nothing for linux/amd64 or wasi/wasm; it is empty"


def test_what_a_store_lacks_for_other_platforms_does_not_matter(store: MemoryStore) -> None:
    wasm, linux = manifest(store), manifest(MemoryStore(), b"elsewhere")
    index = index_of({"amd64": linux, "wasm": wasm})
    assert find_program(Without(store, index), index_descriptor(index)).manifest.digest == wasm.digest
    only = index_of({"amd64": linux})
    with pytest.raises(NotFound):
        find_program(Without(store, only), index_descriptor(only))


def index_of(entries: dict[str, Descriptor]) -> bytes:
    manifests = [
        each.to_json() | {"platform": {"architecture": name, "os": "wasi" if name == "wasm" else "linux"}}
        for name, each in entries.items()
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": forms.INDEX, "manifests": manifests}).encode()


def index_descriptor(raw: bytes) -> Descriptor:
    return Descriptor.of(forms.INDEX, raw)


class Without:
    """A source of an index some of whose manifests are elsewhere, as containerd's content store is after a pull."""

    def __init__(self, store: MemoryStore, index: bytes) -> None:
        self._store, self._index = store, index

    def resolve(self, name: str) -> Descriptor:
        return self._store.resolve(name)

    def read(self, descriptor: Descriptor, offset: int = 0) -> Any:
        if descriptor == index_descriptor(self._index):
            return iter([self._index[offset:]])
        return self._store.read(descriptor, offset)


def test_an_index_in_an_index_is_followed(store: MemoryStore) -> None:
    wasm = manifest(store)
    inner = put_index(store, (wasm, "wasm", "wasi"))
    assert found(store, inner).manifest.digest == wasm.digest
    assert find_program(store, put_index(store, put_index(store, inner))).manifest.digest == wasm.digest
    deep = inner
    for _ in range(5):
        deep = put_index(store, deep)
    assert refusal(store, deep).startswith("an index with nothing for linux/amd64")


# The config


def test_refuses_a_config_made_for_other_layers(store: MemoryStore) -> None:
    config = {"created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1"}
    kind = "application/vnd.wasm.config.v0+json"
    right = config | {"layerDigests": [str(Digest.of(COMMAND))]}
    find_program(store, put(store, (kind, right), [layer(WASM, COMMAND)]))
    find_program(store, put(store, (kind, config), [layer(WASM, COMMAND)]))
    with pytest.raises(InvalidContent, match="was made for other layers than those of the manifest"):
        find_program(store, put(store, (kind, right), [layer(WASM, b"other")]))


def test_an_enormous_config_is_not_read(store: MemoryStore) -> None:
    with pytest.raises(InvalidContent, match="a config of 4194305 bytes"):
        find_program(store, put(store, (EMPTY, bytes((4 << 20) + 1)), [layer(WASM, COMMAND)]))


def test_a_changed_config_is_refused(store: MemoryStore) -> None:
    raw = b'{"config":{"Entrypoint":["/evil"]}}'
    good = put(store, (IMAGE_CONFIG, b"{}" + b" " * (len(raw) - 2)), [layer(WASM, COMMAND)])

    class Liar(Without):
        def read(self, descriptor: Descriptor, offset: int = 0) -> Any:
            return iter([raw]) if descriptor.media_type == IMAGE_CONFIG else self._store.read(descriptor, offset)

    with pytest.raises(InvalidContent, match="damaged or replaced"):
        find_program(Liar(store, b""), good)

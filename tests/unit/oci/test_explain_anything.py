"""Any well-formed artifact can be explained; and where that cannot be done, one line says why."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oci.copy import copy
from oci.errors import InvalidContent, OciError
from oci.explain import explain
from oci.layout import Layout
from oci.memory import MemoryStore
from oci.pack import pack
from oci.program import find_program
from tests.unit.oci import forms
from tests.unit.oci.forms import COMMAND, EMPTY, FILTER, IMAGE_CONFIG, TAR, TAR_GZIP, put, put_index

LAYER_TYPES = [
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.fermyon.spin.application.v1+config",
    "application/vnd.example.precompiled",
    "application/vnd.module.wasm.doc.v1+markdown",
    TAR,
    TAR_GZIP,
    EMPTY,
    "text/plain",
]
CONFIG_TYPES = [IMAGE_CONFIG, EMPTY, "application/vnd.wasm.config.v0+json", "application/vnd.wasm.config.v1+json"]

layers = st.lists(
    st.tuples(
        st.sampled_from(LAYER_TYPES),
        st.sampled_from([COMMAND, FILTER, forms.NATIVE, forms.rootfs(), b"(module)", b""]) | st.binary(max_size=50),
        st.dictionaries(st.just(forms.TITLE), st.sampled_from(["app.wasm", "app.cwasm", "a\n\x1b[31m"]), max_size=1),
    ),
    max_size=4,
)
words = st.lists(st.sampled_from(["/app.wasm", "app.wasm", "", "/", "..", "\n"]), max_size=2)
configs = st.fixed_dictionaries(
    {},
    optional={
        "os": st.sampled_from(["linux", "wasi", "Wasip1", ""]),
        "architecture": st.sampled_from(["amd64", "wasm", ""]),
        "config": st.fixed_dictionaries({}, optional={"Entrypoint": words, "Cmd": words, "WorkingDir": st.just("/w")}),
        "layerDigests": st.just([]),
    },
)
annotations = st.dictionaries(st.sampled_from(["run.oci.handler", "module.wasm.image/variant"]), st.just("wasm"))
places = st.sampled_from([(), ("amd64", "linux"), ("wasm", "wasi"), ("arm64", "linux"), ("",)])


@settings(max_examples=200)
@given(st.sampled_from(CONFIG_TYPES), configs, layers, annotations, places)
def test_any_artifact_is_explained_or_refused_in_one_line(
    config_type: str, config: Any, layers: list[forms.Layer], annotations: dict[str, str], place: tuple[str, ...]
) -> None:
    store = MemoryStore()
    descriptor = put(store, (config_type, config), layers, annotations=annotations)
    if place:
        descriptor = put_index(store, (descriptor, *place) if len(place) == 2 else descriptor)
    with suppress(InvalidContent):
        told = explain(store, descriptor)
        assert all("\n" not in answer.reason + answer.remedy for answer in told.answers)
        assert all(answer.can or answer.reason for answer in told.answers)
        assert "\n" not in told.refusal
        assert (told.program is not None) or told.refusal
    with suppress(OciError):
        assert find_program(store, descriptor).form is not None


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(COMMAND + b"\0\xa0\x8d\x06\1x" + bytes(99_998))
    artifact = pack(tmp_path / "app.wasm")
    copy(artifact, artifact.name, Layout.create(tmp_path / "store"), "app:1")
    script = """
import json, resource, sys
from oci.errors import StorageError
from oci.explain import explain
from oci.layout import Layout
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    explain(Layout(sys.argv[1]), "app:1")
except StorageError as error:
    print(json.dumps(str(error)))
"""
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "store"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == "no temporary file can be written: File too large; make room or set TMPDIR"


def test_reading_and_packing_load_no_http_client() -> None:
    script = "import sys, oci.explain, oci.pack; print(*{'oras', 'requests', 'urllib3', 'ssl'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []

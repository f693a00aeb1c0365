"""What oras, crane and skopeo push we pull, what we push they pull, and they and we know each other's logins."""

import json

import pytest

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.graph import fetch
from oci.manifest import Manifest, new_manifest
from oci.media_types import WASM_CONFIG, WASM_LAYER
from oci.memory import MemoryStore
from oci.reference import Reference
from oci.registry.credential import Credential
from oci.registry.credentials import find, login, logout
from tests.contracts.stores import LONG, contents, put, put_artifact, put_index, put_parent
from tests.registry.server import PASSWORD, USER, RegistryServer
from tests.registry.stores import repository
from tests.registry.tools import Tool

only_oras = pytest.mark.parametrize("tool", ["oras"], indirect=True)


def test_an_index_goes_through_another_program_and_stays_what_it_is(tool: Tool, plain_registry: RegistryServer) -> None:
    host, name = plain_registry.host, f"peers/{tool.name}"
    source, back = MemoryStore(), MemoryStore()
    index = put_index(source, put_artifact(source, LONG, b"x"), put_artifact(source, b"y"), name="v1")
    with repository(host, name) as ours, repository(host, f"{name}-copy") as theirs:
        copy(source, "v1", ours, "v1")
        tool.copy(f"{host}/{name}:v1", f"{host}/{name}-copy:v1")
        assert copy(theirs, "v1", back, "v1") == index.descriptor
    assert back.blobs() == source.blobs()


def test_the_bytes_of_a_manifest_are_the_same_for_all(tool: Tool, plain_registry: RegistryServer) -> None:
    reference = f"{plain_registry.host}/peers/{tool.name}-bytes:v1"
    with repository(plain_registry.host, f"peers/{tool.name}-bytes") as ours:
        manifest = put_artifact(ours, b"program", name="v1")
    shown = {
        "oras": ["manifest", "fetch", "--plain-http", reference],
        "crane": ["manifest", "--insecure", reference],
        "skopeo": ["inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
    }[tool.name]
    assert tool.run(*shown).rstrip("\n") == manifest.raw.decode()


@only_oras
def test_a_file_that_oras_pushed_is_pulled(tool: Tool, plain_registry: RegistryServer) -> None:
    (tool.home / "hello.wasm").write_bytes(LONG)
    reference = f"{plain_registry.host}/peers/oras-file:v1"
    kind = ("--artifact-type", "application/vnd.example")
    tool.run("push", "--plain-http", *kind, reference, "hello.wasm:application/wasm")
    target = MemoryStore()
    with repository(plain_registry.host, "peers/oras-file") as theirs:
        manifest = fetch(target, copy(theirs, "v1", target, "v1"))
    assert isinstance(manifest, Manifest)
    assert manifest.artifact_type == "application/vnd.example"
    assert [(layer.media_type, contents(target, layer)) for layer in manifest.layers] == [(WASM_LAYER, LONG)]


@only_oras
def test_a_file_that_we_pushed_is_pulled_by_oras(tool: Tool, plain_registry: RegistryServer) -> None:
    layer = Descriptor.of(WASM_LAYER, LONG, {"org.opencontainers.image.title": "program.wasm"})
    with repository(plain_registry.host, "peers/our-file") as ours:
        ours.write(layer, [LONG])
        put_parent(ours, new_manifest(put(ours, b"{}", WASM_CONFIG), [layer]), "v1")
    tool.run("pull", "--plain-http", f"{plain_registry.host}/peers/our-file:v1")
    assert (tool.home / "program.wasm").read_bytes() == LONG


def test_logins_are_shared(tool: Tool, password_registry: RegistryServer) -> None:
    """Theirs is found by us, and after our logout and login theirs work with ours."""
    host = password_registry.host
    name, reference = f"peers/{tool.name}", Reference(host, f"peers/{tool.name}", "v1")
    right = Credential(USER, PASSWORD)
    tool.log_in(host, USER, PASSWORD)
    assert find(reference, tool.environment) == right
    assert len(logout(host, tool.environment)) == 1
    assert find(reference, tool.environment) is None

    login(host, right, tool.environment)
    with repository(host, name, right) as registry:
        manifest = put_artifact(registry, b"program", name="v1")
        tool.copy(str(reference), f"{host}/{name}:v2")
        assert registry.resolve("v2") == manifest.descriptor


def test_a_login_of_podman_s_form_is_found(tool: Tool, password_registry: RegistryServer) -> None:
    """Skopeo stores like podman, the others like Docker: each in its own place."""
    tool.log_in(password_registry.host, USER, PASSWORD)
    place = "run/containers/auth.json" if tool.name == "skopeo" else ".docker/config.json"
    assert list(json.loads((tool.home / place).read_text())["auths"]) == [password_registry.host]

"""Verbs that look at one image: `image inspect`, `image explain`."""

import json
import os
from typing import Any

from oci.content import read_all
from oci.descriptor import Descriptor
from oci.explain import Explanation
from oci.explain import explain as look_at
from oci.image_config import MAX_CONFIG
from oci.layout import Layout
from oci.manifest import MAX_MANIFEST, Index, parse_manifest
from oci.pack_options import PackOptions
from oci.program import LINUX_AMD64, Artifact, read_artifacts
from oci.reference import Reference
from oci.strict_json import parse_object
from wasm_shim.cli.images import size_text, total_size
from wasm_shim.cli.output import say
from wasm_shim.images.start import is_path
from wasm_shim.images.store import find, find_one, open_store
from wasm_shim.paths import images_path


def inspect(values: dict[str, Any]) -> int:
    """Print what an image of the store consists of."""
    store = open_store(images_path(os.environ))
    found = find_one(store, values["REF"])
    document = {"name": found.name, **_described(store, found.descriptor)}
    if values["json"]:
        say(json.dumps(document))
    else:
        _print(document)
    return 0


def _described(store: Layout, descriptor: Descriptor) -> dict[str, Any]:
    """What is said of an image, the manifests of an index included."""
    parsed = parse_manifest(read_all(store, descriptor, MAX_MANIFEST), descriptor.media_type)
    identity = {"digest": str(descriptor.digest), "mediaType": descriptor.media_type}
    shared = {**identity, "size": total_size(store, descriptor)}
    if isinstance(parsed, Index):
        return {**shared, "annotations": dict(parsed.annotations), "manifests": [m.to_json() for m in parsed.manifests]}
    (artifact,) = read_artifacts(store, descriptor, LINUX_AMD64)
    return {**shared, **_artifact(store, artifact)}


def _artifact(store: Layout, artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "form": artifact.form.value,
        "annotations": dict(manifest.annotations),
        "layers": [layer.to_json() for layer in manifest.layers],
        "config": _config(store, manifest.config),
    }


def _config(store: Layout, descriptor: Descriptor) -> dict[str, Any]:
    """The config as it is, as far as it is JSON."""
    described = descriptor.to_json()
    if not descriptor.media_type.endswith("json"):
        return described
    return {**described, "content": parse_object(read_all(store, descriptor, MAX_CONFIG), "the config")}


def _print(value: Any, indent: str = "") -> None:
    """One line for each name, deeper ones further in."""
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            say(f"{indent}{name}:")
            _print(inner, f"{indent}  ")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for each in inner:
                say(f"{indent}{name}:")
                _print(each, f"{indent}  ")
        else:
            say(f"{indent}{name}: {inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)}")


def explain(values: dict[str, Any]) -> int:
    """Say what an image or a file is, and what can use it."""
    text = values["REF"]
    if is_path(text):
        from wasm_shim.cli.pack import packed_program

        packed = packed_program(text, PackOptions())
        _tell(f"{text}, packed with --layout cncf", look_at(packed, packed.name))
        return 0
    store = open_store(images_path(os.environ))
    found = find(store, text)
    if found:
        _tell(text, look_at(store, found[0].descriptor))
        return 0
    from oci.registry.store import Registry
    from wasm_shim.cli.remote import registry_options

    reference = Reference.parse(text)
    with Registry(reference, options=registry_options(values)) as registry:
        _tell(text, look_at(registry, reference.name))
    return 0


def _tell(what: str, told: Explanation) -> None:
    if told.platforms:
        say(f"{what}: an index for {', '.join(told.platforms)}")
        what = "of it"
    if told.artifact:
        say(f"{what}: {told.artifact.form.value}")
    if told.refusal:
        say(f"program: none, {told.refusal}")
    else:
        say(f"program: {told.path}, {_kind(told)}, {size_text(told.size)}")
    for answer in told.answers:
        reason = f": {answer.reason}" if answer.reason else ""
        remedy = f"; {answer.remedy}" if answer.remedy else ""
        say(f"  {'yes' if answer.can else 'no '}  {answer.tool}{reason}{remedy}")


def _kind(told: Explanation) -> str:
    interface = told.interface
    if interface is None:
        return "WebAssembly text"
    return ", ".join(word for word in (interface.kind, interface.role, interface.wasi) if word)

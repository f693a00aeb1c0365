"""Manifests and indexes: what is read, what is written, and what is refused before it can do harm."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci.descriptor import Descriptor, Platform
from oci.digest import Digest
from oci.errors import InvalidContent, OciError, UnsupportedArtifact
from oci.manifest import (
    MAX_LAYERS,
    MAX_MANIFEST,
    MAX_MANIFESTS,
    Index,
    Manifest,
    encode,
    new_index,
    new_manifest,
    parse_manifest,
)
from oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1,
    OCI_ARTIFACT_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    WASM_CONFIG,
    WASM_LAYER,
)

CONFIG = Descriptor.of(WASM_CONFIG, b"{}")
LAYER = Descriptor.of(WASM_LAYER, b"program", {"org.opencontainers.image.title": "hello.wasm"})
MANIFEST = new_manifest(CONFIG, [LAYER])
ENTRY = {"mediaType": WASM_LAYER, "digest": str(LAYER.digest), "size": 7}


def manifest_with(**fields: Any) -> bytes:
    """A manifest with some fields changed, or left out where None."""
    document = json.loads(MANIFEST.raw) | fields
    return encode({name: value for name, value in document.items() if value is not None})


def layer_with(**fields: Any) -> bytes:
    """A manifest with one layer whose descriptor has some fields changed, or left out where None."""
    entry = {name: value for name, value in (ENTRY | fields).items() if value is not None}
    return manifest_with(layers=[entry])


def reason(raw: bytes, media_type: str = "", error: type[OciError] = InvalidContent) -> str:
    """Why these bytes are refused."""
    with pytest.raises(error) as caught:
        parse_manifest(raw, media_type)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_a_new_manifest_reads_as_it_was_made() -> None:
    subject = MANIFEST.descriptor
    manifest = new_manifest(
        CONFIG, [LAYER, LAYER], annotations={"b": "ü", "a": "\n"}, artifact_type="application/x", subject=subject
    )
    assert parse_manifest(manifest.raw, OCI_MANIFEST) == manifest
    assert manifest.descriptor == Descriptor(OCI_MANIFEST, Digest.of(manifest.raw), len(manifest.raw))
    assert (manifest.config, manifest.layers, manifest.subject) == (CONFIG, (LAYER, LAYER), subject)
    assert manifest.annotations == {"a": "\n", "b": "ü"}
    assert manifest.children == (CONFIG, LAYER, LAYER)
    assert hash(manifest) == hash(parse_manifest(manifest.raw))


def test_a_new_manifest_has_one_spelling() -> None:
    assert (
        MANIFEST.raw
        == (
            f'{{"config":{{"digest":"{CONFIG.digest}","mediaType":"{WASM_CONFIG}","size":2}},'
            f'"layers":[{{"annotations":{{"org.opencontainers.image.title":"hello.wasm"}},"digest":"{LAYER.digest}",'
            f'"mediaType":"{WASM_LAYER}","size":7}}],"mediaType":"{OCI_MANIFEST}","schemaVersion":2}}'
        ).encode()
    )
    one = new_manifest(CONFIG, [], annotations={"a": "1", "b": "2"})
    assert one == new_manifest(CONFIG, [], annotations={"b": "2", "a": "1"})


def test_a_new_index_reads_as_it_was_made() -> None:
    platform = Platform("arm", "linux", "v7", "6.1")
    entry = Descriptor(OCI_MANIFEST, MANIFEST.descriptor.digest, MANIFEST.descriptor.size, platform=platform)
    index = new_index([entry], annotations={"a": "b"}, artifact_type="application/x")
    assert parse_manifest(index.raw, OCI_INDEX) == index
    assert index.children == index.manifests == (entry,)
    assert str(platform) == "linux/arm/v7"


def test_what_nobody_names_is_told_by_its_fields() -> None:
    """OCI leaves the media type out where it likes."""
    assert parse_manifest(manifest_with(mediaType=None)).descriptor.media_type == OCI_MANIFEST
    assert parse_manifest(b'{"schemaVersion":2,"manifests":[]}').descriptor.media_type == OCI_INDEX
    assert isinstance(parse_manifest(manifest_with(mediaType=None), DOCKER_MANIFEST), Manifest)


def test_docker_s_schema_2_reads_alike() -> None:
    raw = manifest_with(
        mediaType=DOCKER_MANIFEST,
        config=ENTRY | {"mediaType": DOCKER_CONFIG},
        layers=[ENTRY | {"mediaType": DOCKER_LAYER_GZIP}],
    )
    manifest = parse_manifest(raw, DOCKER_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert [layer.media_type for layer in manifest.layers] == [DOCKER_LAYER_GZIP]
    listed = encode({"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [manifest.descriptor.to_json()]})
    index = parse_manifest(listed, DOCKER_INDEX)
    assert isinstance(index, Index)
    assert index.manifests == (manifest.descriptor,)


def test_empty_lists_may_be_null_or_missing() -> None:
    for raw in (manifest_with(layers=[]), manifest_with(layers=None), manifest_with(layers=[]).replace(b"[]", b"null")):
        manifest = parse_manifest(raw)
        assert isinstance(manifest, Manifest)
        assert manifest.layers == ()
    assert isinstance(parse_manifest(b'{"schemaVersion":2,"manifests":null,"annotations":null}'), Index)


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"", "is no proper JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "is no proper JSON"),
        (b"[]", "is no JSON object"),
        (b"null", "is no JSON object"),
        (b'"x"', "is no JSON object"),
        (b"{", "is no proper JSON"),
        (MANIFEST.raw + b"{}", "is no proper JSON"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b'{"a":-Infinity}', "is no JSON"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "'schemaVersion' occurs twice"),
        (b'{"a":{"b":1,"b":1}}', "'b' occurs twice"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 500_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"size":' + b"9" * 1_000_000 + b"}", "is no proper JSON (a number of 1000000 digits)"),
        (b"{}", "schema version None; only 2 is known"),
        (manifest_with(schemaVersion=3), "schema version 3"),
        (manifest_with(schemaVersion="2"), "schema version '2'"),
        (manifest_with(schemaVersion=2.0), "schema version 2.0"),
        (manifest_with(schemaVersion=True), "schema version True"),
        (manifest_with(mediaType="text/html"), "'text/html' is no type of a manifest"),
        (manifest_with(mediaType=7), "mediaType is 7 and no string"),
        (manifest_with(mediaType=OCI_INDEX), "a manifest and an index in one"),
        (manifest_with(manifests=[]), "a manifest and an index in one"),
        (manifest_with(mediaType=None, manifests=[]), "a manifest and an index in one"),
        (manifest_with(config=None), "a descriptor is None and no object"),
        (manifest_with(config=[]), "a descriptor is a list and no object"),
        (manifest_with(layers={}), "the layers are an object and no list"),
        (manifest_with(layers="x" * 1000), "the layers are 'xxx"),
        (manifest_with(layers=[1]), "a descriptor is 1 and no object"),
        (manifest_with(annotations=[]), "annotations are a list and no object"),
        (manifest_with(annotations={"a": 1}), "'a' is 1 and no string"),
        (manifest_with(annotations={"a": {"b": "c"}}), "'a' is an object and no string"),
        (manifest_with(artifactType=1), "artifactType is 1 and no string"),
        (manifest_with(subject="x"), "a descriptor is 'x' and no object"),
        (b'{"schemaVersion":2,"manifests":[],"annotations":{"\\ud800":""}}', "is no proper Unicode"),
        (b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"\\udfff"}}', "is no proper Unicode"),
        (layer_with(mediaType=None), "has no mediaType"),
        (layer_with(mediaType=""), "has no mediaType"),
        (layer_with(digest=None), "digest cannot be used: '' is no digest"),
        (layer_with(digest="sha256:../../x"), "digest cannot be used: 'sha256:../../x' is no digest"),
        (layer_with(digest=1), "digest is 1 and no string"),
        (layer_with(size=None), "size is None"),
        (layer_with(size=-1), "size is -1"),
        (layer_with(size=1.0), "size is 1.0"),
        (layer_with(size="7"), "size is '7'"),
        (layer_with(size=True), "size is True"),
        (layer_with(size=1 << 63), "size is 9223372036854775808"),
        (layer_with(size=int("9" * 90)), "size is 9999"),
        (layer_with(platform=1), "the platform 1 is no object"),
        (layer_with(platform={"os": 1}), "the platform's os is 1"),
        (layer_with(annotations={"a": None, "b": 1}), "'b' is 1 and no string"),
    ],
)
def test_what_is_malformed_is_refused(raw: bytes, because: str) -> None:
    assert because in reason(raw)


def test_the_type_by_which_it_is_served_must_be_its_own() -> None:
    assert "one of both is wrong" in reason(MANIFEST.raw, OCI_INDEX)
    assert "one of both is wrong" in reason(MANIFEST.raw, DOCKER_MANIFEST)
    assert "'text/html' is no type of a manifest" in reason(manifest_with(mediaType=None), "text/html")
    assert "in one" in reason(manifest_with(mediaType=None), OCI_INDEX)
    assert "in one" in reason(b'{"schemaVersion":2,"manifests":[]}', OCI_MANIFEST)


def test_kinds_of_the_past_are_named() -> None:
    for raw, media_type in (
        (b'{"schemaVersion":1,"fsLayers":[]}', ""),
        (b'{"schemaVersion":1,"fsLayers":[]}', DOCKER_SCHEMA_1[1]),
        (manifest_with(mediaType=DOCKER_SCHEMA_1[0]), ""),
    ):
        assert "schema 1" in reason(raw, media_type, UnsupportedArtifact)
    assert "withdrawn" in reason(manifest_with(mediaType=OCI_ARTIFACT_MANIFEST), "", UnsupportedArtifact)


def test_too_much_is_refused() -> None:
    assert "more than 4194304 are not read" in reason(b" " * (MAX_MANIFEST + 1))
    entry = encode(ENTRY)
    layers = b",".join([entry] * 100_000)
    assert len(layers) > MAX_MANIFEST
    assert "are not read" in reason(MANIFEST.raw.replace(b'"layers":[', b'"layers":[' + layers + b","))
    tiny = b",".join([b"0"] * 100_000)
    assert "a manifest of 100000 layers" in reason(manifest_with(layers=None)[:-1] + b',"layers":[' + tiny + b"]}")
    assert "a manifest of 1001 manifests" in reason(
        encode({"schemaVersion": 2, "manifests": [ENTRY] * (MAX_MANIFESTS + 1)})
    )
    most = parse_manifest(manifest_with(layers=[ENTRY] * MAX_LAYERS))
    assert isinstance(most, Manifest)
    assert len(most.layers) == MAX_LAYERS


def test_new_ones_are_held_to_the_same_bounds() -> None:
    with pytest.raises(InvalidContent):
        new_manifest(CONFIG, [LAYER] * (MAX_LAYERS + 1))
    with pytest.raises(InvalidContent):
        new_index([MANIFEST.descriptor] * (MAX_MANIFESTS + 1))
    with pytest.raises(InvalidContent):
        new_manifest(CONFIG, [], annotations={"a": "\ud800"})
    with pytest.raises(InvalidContent, match="are not read"):
        new_manifest(CONFIG, [], annotations={"a": "x" * MAX_MANIFEST})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.sampled_from("mediaType digest size annotations platform schemaVersion layers subject config".split())


@settings(max_examples=200)
@given(st.binary(), st.sampled_from(["", OCI_MANIFEST, OCI_INDEX, "text/html"]))
@example(MANIFEST.raw, "")
def test_any_bytes_are_a_manifest_or_are_refused(raw: bytes, media_type: str) -> None:
    try:
        manifest = parse_manifest(raw, media_type)
    except OciError:
        return
    assert manifest.raw == raw


@settings(max_examples=200)
@given(NAMES, JSON, st.sampled_from([layer_with, manifest_with]))
def test_any_value_in_any_place_is_read_or_refused(name: str, value: Any, place: Callable[..., bytes]) -> None:
    raw = place(**{name: value})
    try:
        manifest = parse_manifest(raw)
    except OciError:
        return
    assert manifest.descriptor.digest == Digest.of(raw)
    for child in manifest.children:
        assert Descriptor.from_json(child.to_json()) == child

"""Reading configs: of images, of Wasm artifacts, and of anything else that calls itself one."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci.descriptor import Descriptor
from oci.errors import InvalidContent
from oci.image_config import ImageConfig, parse_config

IMAGE = "application/vnd.oci.image.config.v1+json"
DOCKER = "application/vnd.docker.container.image.v1+json"
WASM = "application/vnd.wasm.config.v0+json"
OTHER = "application/vnd.example.config"


def parsed(media_type: str, document: Any) -> ImageConfig:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_config(raw, Descriptor.of(media_type, raw))


@pytest.mark.parametrize("media_type", [IMAGE, DOCKER, WASM, OTHER])
def test_reads_what_an_image_says_whatever_its_type(media_type: str) -> None:
    config = parsed(
        media_type,
        {
            "architecture": "wasm",
            "os": "wasip1",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": ["/a"],
                "Cmd": ["b"],
                "Env": ["C=d"],
                "Labels": {"e": "f"},
                "User": "1",
                "WorkingDir": "/g",
            },
            "layerDigests": ["sha256:1"],
        },
    )
    assert config == ImageConfig(
        "wasm", "wasip1", "1970-01-01T00:00:00Z", ("/a",), ("b",), ("C=d",), {"e": "f"}, "1", "/g",
        ("sha256:1",) if media_type == WASM else None,
    )  # fmt: skip
    assert config.arguments == ("/a", "b")


@pytest.mark.parametrize("document", [{}, {"config": None}, {"config": {"Entrypoint": None, "Labels": None}}])
def test_what_is_not_said_is_empty(document: Any) -> None:
    assert parsed(IMAGE, document) == ImageConfig()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"no JSON", "is no proper JSON"),
        (b"[]", "is no JSON object"),
        ({"config": []}, "has a list as config and no object"),
        ({"config": {"Entrypoint": "/app"}}, "Entrypoint in the config .* is '/app' and no list"),
        ({"config": {"Env": [1]}}, "Env in the config .* is 1 and no string"),
        ({"config": {"Labels": {"a": 1}}}, "is 1 and no string"),
        ({"os": {}}, "the os in the config .* is an object and no string"),
    ],
)
def test_a_malformed_one_is_refused_where_its_type_is_known(document: Any, expected: str) -> None:
    for media_type in (IMAGE, DOCKER, WASM):
        with pytest.raises(InvalidContent, match=expected):
            parsed(media_type, document)
    assert parsed(OTHER, document) == ImageConfig()


@pytest.mark.parametrize("digests", [1, "sha256:1", [1]])
def test_malformed_layer_digests_are_refused(digests: Any) -> None:
    with pytest.raises(InvalidContent, match="layerDigests in the config"):
        parsed(WASM, {"layerDigests": digests})


keys = st.sampled_from(["config", "Entrypoint", "Env", "Labels", "os", "layerDigests", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.sampled_from([IMAGE, WASM]), st.dictionaries(keys, json_values, max_size=4))
def test_any_document_is_read_or_refused_in_one_line(media_type: str, document: Any) -> None:
    assert isinstance(parsed(OTHER, document), ImageConfig)
    text = ""
    try:
        parsed(media_type, document)
    except InvalidContent as error:
        text = str(error)
    assert "\n" not in text

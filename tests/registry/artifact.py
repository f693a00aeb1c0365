"""A small artifact, and the answers of a good registry that has it: what a bad one is made from."""

import re
from collections.abc import Iterable
from typing import Final

from oci.descriptor import Descriptor
from oci.manifest import new_manifest
from oci.media_types import WASM_CONFIG, WASM_LAYER
from tests.registry.scripted import Answer, Asked, reply

LAYER: Final = bytes(range(256)) * 1200  # 300 KiB: more than one piece
CONFIG: Final = b'{"architecture":"wasm","os":"wasip1"}'
LAYER_DESCRIPTOR: Final = Descriptor.of(WASM_LAYER, LAYER)
MANIFEST: Final = new_manifest(Descriptor.of(WASM_CONFIG, CONFIG), [LAYER_DESCRIPTOR])
BLOB: Final = f"/blobs/{LAYER_DESCRIPTOR.digest}"
_BLOBS: Final = {str(MANIFEST.config.digest): CONFIG, str(LAYER_DESCRIPTOR.digest): LAYER}
_RANGE: Final = re.compile(r"bytes=(\d+)-")


def good(asked: Asked) -> Iterable[bytes]:
    """A registry that has the artifact in every repository and under every tag."""
    kind, _, name = asked.path.rpartition("/")
    if kind.endswith("/manifests"):
        digest = str(MANIFEST.descriptor.digest)
        return reply(200, MANIFEST.raw, Content_Type=MANIFEST.descriptor.media_type, Docker_Content_Digest=digest)
    if kind.endswith("/blobs") and name in _BLOBS:
        return _blob(asked, _BLOBS[name])
    return reply(200 if asked.path == "/v2/" else 404)


def _blob(asked: Asked, data: bytes) -> Iterable[bytes]:
    found = _RANGE.fullmatch(asked.headers.get("range", ""))
    if not found:
        return reply(200, data)
    begin = int(found[1])
    return reply(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")


def except_for(part: str, answer: Answer) -> Answer:
    """The answers of a good registry, and another one where the path has this part."""
    return lambda asked: answer(asked) if part in asked.path else good(asked)

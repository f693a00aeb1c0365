"""The config of an artifact: what to start and with what, as the image-spec puts it.

Read as containerd does it: whatever its media type, a JSON object may carry `config:{Entrypoint,Cmd,Env,…}` beside
`os` and `architecture`. A config of a type of its own that is no JSON, or has other things under these names, says
nothing; one that claims to be an image's must be right. Sources: image-spec, config.md; the CNCF Wasm OCI artifact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from oci.descriptor import Descriptor
from oci.errors import InvalidContent, shown
from oci.media_types import DOCKER_CONFIG, OCI_CONFIG, WASM_CONFIG
from oci.strict_json import NO_ANNOTATIONS, Json, parse_object, text, texts

__all__ = ["IMAGE_CONFIGS", "MAX_CONFIG", "ImageConfig", "parse_config"]

MAX_CONFIG: Final = 4 << 20  # bytes
IMAGE_CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_STRICT: Final = IMAGE_CONFIGS | {WASM_CONFIG}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a config says; empty where it does not. `layer_digests` is None without the CNCF artifact's field."""

    architecture: str = ""
    os: str = ""
    created: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)
    user: str = ""
    working_dir: str = ""
    layer_digests: tuple[str, ...] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What is started when nobody says anything else, the program first."""
        return self.entrypoint + self.cmd


def parse_config(raw: bytes, descriptor: Descriptor) -> ImageConfig:
    """What the config in these bytes says; see above. Raises InvalidContent for a malformed one of a known type."""
    try:
        return _parsed(raw, descriptor)
    except InvalidContent:
        if descriptor.media_type in _STRICT:
            raise
        return ImageConfig()


def _parsed(raw: bytes, descriptor: Descriptor) -> ImageConfig:
    what = f"the config {descriptor.digest}"
    document = parse_object(raw, what)
    inner = document.get("config")
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise InvalidContent(f"{what} has {shown(inner)} as config and no object; it is malformed")
    digests = document.get("layerDigests") if descriptor.media_type == WASM_CONFIG else None
    return ImageConfig(
        text(document.get("architecture"), f"the architecture in {what}"),
        text(document.get("os"), f"the os in {what}"),
        text(document.get("created"), f"created in {what}"),
        _strings(inner, "Entrypoint", what),
        _strings(inner, "Cmd", what),
        _strings(inner, "Env", what),
        texts(inner.get("Labels"), f"the Labels in {what}"),
        text(inner.get("User"), f"the User in {what}"),
        text(inner.get("WorkingDir"), f"the WorkingDir in {what}"),
        None if digests is None else _strings(document, "layerDigests", what),
    )


def _strings(document: Json, name: str, what: str) -> tuple[str, ...]:
    values = document.get(name)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise InvalidContent(f"{name} in {what} is {shown(values)} and no list; it is malformed")
    return tuple(text(value, f"{name} in {what}") for value in values)

"""Descriptors: what content is, its digest and its size; and platforms.

Source: image-spec, descriptor.md and image-index.md. Fields that we do not use (urls, data) live on in the raw bytes
of the manifest that holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from oci.digest import Digest
from oci.errors import InvalidContent, InvalidReference, shown
from oci.strict_json import NO_ANNOTATIONS, Json, text, texts

__all__ = ["Descriptor", "Platform"]

_MAX_SIZE: Final = (1 << 63) - 1  # int64 in the specification


@dataclass(frozen=True, slots=True)
class Platform:
    """What a manifest of an index is for; "" where the index does not say."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The platform in a descriptor. Raises InvalidContent."""
        if not isinstance(value, dict):
            raise InvalidContent(f"the platform {shown(value)} is no object; the index is malformed")
        names = ("architecture", "os", "variant", "os.version")
        return cls(*(text(value.get(name), f"the platform's {name}") for name in names))

    def to_json(self) -> Json:
        """As it stands in a descriptor."""
        optional = {"variant": self.variant, "os.version": self.os_version}
        return {"architecture": self.architecture, "os": self.os} | {name: v for name, v in optional.items() if v}

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content by type, digest and size in bytes. Annotations count for equality, not for the hash."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def of(cls, media_type: str, data: bytes, annotations: Mapping[str, str] = NO_ANNOTATIONS) -> Self:
        """Of these bytes."""
        return cls(media_type, Digest.of(data), len(data), texts(dict(annotations), "the annotations"))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Of an object in a manifest. Raises InvalidContent."""
        if not isinstance(value, dict):
            raise InvalidContent(f"a descriptor is {shown(value)} and no object; the content is malformed")
        media_type = text(value.get("mediaType"), "a descriptor's mediaType")
        if not media_type:
            raise InvalidContent("a descriptor has no mediaType; the content is malformed")
        platform = value.get("platform")
        return cls(
            media_type,
            _digest(value.get("digest")),
            _size(value.get("size")),
            texts(value.get("annotations"), "a descriptor's annotations"),
            None if platform is None else Platform.from_json(platform),
            text(value.get("artifactType"), "a descriptor's artifactType"),
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        value: Json = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value

    def __str__(self) -> str:
        return f"{self.digest} ({self.media_type}, {self.size} bytes)"


def _digest(value: object) -> Digest:
    try:
        return Digest.parse(text(value, "a descriptor's digest"))
    except InvalidReference as error:
        raise InvalidContent(f"a descriptor's digest cannot be used: {error}") from None


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        raise InvalidContent(f"a descriptor's size is {shown(value)}; it must be a count of bytes")
    return value

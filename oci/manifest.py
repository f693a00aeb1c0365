"""Manifests and indexes: content that names other content, with its exact bytes.

Sources: image-spec, manifest.md and image-index.md; Docker's schema 2 has the same fields under other media types.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from oci.descriptor import Descriptor
from oci.errors import InvalidContent, UnsupportedArtifact, shown
from oci.media_types import (
    DOCKER_SCHEMA_1,
    INDEXES,
    MANIFESTS,
    OCI_ARTIFACT_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    PARENTS,
)
from oci.strict_json import NO_ANNOTATIONS, Json, encode, parse_object, text, texts

__all__ = [
    "MAX_LAYERS", "MAX_MANIFEST", "MAX_MANIFESTS", "Index", "Manifest", "encode", "new_index", "new_manifest",
    "parse_manifest",
]  # fmt: skip

MAX_MANIFEST: Final = 4 << 20  # bytes, as the distribution-spec tells registries to bear
MAX_LAYERS: Final = 1000
MAX_MANIFESTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artifact: a config and layers. `descriptor` is that of `raw`."""

    raw: bytes
    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(hash=False)
    artifact_type: str
    subject: Descriptor | None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """What must be there before it; the subject need not."""
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests, for several platforms as a rule. `descriptor` is that of `raw`."""

    raw: bytes
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(hash=False)
    artifact_type: str
    subject: Descriptor | None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """What must be there before it; the subject need not."""
        return self.manifests


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest | Index:
    """What these bytes say, which a descriptor or a registry calls `media_type` ("" when nobody says).

    Raises InvalidContent for what is malformed, too large or ambiguous, UnsupportedArtifact for kinds of the past.
    """
    _check_size(raw)
    document = parse_object(raw, "the manifest")
    own_type = text(document.get("mediaType"), "the manifest's mediaType")
    if own_type and media_type and own_type != media_type:
        raise InvalidContent(
            f"a manifest that says it is {shown(own_type)} is served as {shown(media_type)}; one of both is wrong"
        )
    kind = own_type or media_type or _guessed(document)
    _check(document, kind)
    return _index(raw, kind, document) if kind in INDEXES else _manifest(raw, kind, document)


def new_manifest(
    config: Descriptor,
    layers: Iterable[Descriptor],
    *,
    annotations: Mapping[str, str] = NO_ANNOTATIONS,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> Manifest:
    """An OCI image manifest; the same input gives the same bytes. Raises InvalidContent where it gets too large."""
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    raw = _completed(document, annotations, artifact_type, subject)
    return _manifest(raw, OCI_MANIFEST, document)


def new_index(
    manifests: Iterable[Descriptor],
    *,
    annotations: Mapping[str, str] = NO_ANNOTATIONS,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> Index:
    """An OCI image index; the same input gives the same bytes. Raises InvalidContent where it gets too large."""
    document: Json = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [manifest.to_json() for manifest in manifests],
    }
    raw = _completed(document, annotations, artifact_type, subject)
    return _index(raw, OCI_INDEX, document)


def _completed(document: Json, annotations: Mapping[str, str], artifact_type: str, subject: Descriptor | None) -> bytes:
    """Add the optional fields to a document; its bytes."""
    if annotations:
        document["annotations"] = dict(annotations)
    if artifact_type:
        document["artifactType"] = artifact_type
    if subject is not None:
        document["subject"] = subject.to_json()
    raw = encode(document)
    _check_size(raw)
    return raw


def _manifest(raw: bytes, kind: str, document: Json) -> Manifest:
    return Manifest(
        raw,
        Descriptor.of(kind, raw),
        Descriptor.from_json(document.get("config")),
        _several(document, "layers", MAX_LAYERS),
        *_common(document),
    )


def _index(raw: bytes, kind: str, document: Json) -> Index:
    manifests = _several(document, "manifests", MAX_MANIFESTS)
    return Index(raw, Descriptor.of(kind, raw), manifests, *_common(document))


def _common(document: Json) -> tuple[Mapping[str, str], str, Descriptor | None]:
    """Annotations, artifact type and subject."""
    subject = document.get("subject")
    return (
        texts(document.get("annotations"), "the manifest's annotations"),
        text(document.get("artifactType"), "the manifest's artifactType"),
        None if subject is None else Descriptor.from_json(subject),
    )


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_MANIFEST:
        raise InvalidContent(f"a manifest of {len(raw)} bytes; more than {MAX_MANIFEST} are not read")


def _guessed(document: Json) -> str:
    """The type of a manifest that nobody names: OCI leaves that open, Docker's schema 2 does not."""
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def _check(document: Json, kind: str) -> None:
    """Refuse what we do not read, and what could be read as manifest and index both (CVE-2021-41190)."""
    version = document.get("schemaVersion")
    if kind in DOCKER_SCHEMA_1 or (type(version) is int and version == 1):
        raise UnsupportedArtifact("a Docker manifest of schema 1, which no current tool makes; push the image anew")
    if kind == OCI_ARTIFACT_MANIFEST:
        raise UnsupportedArtifact("an OCI artifact manifest, a form that was withdrawn; push it as an image manifest")
    if kind not in PARENTS:
        raise InvalidContent(f"{shown(kind)} is no type of a manifest; the name leads to something else")
    if type(version) is not int or version != 2:
        raise InvalidContent(f"a manifest of schema version {shown(version)}; only 2 is known")
    wrong = {"manifests"} if kind in MANIFESTS else {"layers", "config"}
    if wrong & document.keys():
        raise InvalidContent("a manifest and an index in one, which tools read differently; it may be an attack")


def _several(document: Json, name: str, most: int) -> tuple[Descriptor, ...]:
    """A list of descriptors; Go writes an empty one as null."""
    values = document.get(name)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise InvalidContent(f"the {name} are {shown(values)} and no list; the manifest is malformed")
    if len(values) > most:
        raise InvalidContent(f"a manifest of {len(values)} {name}; more than {most} are not read")
    return tuple(Descriptor.from_json(value) for value in values)

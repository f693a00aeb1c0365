"""The index.json of an image layout: its names, and the document with one name more or less.

Source: image-spec, image-layout.md. Entries of other tools are kept as they are, unknown fields included.
"""

from dataclasses import dataclass
from typing import Final, Self

from oci.descriptor import Descriptor
from oci.errors import InvalidContent
from oci.media_types import OCI_INDEX
from oci.strict_json import Json, encode, parse_object, text, texts

__all__ = ["FULL_NAME", "MAX_INDEX", "REF_NAME", "LayoutIndex"]

REF_NAME: Final = "org.opencontainers.image.ref.name"
FULL_NAME: Final = "io.containerd.image.name"  # where containerd, Docker and podman look first
MAX_INDEX: Final = 64 << 20  # bytes; one layout may hold all images of a user


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The document as it was read."""

    document: Json

    @classmethod
    def empty(cls) -> Self:
        """That of a new layout."""
        return cls({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises InvalidContent."""
        document = parse_object(raw, "index.json")
        manifests = document.setdefault("manifests", [])
        if manifests is None:
            document["manifests"] = manifests = []
        if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
            raise InvalidContent("the manifests of index.json are no list of objects; it is damaged")
        return cls(document)

    def encode(self) -> bytes:
        """Its bytes."""
        return encode(self.document)

    def entries(self) -> list[tuple[str, Descriptor]]:
        """Names, sorted, with what they lead to. Raises InvalidContent.

        Content without a name stands under the text of its digest. Names are no annotations of what we return.
        """
        return sorted(
            ((_names(entry)[0], _descriptor(entry)) for entry in self.document["manifests"]), key=lambda item: item[0]
        )

    def find(self, name: str) -> Descriptor | None:
        """What a name leads to. Raises InvalidContent."""
        return next((_descriptor(entry) for entry in self.document["manifests"] if name in _names(entry)), None)

    def tagged(self, name: str, descriptor: Descriptor) -> "LayoutIndex":
        """The document in which a name leads to this, and to nothing else.

        What surrounded the descriptor elsewhere is left out: annotations that name it otherwise, and the platform,
        for which containerd would filter the only manifest of an archive out.
        """
        entry = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size).to_json()
        if name != str(descriptor.digest):
            entry["annotations"] = {REF_NAME: name}
        return self._with([*self._without(name), entry])

    def untagged(self, name: str) -> "LayoutIndex | None":
        """The document without a name; None when it has no such name."""
        kept = self._without(name)
        return None if len(kept) == len(self.document["manifests"]) else self._with(kept)

    def _without(self, name: str) -> list[Json]:
        return [entry for entry in self.document["manifests"] if name not in _names(entry)]

    def _with(self, entries: list[Json]) -> "LayoutIndex":
        return LayoutIndex(self.document | {"manifests": entries})


def _names(entry: Json) -> tuple[str, ...]:
    """What an entry is called, the fullest name first."""
    annotations = texts(entry.get("annotations"), "the annotations in index.json")
    names = tuple(name for key in (FULL_NAME, REF_NAME) if (name := annotations.get(key)))
    return names or (text(entry.get("digest"), "a digest in index.json"),)


def _descriptor(entry: Json) -> Descriptor:
    annotations = texts(entry.get("annotations"), "the annotations in index.json")
    return Descriptor.from_json(
        entry | {"annotations": {key: each for key, each in annotations.items() if key not in {FULL_NAME, REF_NAME}}}
    )

"""The user's images: one OCI layout, in which every image stands under its full name."""

import os
import re
from typing import Final, NamedTuple

from oci.descriptor import Descriptor
from oci.errors import InvalidReference, NotFound
from oci.layout import Layout
from oci.reference import Reference
from wasm_shim.paths import open_private

_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_SHORT: Final = 12
_REMEDY: Final = "set XDG_DATA_HOME to a directory of your own"


class Found(NamedTuple):
    """A name in the store, and what it leads to."""

    name: str
    descriptor: Descriptor


def open_store(path: str) -> Layout:
    """The store, made (mode 0700) where it is missing; raises the errors of `open_private` and of Layout."""
    os.close(open_private(path, "image store", _REMEDY))
    return Layout.create(path)


def key(reference: Reference) -> str:
    """Under which name an image stands in the store: without its tag where a digest says all, as Docker has it."""
    if reference.digest is None:
        return str(reference)
    return str(Reference(reference.registry, reference.repository, None, reference.digest))


def find(store: Layout, text: str) -> list[Found]:
    """What a person means by a name, by a digest in a repository, or by an image's id: several names for an id.

    Raises InvalidReference for what can be none of them.
    """
    names = [Found(name, descriptor) for name, descriptor in store.tags()]
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        found = _by_id(names, text)
        if not found:
            raise
        return found
    exact = [each for each in names if each.name == key(reference)]
    return exact or _by_digest(names, reference)[:1] or _by_id(names, text)


def find_one(store: Layout, text: str) -> Found:
    """The same, for who needs one image. Raises NotFound, and InvalidReference."""
    found = find(store, text)
    if not found:
        raise NotFound(f"there is no image {text} here; wasm-shim images lists them, wasm-shim pull gets one")
    return found[0]


def short_id(descriptor: Descriptor) -> str:
    """The beginning of an image's digest, as shown to people."""
    return descriptor.digest.hex[:_SHORT]


def _by_digest(names: list[Found], reference: Reference) -> list[Found]:
    """Another name of the same repository that leads to this digest."""
    where = f"{reference.registry}/{reference.repository}"
    return [
        each
        for each in names
        if each.descriptor.digest == reference.digest and each.name.startswith((f"{where}:", f"{where}@"))
    ]


def _by_id(names: list[Found], text: str) -> list[Found]:
    match = _ID.fullmatch(text)
    if not match:
        return []
    found = [each for each in names if each.descriptor.digest.hex.startswith(match[1])]
    return found if len({each.descriptor.digest for each in found}) == 1 else []

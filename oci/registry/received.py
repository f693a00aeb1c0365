"""A manifest that came from a registry: what it is and whether it is what was asked for."""

from typing import Final

from oci import media_types
from oci.descriptor import Descriptor
from oci.digest import Digest, Verifier
from oci.errors import InvalidContent, InvalidReference, shown
from oci.manifest import parse_manifest
from oci.registry.answer import Answer

__all__ = ["check_digest", "described"]

_TYPES: Final = media_types.PARENTS | {*media_types.DOCKER_SCHEMA_1, media_types.OCI_ARTIFACT_MANIFEST}


def described(answer: Answer, asked: Digest | None, what: str) -> Descriptor:
    """The descriptor of the bytes that came, for a digest or, with None, for a tag.

    Raises InvalidContent when they are not those of the digest, or not those that the registry says they are, or no
    manifest.
    """
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in _TYPES:
        media_type = _guessed(answer.body, media_type, what)
    digest = asked or _said(answer) or Digest.of(answer.body)
    if media_type not in media_types.DOCKER_SCHEMA_1:  # whose digest leaves its signatures out
        verifier = Verifier(digest, len(answer.body))
        verifier.update(answer.body)
        verifier.finish()
    return Descriptor(media_type, digest, len(answer.body))


def check_digest(answer: Answer, digest: Digest) -> None:
    """Raises InvalidContent where the registry says that it took other bytes than this digest's."""
    said = _said(answer)
    if said and said.algorithm == digest.algorithm and said != digest:
        raise InvalidContent(f"the registry stored {said} when it got {digest}; it is broken")


def _said(answer: Answer) -> Digest | None:
    said = answer.headers.get("Docker-Content-Digest")
    if not said:
        return None
    try:
        return Digest.parse(said)
    except InvalidReference:
        raise InvalidContent(f"the registry says that the digest is {shown(said)}; it is broken or hostile") from None


def _guessed(body: bytes, media_type: str, what: str) -> str:
    """The type that the bytes show, where the header is missing or says nothing (application/json)."""
    try:
        return parse_manifest(body).descriptor.media_type
    except InvalidContent:
        said = f"comes as {shown(media_type)}" if media_type else "comes without a type"
        raise InvalidContent(f"{what} {said} and is no manifest; is there a registry at this address?") from None

"""Digests, and the check of bytes against one while they pass.

Source: image-spec, descriptor.md, "Digests". The registered algorithms only, in their one spelling: a digest becomes
a file name and a part of URLs.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from oci.errors import InvalidContent, InvalidReference, shown

__all__ = ["Digest", "Verifier"]

_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")
_RULE: Final = "a digest is sha256: and 64 lower-case hexadecimal digits, or sha512: and 128"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The name of content. Raises InvalidReference for what can be none."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        if len(self.hex) != _LENGTHS.get(self.algorithm) or not _HEX.fullmatch(self.hex):
            raise InvalidReference(f"{shown(f'{self.algorithm}:{self.hex}')} is no digest; {_RULE}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that this text spells. Raises InvalidReference."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise InvalidReference(f"{shown(text)} is no digest; {_RULE}")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The SHA-256 digest of these bytes."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verifier:
    """Checks bytes that pass in pieces against a digest and a size in bytes."""

    def __init__(self, digest: Digest, size: int) -> None:
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(digest.algorithm)
        self.received = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes in. Raises InvalidContent as soon as there are more than the size says."""
        self.received += len(data)
        if self.received > self._size:
            raise InvalidContent(f"{self._digest} is longer than the {self._size} bytes it should have; get it anew")
        self._hash.update(data)

    def finish(self) -> None:
        """Say that this was all. Raises InvalidContent when bytes are missing or are other ones."""
        if self.received < self._size:
            missing = self._size - self.received
            raise InvalidContent(f"{self._digest} ends {missing} bytes before its size of {self._size}; get it anew")
        actual = self._hash.hexdigest()
        if actual != self._digest.hex:
            raise InvalidContent(
                f"the bytes of {self._digest} have the digest {self._digest.algorithm}:{actual}; "
                f"they were damaged or replaced where they came from"
            )

"""What one may ask for when a program is packed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from oci.errors import UnsupportedArtifact, shown
from oci.strict_json import NO_ANNOTATIONS

__all__ = ["EPOCH", "ArtifactLayout", "PackOptions", "check_base_name", "source_date"]

EPOCH: Final = "1970-01-01T00:00:00Z"
_USER: Final = "65532:65532"  # nobody's, and not root: runAsNonRoot accepts a number only
_USERS: Final = re.compile(r"[0-9]{1,10}(:[0-9]{1,10})?")
_MAX_NAME: Final = 255  # bytes, as of a file
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class ArtifactLayout(Enum):
    """How a program is laid out in its artifact.

    CNCF: a Wasm artifact whose config carries an image's settings too. RUNWASI: an image whose layer is the Wasm
    binary itself. IMAGE: a Linux image with the program in its root file system.
    """

    CNCF = "cncf"
    RUNWASI = "runwasi"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class PackOptions:
    """The layout, and what the image says beside the program. Raises UnsupportedArtifact for what cannot be said.

    `cmd` are the arguments that the program gets when nobody gives others, `env` entries are NAME=value, `user` is
    UID or UID:GID or empty. `annotations` go to the manifest, over those that the program carries itself. `created` is
    an RFC 3339 time, see `source_date`.
    """

    layout: ArtifactLayout = ArtifactLayout.CNCF
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)
    user: str = _USER
    created: str = EPOCH

    def __post_init__(self) -> None:
        for entry in self.env:
            if not entry.partition("=")[0] or "=" not in entry:
                raise UnsupportedArtifact(f"the environment entry {shown(entry)} is not NAME=value")
        if self.user and not _USERS.fullmatch(self.user):
            raise UnsupportedArtifact(
                f"the user {shown(self.user)} is no number; give UID or UID:GID, as the image has no list of users"
            )
        if "" in self.labels or "" in self.annotations:
            raise UnsupportedArtifact("a label or an annotation without a name; give NAME=value")
        pairs = [*self.labels.items(), *self.annotations.items()]
        for text in (*self.cmd, *self.env, *(text for pair in pairs for text in pair)):
            if "\0" in text or not _is_unicode(text):
                raise UnsupportedArtifact(f"{shown(text)} cannot stand in an image: it must be UTF-8 without NUL")


def source_date(environment: Mapping[str, str]) -> str:
    """When an artifact is said to be made: SOURCE_DATE_EPOCH where it is set, else 1970, in RFC 3339.

    Source: reproducible-builds.org, SOURCE_DATE_EPOCH. Raises UnsupportedArtifact for what is no time.
    """
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return EPOCH
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > _LAST_SECOND:
        raise UnsupportedArtifact(f"SOURCE_DATE_EPOCH is {shown(text)}; it must be a number of seconds since 1970")
    return datetime.fromtimestamp(int(text), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_base_name(name: str, layout: ArtifactLayout) -> None:
    """Whether a program's file can have this name in an artifact. Raises UnsupportedArtifact."""
    if name in {"", ".", ".."} or "/" in name or not name.isprintable() or not _is_unicode(name):
        raise UnsupportedArtifact(f"{shown(name)} cannot be a program's name in an image; give a plain file name")
    if len(name.encode()) > _MAX_NAME:
        raise UnsupportedArtifact(f"the name {shown(name)} has more than {_MAX_NAME} bytes; give a shorter one")
    if layout is ArtifactLayout.IMAGE and name.startswith(".wh."):
        raise UnsupportedArtifact(f"{shown(name)} would hide a file instead of being one; give another name")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

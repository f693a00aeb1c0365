"""A real registry, and programs of others that speak to one: Debian's packages, kept below the build directory."""

import os
from pathlib import Path
from typing import Final

from tests.containerd.releases import PeerMissing, unpacked

PEERS: Final = ("skopeo", "oras", "crane")
_SUITES: Final = {"docker-registry": "bookworm", "skopeo": "bookworm", "oras": "sid", "crane": "sid"}
_LIBRARIES: Final = {"skopeo": ["libgpgme11", "libassuan0", "libgpg-error0", "libdevmapper1.02.1"]}


def find(name: str, build: Path) -> Path:
    """The directory with the files of a program of `_SUITES`. Raises PeerMissing."""
    suite = _SUITES[name]
    return unpacked(suite, [name, *_LIBRARIES.get(name, [])], build / "peers" / f"{name}-{suite}")


def program(root: Path, name: str) -> Path:
    """The program in such a directory."""
    return root / "usr/bin" / name


def environment(root: Path) -> dict[str, str]:
    """What makes it find the libraries that came with it."""
    places = [root / "usr/lib", *(root / "usr/lib").glob("*-linux-gnu"), *(root / "lib").glob("*-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, places))}


__all__ = ["PEERS", "PeerMissing", "environment", "find", "program"]

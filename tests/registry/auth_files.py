"""Files of credentials for tests, in a home of a test's own."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oci.reference import Reference
from oci.registry.credential import Credential
from oci.registry.credentials import find

SOMEONE = Credential("someone", "pass:word")


def home(path: Path) -> dict[str, str]:
    """The environment of somebody whose home this is."""
    for name in ("bin", "run"):
        (path / name).mkdir()
    return {"HOME": str(path), "XDG_RUNTIME_DIR": str(path / "run")}


def entry(user: str = "someone", password: str = "pass:word") -> dict[str, str]:
    """What stands under a registry's key."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(environ: Mapping[str, str], place: str = ".docker/config.json", **fields: Any) -> Path:
    """Write a file below the home."""
    path = Path(environ["HOME"], place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))
    return path


def found(environ: Mapping[str, str], reference: str = "ghcr.io/owner/name") -> Credential | None:
    """What is found for a reference."""
    return find(Reference.parse(reference), environ)

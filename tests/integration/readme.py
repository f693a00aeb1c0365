"""README's blocks of commands that belong together, each run in its place."""

import re
import shlex
from pathlib import Path

from tests.conftest import ROOT
from tests.registry import programs

README = (ROOT / "README.md").read_text()
REGISTRY = "localhost:5000"  # where README's registry is


def block(kind: str) -> list[tuple[str, str]]:
    """(command, output) of the one block of this kind."""
    [text] = re.findall(rf"^```console {kind}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    parts = [part.partition("\n") for part in text.split("$ ")[1:]]
    return [(command, output) for command, _, output in parts]


def put_tool(name: str, root: Path, directory: Path, *options: str) -> None:
    """A program for a PATH: another's, with the libraries that came with it, and with these options first."""
    libraries = shlex.quote(programs.environment(root)["LD_LIBRARY_PATH"])
    words = shlex.join([str(programs.program(root, name)), *options])
    path = directory / name
    path.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {words} "$@"\n')
    path.chmod(0o755)

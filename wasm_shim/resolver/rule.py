"""Which program of an image a word on a container's command line means."""

import os
from typing import Final

from oci.descriptor import Platform
from oci.errors import shown
from oci.program import Artifact, Program
from wasm_shim.errors import InvalidArgument, NotFound

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # as images call them
_START: Final = "#_start"  # runwasi takes PATH#FUNCTION; this is the function of every command


def host_platform() -> Platform:
    """This machine's, as an index names it."""
    machine = os.uname().machine
    return Platform(_ARCHITECTURES.get(machine, machine), "linux")


def check_word(word: str, artifact: Artifact, program: Program) -> None:
    """Raise NotFound unless this word means the Wasm layer: it is the image's Entrypoint or the layer's title.

    A word that an image without an Entrypoint was started with can mean nothing else; but not in what an index has
    beside the manifest that containerd took for this host.
    """
    if _plain(word) in {_plain(name) for name in (*program.entrypoint[:1], _title(program)) if name}:
        return
    if not program.entrypoint and (artifact.platform is None or _is_host(artifact.platform)):
        return
    raise NotFound(f"no program {word} in the image; its program is {_readable(name_of(program))}; name that")


def sha256_of(program: Program) -> str:
    """The digest of the Wasm layer, under which its compiled form is kept; raises InvalidArgument."""
    if program.layer is None or program.layer.digest.algorithm != "sha256":
        raise InvalidArgument("the image names its program by another digest than sha256; push it with that")
    return program.layer.digest.hex


def name_of(program: Program) -> str:
    """The word to start it with."""
    title = _title(program)
    return next(iter(program.entrypoint), "") or (f"/{title.lstrip('/')}" if title else program.name)


def _title(program: Program) -> str:
    return "" if program.layer is None or program.name == str(program.layer.digest) else program.name


def _plain(word: str) -> str:
    """With or without the leading /, and as runwasi's users write it."""
    return word.removesuffix(_START).removeprefix("./").lstrip("/")


def _is_host(platform: Platform) -> bool:
    host = host_platform()
    return (platform.os, platform.architecture) == (host.os, host.architecture)


def _readable(name: str) -> str:
    return name if name.isprintable() and len(name) < 100 else shown(name)

"""Which program of an image a word on a container's command line means."""

import os
from typing import Final, NamedTuple

from oci.descriptor import Descriptor, Platform
from oci.errors import shown
from oci.program import Artifact, Program
from wasm_shim.errors import InvalidArgument, NotFound

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # as images call them
_START: Final = "#_start"  # runwasi takes PATH#FUNCTION; this is the function of every command
_LONGEST_NAMES: Final = 8192  # characters


def host_platform() -> Platform:
    """This machine's, as an index names it."""
    machine = os.uname().machine
    return Platform(_ARCHITECTURES.get(machine, machine), "linux")


class Choice(NamedTuple):
    """The program of an image; `layer` is None where that is a file of the root file system."""

    layer: Descriptor | None
    entrypoint: str
    title: str  # of the layer, or empty
    own: bool  # whether it comes from the manifest that containerd made the container of, as far as that can be known

    @classmethod
    def of(cls, artifact: Artifact, program: Program) -> "Choice":
        """What of a manifest and its config matters."""
        layer = program.layer
        return cls(
            None if layer is None else Descriptor(layer.media_type, layer.digest, layer.size),
            next(iter(program.entrypoint), ""),
            "" if layer is None or program.name == str(layer.digest) else program.name,
            artifact.platform is None or _is_host(artifact.platform),
        )

    @property
    def name(self) -> str:
        """The word to start it with."""
        titled = f"/{self.title.lstrip('/')}" if self.title else ""
        return self.entrypoint or titled or str(self.layer and self.layer.digest)

    @property
    def is_small(self) -> bool:
        """Whether it may be kept: an image's config can hold millions of characters."""
        return len(self.entrypoint) + len(self.title) <= _LONGEST_NAMES


def check_word(word: str, choice: Choice) -> None:
    """Raise NotFound unless this word means the Wasm layer: it is the image's Entrypoint or the layer's title.

    A word that an image without an Entrypoint was started with can mean nothing else; but not in what an index has
    beside the manifest for this host.
    """
    if _plain(word) in {_plain(name) for name in (choice.entrypoint, choice.title) if name}:
        return
    if not choice.entrypoint and choice.own:
        return
    raise NotFound(f"no program {word} in the image; its program is {_readable(choice.name)}; name that")


def sha256_of(layer: Descriptor) -> str:
    """The digest of a Wasm layer, under which its compiled form is kept; raises InvalidArgument."""
    if layer.digest.algorithm != "sha256":
        raise InvalidArgument("the image names its program by another digest than sha256; push it with that")
    return layer.digest.hex


def _plain(word: str) -> str:
    """With or without the leading /, and as runwasi's users write it."""
    return word.removesuffix(_START).removeprefix("./").lstrip("/")


def _is_host(platform: Platform) -> bool:
    host = host_platform()
    return (platform.os, platform.architecture) == (host.os, host.architecture)


def _readable(name: str) -> str:
    return name if name.isprintable() and len(name) < 100 else shown(name)

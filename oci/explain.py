"""What an artifact is, and who can run or read it: data for a person, put into words elsewhere."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from oci.content import Source, read_all
from oci.descriptor import Descriptor, Platform
from oci.errors import InvalidWasm, StorageError, UnsupportedArtifact
from oci.extract import extract_program
from oci.file_bytes import FileBytes
from oci.manifest import MAX_MANIFEST, Index, parse_manifest
from oci.program import LINUX_AMD64, Artifact, Program, choose, read_artifacts
from oci.runtimes import Looked
from oci.tools import Answer, answers
from oci.wasm_interface import WasmInterface, read_interface

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An artifact looked at as a whole.

    `descriptor` is what the name leads to, `platforms` what it is for when that is an index. `artifact` is the
    manifest that counts, None when an index has none for us. `refusal` says why there is no program that a Wasm
    runtime can run, else it is empty; then `interface` is None only for WebAssembly text. `path` is what the artifact
    calls the program, with whatever a stranger wrote there, and `size` are its bytes.
    """

    descriptor: Descriptor
    platforms: tuple[str, ...]
    artifact: Artifact | None
    program: Program | None
    refusal: str
    path: str
    size: int
    interface: WasmInterface | None
    answers: tuple[Answer, ...]


def explain(source: Source, name: str | Descriptor, platform: Platform = LINUX_AMD64) -> Explanation:
    """Look at what a name or a descriptor leads to, its program included, which is read into a temporary file.

    Raises InvalidContent for damage, StorageError when the temporary file cannot be written, and what the source
    raises; an artifact that nobody can run is explained, too.
    """
    descriptor = source.resolve(name) if isinstance(name, str) else name
    parsed = parse_manifest(read_all(source, descriptor, MAX_MANIFEST), descriptor.media_type)
    platforms = tuple(str(entry.platform or "any") for entry in parsed.manifests) if isinstance(parsed, Index) else ()
    artifact, program, refusal = _program(source, descriptor, platform)
    path, size, interface = "", 0, None
    if program is not None:
        try:
            path, size, interface = _look_into(source, program)
        except (UnsupportedArtifact, InvalidWasm) as error:
            refusal = str(error)
    is_index = isinstance(parsed, Index)
    looked: Looked | str = refusal
    if artifact is not None and program is not None and interface is not None:
        reached = not is_index or _platform(artifact) == (platform.os, platform.architecture)
        looked = Looked(artifact, program, path, interface, is_index, reached)
    told = answers(artifact, looked, is_index=is_index)
    return Explanation(descriptor, platforms, artifact, program, refusal, path, size, interface, told)


def _program(source: Source, descriptor: Descriptor, platform: Platform) -> tuple[Artifact | None, Program | None, str]:
    """The artifact, its program, and why there is none."""
    artifacts: tuple[Artifact, ...] = ()
    try:
        artifacts = read_artifacts(source, descriptor, platform)
        return *choose(artifacts), ""
    except UnsupportedArtifact as error:
        return (artifacts[0] if artifacts else None), None, str(error)


def _look_into(source: Source, program: Program) -> tuple[str, int, WasmInterface | None]:
    """The name, the size and the interface of a program."""
    with _temporary() as file:
        path = extract_program(source, program, file)
        data = FileBytes(file)
        is_text = data[:4] != b"\0asm"
        return path, len(data), None if is_text else read_interface(data)


@contextmanager
def _temporary() -> Iterator[BinaryIO]:
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        raise StorageError(f"no temporary file can be written: {error.strerror}; make room or set TMPDIR") from None


def _platform(artifact: Artifact) -> tuple[str, str]:
    """What containerd takes it to be for, os and architecture."""
    platform = artifact.platform
    return (platform.os, platform.architecture) if platform else (artifact.config.os, artifact.config.architecture)

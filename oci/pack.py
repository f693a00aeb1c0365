"""Make an artifact from a Wasm program: its config and its manifest, byte for byte the same wherever it is made.

The digest depends on the program's bytes, on the options and on the base name of its file, and on nothing of the
machine, the user or the day. Nothing is compressed, as compressors differ. A packed program is a source like any
other: `copy(packed, packed.name, target, tag)` sends it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from oci.content import CHUNK
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.errors import NotFound, shown
from oci.file_bytes import FileBytes
from oci.forms import RUNWASI_LAYER, TITLE
from oci.manifest import Manifest, encode, new_manifest
from oci.media_types import OCI_CONFIG, OCI_LAYER, WASM_CONFIG, WASM_LAYER
from oci.pack_options import ArtifactLayout, PackOptions, check_base_name
from oci.program_file import ProgramFile
from oci.strict_json import NO_ANNOTATIONS, Json
from oci.tar import header, trailer
from oci.wasm_interface import Item, WasmInterface, read_interface

__all__ = ["Packed", "pack"]

_UNIQUE_LABEL: Final = "containerd.runwasi.layers"  # as runwasi's own builder calls it
_NO_OPTIONS: Final = PackOptions()


@dataclass(frozen=True, slots=True)
class Packed:
    """An artifact that is made as it is read: a source of its manifest, its config and its one layer."""

    manifest: Manifest
    config: bytes
    interface: WasmInterface
    _layer: Callable[[int], Iterator[bytes]] = field(repr=False)

    @property
    def name(self) -> str:
        """The one name that it has as a source: the text of its digest."""
        return str(self.manifest.descriptor.digest)

    def resolve(self, name: str) -> Descriptor:
        """The manifest, by the text of its digest. Raises NotFound."""
        if name != self.name:
            raise NotFound(f"{shown(name)} is not what was packed, {self.name}")
        return self.manifest.descriptor

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of the manifest, the config or the layer. Raises NotFound; later what `ProgramFile` raises."""
        if descriptor.digest == self.manifest.layers[0].digest:
            return self._layer(offset)
        for raw, known in ((self.manifest.raw, self.manifest.descriptor), (self.config, self.manifest.config)):
            if descriptor.digest == known.digest:
                return _sliced(raw, offset)
        raise NotFound(f"{descriptor.digest} is no part of what was packed, {self.name}")


def pack(program: Path | BinaryIO, options: PackOptions = _NO_OPTIONS, name: str = "") -> Packed:
    """The artifact of a program: a path, or an open seekable file, for which the name to give it must be said.

    The file is read once here, for its digest, and again when the result is copied; it is not held in memory. Raises
    InvalidWasm for anything but a Wasm binary, UnsupportedArtifact for a name or a file that cannot be packed,
    NotFound and StorageError for a file that cannot be read, InvalidContent for one that changes meanwhile.
    """
    base = name or (program.name if isinstance(program, Path) else "")
    check_base_name(base, options.layout)
    source = ProgramFile(program, base)
    with source.opened() as file:
        interface = read_interface(FileBytes(file))
    made = _made(source, base, options)
    config_type = WASM_CONFIG if options.layout is ArtifactLayout.CNCF else OCI_CONFIG
    config = encode(_config(options, interface, base, made.descriptor.digest))
    manifest = new_manifest(
        Descriptor.of(config_type, config),
        [made.descriptor],
        annotations=interface.annotations | dict(options.annotations),
    )
    return Packed(manifest, config, interface, made.read)


class _Layer(NamedTuple):
    descriptor: Descriptor
    read: Callable[[int], Iterator[bytes]]


def _made(source: ProgramFile, base: str, options: PackOptions) -> _Layer:
    """The layer with the program in it."""
    titled = {TITLE: base}
    match options.layout:
        case ArtifactLayout.CNCF:
            return _described(source.chunks, WASM_LAYER, source.size, titled)
        case ArtifactLayout.RUNWASI:
            return _described(source.chunks, RUNWASI_LAYER, source.size, titled)
        case ArtifactLayout.IMAGE:
            before, after = header(base, source.size), trailer(source.size)
            size = len(before) + source.size + len(after)
            return _described(_Archive(before, source, after).read, OCI_LAYER, size, NO_ANNOTATIONS)


def _described(
    read: Callable[[int], Iterator[bytes]], media_type: str, size: int, annotations: Mapping[str, str]
) -> _Layer:
    digest = hashlib.sha256()
    for chunk in read(0):
        digest.update(chunk)
    return _Layer(Descriptor(media_type, Digest("sha256", digest.hexdigest()), size, annotations), read)


class _Archive(NamedTuple):
    """A tar archive with the program as its one file."""

    before: bytes
    program: ProgramFile
    after: bytes

    def read(self, offset: int) -> Iterator[bytes]:
        """Its bytes from an offset on."""
        start, end = len(self.before), len(self.before) + self.program.size
        yield from _sliced(self.before, offset)
        yield from self.program.chunks(max(0, offset - start))
        yield from _sliced(self.after, max(0, offset - end))


def _sliced(data: bytes, offset: int) -> Iterator[bytes]:
    for at in range(offset, len(data), CHUNK):
        yield data[at : at + CHUNK]


def _config(options: PackOptions, interface: WasmInterface, base: str, layer: Digest) -> Json:
    """The config's contents; they differ for programs that differ, as runtimes take its digest for the image's ID."""
    shared: Json = {"created": options.created, "architecture": "wasm", "config": _settings(options, base)}
    match options.layout:
        case ArtifactLayout.CNCF:
            return shared | _cncf(interface) | {"layerDigests": [str(layer)]}
        case ArtifactLayout.RUNWASI:
            shared["config"].setdefault("Labels", {})[_UNIQUE_LABEL] = str(layer)
            return shared | {"os": "wasip1", "rootfs": {"type": "layers", "diff_ids": []}}
        case ArtifactLayout.IMAGE:
            rootfs = {"type": "layers", "diff_ids": [str(layer)]}
            return shared | {"architecture": "amd64", "os": "linux", "rootfs": rootfs}


def _cncf(interface: WasmInterface) -> Json:
    """The part that the CNCF layout asks for. WASI 0.3 has no name of its own in it."""
    if interface.kind == "core module":
        return {"os": "wasip1"}
    return {"os": "wasip2", "component": {"exports": _names(interface.exports), "imports": _names(interface.imports)}}


def _names(items: Iterable[Item]) -> list[str]:
    return [item.name for item in items if item.kind in {"instance", "func"}]


def _settings(options: PackOptions, base: str) -> Json:
    """The `config` object of the image-spec, without empty fields."""
    settings: Json = {
        "Entrypoint": [f"/{base}"],
        "Cmd": list(options.cmd),
        "Env": list(options.env),
        "Labels": dict(options.labels),
        "User": options.user,
    }
    return {name: value for name, value in settings.items() if value}

"""Find the one program of an artifact, whatever form it was published in, and say why there is none.

An index is followed to the manifest for the host's platform or for Wasm. A single manifest is never filtered by its
platform, as containerd does not do it either.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from oci.content import Source, read_all
from oci.descriptor import Descriptor, Platform
from oci.errors import InvalidContent, NotFound, UnsupportedArtifact, shown
from oci.forms import (
    WASM_PLATFORMS,
    Form,
    form_of,
    is_empty,
    is_precompiled,
    raw_layers,
    tar_layers,
    title_of,
)
from oci.image_config import MAX_CONFIG, ImageConfig, parse_config
from oci.manifest import MAX_MANIFEST, Index, Manifest, parse_manifest
from oci.media_types import INDEXES

__all__ = ["LINUX_AMD64", "Artifact", "Program", "choose", "find_program", "program_of", "read_artifacts"]

LINUX_AMD64: Final = Platform("amd64", "linux")
_MAX_DEPTH: Final = 3  # indexes in indexes
_MAX_CANDIDATES: Final = 8  # manifests of one index that are looked into
_SHOWN_LAYERS: Final = 4


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest with its config, and the platform that an index gives it."""

    manifest: Manifest
    config: ImageConfig
    form: Form
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Where the program of an artifact lies, and what it is to be started with.

    Either `layer` is the Wasm binary as it is, or it is None and the program is the file `path` of the root file
    system that `rootfs`, tar layers from the lowest on, make. Then an empty `path` means that the image names no
    program: the only Wasm file in there, or plugin.wasm, is taken.
    """

    form: Form
    manifest: Descriptor
    config: Descriptor
    layer: Descriptor | None
    rootfs: tuple[Descriptor, ...]
    path: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    labels: Mapping[str, str] = field(hash=False)
    user: str
    working_dir: str

    @property
    def name(self) -> str:
        """What to call it: its path in the image, or the layer's title, or its digest; empty when nobody names it."""
        return self.path or (title_of(self.layer) or str(self.layer.digest) if self.layer is not None else "")

    @property
    def size(self) -> int:
        """Bytes of the program, or of the layers that it lies in."""
        return sum(layer.size for layer in ([self.layer] if self.layer is not None else self.rootfs))


def find_program(source: Source, name: str | Descriptor, platform: Platform = LINUX_AMD64) -> Program:
    """The program that a name or a descriptor leads to.

    Of an index, a manifest with a Wasm layer comes first, then one with a root file system that is for Wasm.
    Whether the bytes are Wasm shows when they are read (`oci.extract`). Raises UnsupportedArtifact with the reason for
    anything that has not one Wasm program, InvalidContent for damage, and what the source raises.
    """
    return choose(read_artifacts(source, name, platform))[1]


def choose(artifacts: Iterable[Artifact]) -> tuple[Artifact, Program]:
    """The artifact whose program is taken, and that program; see `find_program`."""
    failures: list[UnsupportedArtifact] = []
    found: list[tuple[Artifact, Program]] = []
    for artifact in artifacts:
        try:
            program = program_of(artifact)
        except UnsupportedArtifact as error:
            failures.append(error)
            continue
        if program.layer is not None:
            return artifact, program
        found.insert(0 if _is_for_wasm(artifact.platform) else len(found), (artifact, program))
    if found:
        return found[0]
    raise failures[0]


def read_artifacts(source: Source, name: str | Descriptor, platform: Platform) -> tuple[Artifact, ...]:
    """The manifests that a name may mean: one, or those of an index for this platform, then those for Wasm.

    Raises UnsupportedArtifact when an index has none of these.
    """
    descriptor = source.resolve(name) if isinstance(name, str) else name
    parsed = _read_manifest(source, descriptor)
    if isinstance(parsed, Manifest):
        return (_artifact(source, parsed, None),)
    entries = tuple(_entries(source, parsed, _MAX_DEPTH))
    found = tuple(_artifacts(source, _candidates(entries, platform)))
    if not found:
        raise UnsupportedArtifact(f"an index with nothing for {platform} or wasi/wasm; {_offered(entries)}")
    return found


def program_of(artifact: Artifact) -> Program:
    """The one program of an artifact. Raises UnsupportedArtifact and InvalidContent."""
    manifest, config = artifact.manifest, artifact.config
    _check_layer_digests(manifest, config)
    raw = raw_layers(manifest)
    if len(raw) > 1:
        raise UnsupportedArtifact(_several(artifact.form, raw))
    if raw and not raw[0].size:
        raise UnsupportedArtifact(f"the Wasm layer {layer_name(raw[0])} is empty; push the program anew")
    rootfs = () if raw else tar_layers(manifest)
    if not raw and not rootfs:
        raise UnsupportedArtifact(_nothing(manifest))
    return Program(
        artifact.form,
        manifest.descriptor,
        manifest.config,
        raw[0] if raw else None,
        rootfs,
        "" if raw else next(iter(config.arguments), ""),
        config.entrypoint,
        config.cmd,
        config.env,
        config.labels,
        config.user,
        config.working_dir,
    )


def layer_name(layer: Descriptor) -> str:
    """What to call a layer in a message."""
    title = title_of(layer)
    return shown(title) if title else str(layer.digest)


def _read_manifest(source: Source, descriptor: Descriptor) -> Manifest | Index:
    return parse_manifest(read_all(source, descriptor, MAX_MANIFEST), descriptor.media_type)


def _artifact(source: Source, manifest: Manifest, platform: Platform | None) -> Artifact:
    descriptor = manifest.config
    if descriptor.size > MAX_CONFIG:
        raise InvalidContent(f"a config of {descriptor.size} bytes; more than {MAX_CONFIG} are not read")
    config = parse_config(read_all(source, descriptor, MAX_CONFIG), descriptor)
    return Artifact(manifest, config, form_of(manifest, config), platform)


def _artifacts(source: Source, candidates: Iterable[Descriptor]) -> Iterator[Artifact]:
    """Those that the source has: a store need not hold what an index has for other platforms."""
    missing: NotFound | None = None
    found = False
    for descriptor in candidates:
        try:
            parsed = _read_manifest(source, descriptor)
            if isinstance(parsed, Manifest):
                yield _artifact(source, parsed, descriptor.platform)
                found = True
        except NotFound as error:
            missing = missing or error
    if missing is not None and not found:
        raise missing


def _entries(source: Source, index: Index, depth: int) -> Iterator[Descriptor]:
    """The manifests of an index and of indexes in it, as far as the source has these."""
    nested = 0
    for entry in index.manifests:
        if entry.media_type not in INDEXES:
            yield entry
        elif depth and nested < _MAX_CANDIDATES:
            nested += 1
            with suppress(NotFound):
                inner = _read_manifest(source, entry)
                if isinstance(inner, Index):
                    yield from _entries(source, inner, depth - 1)


def _candidates(entries: tuple[Descriptor, ...], platform: Platform) -> tuple[Descriptor, ...]:
    """Those for the host, then those for Wasm; else the only one that does not say what it is for."""
    host = [entry for entry in entries if _matches(entry.platform, platform)]
    wasm = [entry for entry in entries if _is_for_wasm(entry.platform)]
    if host or wasm:
        return tuple(dict.fromkeys(host + wasm))[:_MAX_CANDIDATES]
    silent = tuple(entry for entry in entries if entry.platform is None)
    if len(silent) > 1:
        raise UnsupportedArtifact(
            f"an index of {len(silent)} manifests that does not say what they are for; give one by its digest, "
            f"{silent[0].digest} for example"
        )
    return silent


def _matches(platform: Platform | None, wanted: Platform) -> bool:
    return platform is not None and (platform.os, platform.architecture) == (wanted.os, wanted.architecture)


def _is_for_wasm(platform: Platform | None) -> bool:
    return platform is not None and (platform.os.lower(), platform.architecture.lower()) in WASM_PLATFORMS


def _check_layer_digests(manifest: Manifest, config: ImageConfig) -> None:
    """The config's digest is the image ID for a runtime, so it must stand for these layers and no others."""
    actual = tuple(str(layer.digest) for layer in manifest.layers)
    if config.layer_digests is not None and config.layer_digests != actual:
        raise InvalidContent(
            f"the config {manifest.config.digest} was made for other layers than those of the manifest "
            f"{manifest.descriptor.digest}; push the program anew"
        )


def _several(form: Form, layers: tuple[Descriptor, ...]) -> str:
    names = ", ".join(layer_name(layer) for layer in layers[:_SHOWN_LAYERS]) + ("…" if layers[_SHOWN_LAYERS:] else "")
    if form is Form.SPIN:
        return f"a Spin application of {len(layers)} components ({names}); run it with Spin, or push one of them alone"
    return f"{len(layers)} Wasm layers ({names}) and nothing that says which to run; push one program per artifact"


def _nothing(manifest: Manifest) -> str:
    """Why there is nothing to run."""
    layers = [layer for layer in manifest.layers if not is_empty(layer)]
    if not layers:
        return "an empty artifact: its manifest names no layer; push the program anew"
    native = [layer for layer in layers if is_precompiled(layer)]
    if native:
        return (
            f"{layer_name(native[0])} is native code that was compiled from Wasm, which is not run from a registry; "
            f"push the .wasm file that it was made from"
        )
    types = Counter(layer.media_type for layer in layers).most_common(_SHOWN_LAYERS)
    what = ", ".join(
        shown(media_type) if count == 1 else f"{count} × {shown(media_type)}" for media_type, count in types
    )
    return f"an artifact without Wasm; its layers are {what}: run it with the tool that it was made for"


def _offered(entries: tuple[Descriptor, ...]) -> str:
    platforms = list(dict.fromkeys(str(entry.platform) for entry in entries if entry.platform is not None))
    if not platforms:
        return "it is empty"
    return f"it is for {', '.join(platforms[:_SHOWN_LAYERS])}{'…' if platforms[_SHOWN_LAYERS:] else ''}"

"""The forms in which people publish Wasm in registries, and how each is told from its manifest.

There is no one standard: a config media type, layer media types and habits of tools decide who can read what.
"""

from enum import Enum
from typing import Final

from oci.descriptor import Descriptor
from oci.image_config import IMAGE_CONFIGS, ImageConfig
from oci.manifest import Manifest
from oci.media_types import DOCKER_LAYER, OCI_EMPTY, OCI_LAYER, WASM_CONFIG, WASM_LAYER

__all__ = [
    "RUNWASI_LAYER", "TITLE", "WASM_PLATFORMS", "Form", "form_of", "is_empty", "is_precompiled", "is_tar", "is_wasm",
    "raw_layers", "tar_layers", "title_of",
]  # fmt: skip

TITLE: Final = "org.opencontainers.image.title"
RUNWASI_LAYER: Final = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
ISTIO_LAYER: Final = "application/vnd.module.wasm.content.layer.v1+wasm"
WASM_TO_OCI_LAYER: Final = "application/vnd.wasm.content.layer.v1+wasm"
SPIN_CONFIG_LAYER: Final = "application/vnd.fermyon.spin.application.v1+config"
GADGET_LAYER: Final = "application/vnd.gadget.wasm.program.v1+binary"
_HIGRESS: Final = ("application/vnd.module.wasm.spec.v1", "application/vnd.module.wasm.doc.v1")
_TARS: Final = (OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar", DOCKER_LAYER,
                "application/vnd.docker.image.rootfs.foreign.diff.tar")  # fmt: skip
_HANDLERS: Final = ("run.oci.handler", "module.wasm.image/variant")

WASM_PLATFORMS: Final = frozenset(
    {("wasi", "wasm"), ("wasi", "wasm32"), ("wasip1", "wasm"), ("wasip2", "wasm"), ("linux", "wasm")}
)  # (os, architecture), in small letters


class Form(Enum):
    """A form, with what to call it."""

    CNCF = "CNCF Wasm artifact"
    RUNWASI = "image with a raw Wasm layer, as runwasi makes it"
    WASI_IMAGE = "image for the platform wasi/wasm, as Docker builds it"
    IMAGE = "image with the program in its root file system"
    CRUN = "image with crun's Wasm annotation"
    ISTIO = "Istio Wasm artifact"
    ISTIO_COMPAT = "image that names no program; with a plugin.wasm it is for Istio or Envoy Gateway"
    HIGRESS = "Higress plugin"
    SPIN = "Spin application"
    WASM_TO_OCI = "wasm-to-oci artifact, as Kubewarden and cosign make it"
    ORAS = "artifact with a Wasm file, as oras makes it"
    GADGET = "Inspektor Gadget"
    OTHER = "artifact without Wasm"


def form_of(manifest: Manifest, config: ImageConfig) -> Form:
    """The form of a manifest."""
    types = {layer.media_type for layer in manifest.layers}
    for layer_type, form in _FORMS_BY_LAYER:
        if layer_type in types:
            return form
    if any(media_type.startswith(_HIGRESS) for media_type in types):
        return Form.HIGRESS
    if raw_layers(manifest):
        return _raw_form(manifest)
    return _image_form(manifest, config) if tar_layers(manifest) else Form.OTHER


_FORMS_BY_LAYER: Final = (
    (SPIN_CONFIG_LAYER, Form.SPIN),
    (GADGET_LAYER, Form.GADGET),
    (ISTIO_LAYER, Form.ISTIO),
    (WASM_TO_OCI_LAYER, Form.WASM_TO_OCI),
)


def _raw_form(manifest: Manifest) -> Form:
    if manifest.config.media_type == WASM_CONFIG:
        return Form.CNCF
    return Form.RUNWASI if manifest.config.media_type in IMAGE_CONFIGS else Form.ORAS


def _image_form(manifest: Manifest, config: ImageConfig) -> Form:
    if any(name in manifest.annotations for name in _HANDLERS):
        return Form.CRUN
    if (config.os.lower(), config.architecture.lower()) in WASM_PLATFORMS:
        return Form.WASI_IMAGE
    return Form.IMAGE if config.arguments else Form.ISTIO_COMPAT


def raw_layers(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The layers that are a Wasm binary as it is."""
    return tuple(layer for layer in manifest.layers if is_wasm(layer) or _is_wasm_by_name(layer, manifest))


def tar_layers(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The layers that make up a root file system."""
    return tuple(layer for layer in manifest.layers if is_tar(layer) and not _is_wasm_by_name(layer, manifest))


def is_wasm(layer: Descriptor) -> bool:
    """Whether the media type says that these bytes are Wasm."""
    return (
        layer.media_type == WASM_LAYER or layer.media_type == GADGET_LAYER or layer.media_type.endswith("+wasm")
    ) and not is_precompiled(layer)


def is_precompiled(layer: Descriptor) -> bool:
    """Whether the media type or the title says that this is native code made from Wasm."""
    return any(word in layer.media_type for word in ("precompiled", "cwasm")) or title_of(layer).endswith(".cwasm")


def is_tar(layer: Descriptor) -> bool:
    """Whether the media type says that this is a layer of a root file system."""
    return layer.media_type.startswith(_TARS)


def _is_wasm_by_name(layer: Descriptor, manifest: Manifest) -> bool:
    """A file that was pushed under another type: oras calls one without a type a tar layer, and has its name."""
    named = title_of(layer).endswith(".wasm") and not layer.media_type.endswith(("+gzip", ".gzip", "+zstd"))
    return named and not is_precompiled(layer) and manifest.config.media_type not in IMAGE_CONFIGS


def title_of(layer: Descriptor) -> str:
    """The file name that a layer has, or empty."""
    return layer.annotations.get(TITLE, "")


def is_empty(layer: Descriptor) -> bool:
    """Whether this stands for no layer at all."""
    return layer.media_type == OCI_EMPTY

"""Images on their way from and to registries."""

from oci.copy import Progress, copy
from oci.descriptor import Descriptor
from oci.errors import UnsupportedArtifact
from oci.layout import Layout
from oci.pack import Packed
from oci.program import find_program
from oci.reference import Reference
from oci.registry.options import DEFAULT, Options
from oci.registry.store import Registry
from wasm_shim.images.store import key


def pull(
    store: Layout, reference: Reference, options: Options = DEFAULT, progress: Progress | None = None
) -> Descriptor:
    """Bring an image into the store, under its own name; of an index the manifest that can run here.

    An index without one comes as a whole, so that it can be looked at and passed on. Raises OciError.
    """
    with Registry(reference, options=options) as registry:
        try:
            return copy(
                registry,
                reference.name,
                store,
                key(reference),
                select=lambda index: find_program(registry, index.descriptor).manifest,
                progress=progress,
            )
        except UnsupportedArtifact:
            return copy(registry, reference.name, store, key(reference), progress=progress)


def push(
    source: Layout | Packed, name: str, reference: Reference, options: Options, progress: Progress | None
) -> Descriptor:
    """Send an image to a registry. Raises OciError."""
    with Registry(reference, options=options) as registry:
        return copy(source, name, registry, reference.name, progress=progress)

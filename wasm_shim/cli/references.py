"""From the reference of `wasm-shim run` to how that image starts; a warm one loads nothing of `oci`."""

import os
from typing import TYPE_CHECKING, Any

from oci.errors import OciError, UnsupportedArtifact
from wasm_shim.cli.output import CANNOT_RUN, OURS, Refusal
from wasm_shim.cli.request import ALWAYS, MISSING, NEVER
from wasm_shim.images.start import Start, recall
from wasm_shim.paths import images_path, user_paths

if TYPE_CHECKING:
    from oci.layout import Layout
    from oci.reference import Reference


def start(values: dict[str, Any]) -> Start:
    """How IMAGE starts, pulled where --pull says so. Raises Refusal."""
    mode = values["pull"] or MISSING
    text = values["IMAGE"]
    store, cache = images_path(os.environ), user_paths(os.environ).cache
    known = recall(cache, store, text) if mode != ALWAYS else None
    if known:
        return known
    from wasm_shim.images.program import start_of  # 45 ms

    def get(layout: "Layout", reference: "Reference") -> None:
        from wasm_shim.cli.remote import progress, registry_options
        from wasm_shim.images.transfer import pull  # oras and requests: 200 ms

        with progress(quiet=values["quiet"]) as report:
            pull(layout, reference, registry_options(values), report)

    try:
        return start_of(store, cache, text, get if mode != NEVER else None, always=mode == ALWAYS)
    except UnsupportedArtifact as error:
        raise Refusal(CANNOT_RUN, f"cannot run {text}: {error}") from error
    except OciError as error:
        raise Refusal(OURS, str(error)) from error

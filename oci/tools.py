"""Which runtimes and tools can run or read an artifact, why the others cannot, and what helps.

What each tool accepts was read in its source or seen when it ran: wkg 0.16, oras 1.3, crane, skopeo 1.9.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from oci.forms import Form, title_of
from oci.image_config import IMAGE_CONFIGS
from oci.media_types import WASM_CONFIG, WASM_LAYER
from oci.program import Artifact
from oci.runtimes import AS_CNCF, OURS, RUNTIMES, SPIN, Looked, Verdict, no, yes

__all__ = ["Answer", "answers"]


class Answer(NamedTuple):
    """Whether a tool can do what it is for with an artifact.

    `reason` says why not, or under which condition; `remedy` is what to do about it. Both may be empty.
    """

    tool: str
    can: bool
    reason: str = ""
    remedy: str = ""


class _Seen(NamedTuple):
    """What tools see that do not care for the program."""

    artifact: Artifact | None
    is_index: bool


def answers(artifact: Artifact | None, looked: Looked | str, *, is_index: bool) -> tuple[Answer, ...]:
    """One for every tool that we know of, in a fixed order.

    `looked` is the refusal where there is no program that Wasm runtimes can run, or empty where that is text.
    """
    runtimes = (Answer(tool, *_asked(tool, ask, artifact, looked)) for tool, ask in RUNTIMES)
    readers = (Answer(tool, *ask(_Seen(artifact, is_index))) for tool, ask in _READERS)
    return (*runtimes, *readers)


def _asked(tool: str, ask: Callable[[Looked], Verdict], artifact: Artifact | None, looked: Looked | str) -> Verdict:
    if isinstance(looked, Looked):
        return ask(looked)
    if looked:
        is_spin = tool == SPIN and artifact is not None and artifact.form is Form.SPIN
        return yes() if is_spin else no(looked)
    if tool.startswith(OURS):
        return yes("it is WebAssembly text, which is translated first")
    return no("it is WebAssembly text", "translate it with wat2wasm and push it anew")


def _wkg(seen: _Seen) -> Verdict:
    artifact = seen.artifact
    if artifact is None:
        return no("it has no manifest for Wasm")
    config = artifact.manifest.config
    if config.media_type != WASM_CONFIG:
        return no(f"wkg wants a config of type {WASM_CONFIG}", AS_CNCF)
    if [layer.media_type for layer in artifact.manifest.layers] != [WASM_LAYER]:
        return no(f"wkg wants one layer, of type {WASM_LAYER}", AS_CNCF)
    if not artifact.config.created or artifact.config.layer_digests is None:
        return no("wkg wants created and layerDigests in the config", AS_CNCF)
    return yes()


def _oras(seen: _Seen) -> Verdict:
    if seen.artifact is not None and not all(title_of(layer) for layer in seen.artifact.manifest.layers):
        return no("oras pull passes over layers without a title", "get the layer with oras blob fetch")
    return yes()


def _crane(_seen: _Seen) -> Verdict:
    return yes("copies it")


def _skopeo(seen: _Seen) -> Verdict:
    if seen.is_index:
        return yes("copies it with --all")
    if seen.artifact is not None and seen.artifact.manifest.config.media_type not in IMAGE_CONFIGS:
        return yes("copies it; skopeo inspect refuses it, as its config is no image's")
    return yes("copies it")


_READERS: Final[tuple[tuple[str, Callable[[_Seen], Verdict]], ...]] = (
    ("wkg", _wkg),
    ("oras pull", _oras),
    ("crane", _crane),
    ("skopeo", _skopeo),
)

"""Which Wasm runtimes can run an artifact, why the others cannot, and what helps.

What each accepts was read in its source or seen when it ran: containerd 1.7 and 2.1, runwasi, crun, Docker Desktop,
containerd-shim-spin, Istio and Envoy Gateway, Kubewarden.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from oci.errors import shown
from oci.forms import RUNWASI_LAYER, Form, tar_layers
from oci.image_config import IMAGE_CONFIGS
from oci.media_types import WASM_CONFIG, WASM_LAYER
from oci.program import Artifact, Program
from oci.wasm_interface import WasmInterface

__all__ = ["AS_CNCF", "OURS", "RUNTIMES", "SPIN", "Looked", "Verdict", "no", "yes"]


class Looked(NamedTuple):
    """An artifact with its program, looked into.

    `is_index` says whether a name led to it by way of an index, `reached` whether containerd goes that way, too.
    """

    artifact: Artifact
    program: Program
    path: str
    interface: WasmInterface
    is_index: bool
    reached: bool

    @property
    def config_type(self) -> str:
        """The media type of the config."""
        return self.artifact.manifest.config.media_type


class Verdict(NamedTuple):
    """Whether a tool can do it; under which condition, or why not; what to do about that."""

    can: bool
    reason: str = ""
    remedy: str = ""


def yes(reason: str = "") -> Verdict:
    """It can."""
    return Verdict(can=True, reason=reason)


def no(reason: str, remedy: str = "") -> Verdict:
    """It cannot."""
    return Verdict(can=False, reason=reason, remedy=remedy)


OURS: Final = "wasm-shim"  # what our own rows begin with
SPIN: Final = "Spin's shim"
_AS_IMAGE: Final = "push it with --layout image"
_AS_RUNWASI: Final = "push it with --layout runwasi or image"
AS_CNCF: Final = "push it with --layout cncf"
_BY_DIGEST: Final = "give the digest of the manifest in it"
_WASI_PACKAGES: Final = ("wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/")
_NOT_UNPACKED: Final = "its layers are unpacked only where the config is an image's"
_NO_COMMAND: Final = "it is no command: it exports neither _start nor wasi:cli/run"
_INVOKE: Final = "call one of its exports with wasm-shim run --invoke"
_FOR_HOSTS: Final = {"proxy-wasm": "a proxy-wasm filter", "wapc": "a waPC guest"}
_EMPTY_CONFIG: Final = 2  # bytes of {}


def _command_line(case: Looked) -> Verdict:
    """Our own shim, wherever it runs."""
    interface = case.interface
    if interface.wasi == "wasip3":
        return no("it is built for WASI 0.3, which is not supported yet", "build it for WASI 0.2")
    if interface.role in _FOR_HOSTS:
        return no(f"it is {_FOR_HOSTS[interface.role]}, which needs a host of its own kind")
    foreign = _foreign_import(interface)
    if foreign:
        remedy = "build it for WASI, or compose it with a component that provides this"
        return no(f"it imports {shown(foreign)}, which no host interface provides", remedy)
    if interface.role == "http":
        return no("it is an HTTP component, and this version serves none")
    return yes() if interface.role == "command" else yes("it is no command: call an export with --invoke")


def _in_a_container(case: Looked) -> Verdict:
    """Our own shim under containerd, which calls no exports by name."""
    ours = _command_line(case)
    return no(_NO_COMMAND, _INVOKE) if ours.can and case.interface.role != "command" else ours


def _cri(case: Looked) -> Verdict:
    ours = _in_a_container(case)
    if not ours.can:
        return ours
    if not case.reached:
        return no("containerd takes no entry of an index but that for its own platform", _BY_DIGEST)
    return _cri_unpacks(case) if tar_layers(case.artifact.manifest) else _cri_starts(case)


def _cri_unpacks(case: Looked) -> Verdict:
    config = case.artifact.config
    if case.config_type not in IMAGE_CONFIGS:
        return no(_NOT_UNPACKED, _AS_IMAGE)
    if config.os.lower() not in {"", "linux"}:
        return yes(f"up to containerd 2.2; later ones unpack for linux only, not for {shown(config.os)}")
    return _cri_starts(case)


def _cri_starts(case: Looked) -> Verdict:
    if case.artifact.manifest.config.size <= _EMPTY_CONFIG:
        return yes("give the pod a command; containerd takes all artifacts with an empty config for one image")
    if not case.artifact.config.arguments:
        return yes("give the pod a command, as the config names no program")
    return yes()


def _ctr(case: Looked) -> Verdict:
    ours = _in_a_container(case)
    if not ours.can:
        return ours
    if case.config_type not in IMAGE_CONFIGS:
        return no(f"ctr refuses a config of type {shown(case.config_type)}", _AS_RUNWASI)
    if not case.reached:
        return yes(f"pull it with --platform {case.artifact.platform}")
    return ours if case.artifact.config.arguments else yes("its config names no program: give ctr run a command")


def _runwasi(case: Looked) -> Verdict:
    layer = case.program.layer
    if layer is None:
        return _in_rootfs(case, "runwasi") or yes("it runs the file in the root file system")
    problem = _not_for_wasi_hosts(case)
    if problem:
        return problem
    if case.is_index:
        return no("runwasi reads no index", _BY_DIGEST)
    if case.artifact.config.architecture != "wasm":
        return no("its config does not say architecture wasm", "push it with --layout cncf or runwasi")
    if layer.media_type not in {WASM_LAYER, RUNWASI_LAYER}:
        return no(f"runwasi knows no layers of type {shown(layer.media_type)}", _AS_RUNWASI)
    return yes("through CRI only, not ctr" if case.config_type == WASM_CONFIG else "")


def _crun(case: Looked) -> Verdict:
    if case.interface.role == "http":
        return no("crun runs commands only")
    needed = {Form.CRUN: "", Form.WASI_IMAGE: "--platform wasi/wasm and "}
    with_what = needed.get(case.program.form, "--annotation run.oci.handler=wasm and ")
    engine = " whose engine runs components" if case.interface.kind == "component" else ""
    return _in_rootfs(case, "crun") or yes(f"with {with_what}a crun built with Wasm{engine}")


def _docker(case: Looked) -> Verdict:
    what = "--platform wasi/wasm and " if case.program.form is Form.WASI_IMAGE else ""
    how = f"with {what}--runtime io.containerd.wasmtime.v1; Docker has deprecated its Wasm support"
    return _in_rootfs(case, "Docker") or yes(how)


def _in_rootfs(case: Looked, tool: str) -> Verdict | None:
    """Why a tool that runs a file of the root file system cannot do that, or None."""
    if case.program.layer is not None:
        return no(f"{tool} runs a file of a root file system, and this has none", _AS_IMAGE)
    if case.config_type not in IMAGE_CONFIGS:
        return no(_NOT_UNPACKED, _AS_IMAGE)
    return _not_for_wasi_hosts(case)


def _not_for_wasi_hosts(case: Looked) -> Verdict | None:
    """Why no general Wasm runtime but ours can run it, or None."""
    if case.interface.wasi == "wasip3":
        return no("it is built for WASI 0.3", "build it for WASI 0.2")
    role = case.interface.role
    if role in _FOR_HOSTS:
        return no(f"it is {_FOR_HOSTS[role]}, which needs a host of its own kind")
    return None if role else no(_NO_COMMAND, _INVOKE)


def _spin(case: Looked) -> Verdict:
    if case.artifact.form is Form.SPIN:
        return yes()
    if case.artifact.form is not Form.CNCF:
        return no("the Spin shim reads Spin applications and the CNCF layout", AS_CNCF)
    if case.interface.role != "http":
        return no("outside of Spin applications the Spin shim runs HTTP components only")
    return yes("as one HTTP component")


def _istio(case: Looked) -> Verdict:
    if case.interface.role != "proxy-wasm":
        return no("it is no proxy-wasm filter, for it exports no proxy_abi_version")
    if case.artifact.form is not Form.ISTIO and not case.path.endswith("/plugin.wasm"):
        return no("Istio looks for a plugin.wasm in the last layer, or for a layer of its own type")
    return yes()


def _kubewarden(case: Looked) -> Verdict:
    if case.artifact.form is not Form.WASM_TO_OCI:
        return no("Kubewarden reads artifacts that kwctl or wasm-to-oci pushed", "push the policy with kwctl")
    if case.interface.role not in {"wapc", "command"}:
        return no("it is no policy: it exports neither a waPC call nor a command")
    return yes()


def _foreign_import(interface: WasmInterface) -> str:
    """The first import that WASI as we serve it does not have, or empty."""
    for item in interface.imports:
        if interface.kind == "core module":
            known = item.module == "wasi_snapshot_preview1"
        else:
            known = item.kind == "type" or (item.name.startswith(_WASI_PACKAGES) and "@0.2." in item.name)
        if not known:
            return str(item)
    return ""


RUNTIMES: Final[tuple[tuple[str, Callable[[Looked], Verdict]], ...]] = (
    ("wasm-shim run", _command_line),
    ("wasm-shim under Kubernetes (CRI)", _cri),
    ("wasm-shim with ctr run", _ctr),
    ("runwasi", _runwasi),
    ("crun and podman", _crun),
    ("Docker Desktop", _docker),
    (SPIN, _spin),
    ("Istio and Envoy Gateway", _istio),
    ("Kubewarden", _kubewarden),
)

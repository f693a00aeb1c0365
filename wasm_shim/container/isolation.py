"""What a spec with a root file system says of the walls around the container's process, checked.

Source: opencontainers/runtime-spec, config.md and config-linux.md. What a Wasm guest cannot have anyway
(capabilities, devices, masked paths, sysctls, a seccomp profile wider than ours) is left alone.
"""

import os
import resource
from typing import Any, Final, NamedTuple

from wasm_shim.container import document
from wasm_shim.errors import InvalidArgument, Unimplemented
from wasm_shim.kernel import calls

_MAX_ID: Final = (1 << 32) - 2
_MAX_GROUPS: Final = 65536  # NGROUPS_MAX
_MAX_HOSTNAME: Final = 64  # bytes (sethostname(2))
_UNLIMITED: Final = (1 << 64) - 1
_NAMESPACES: Final = {
    "pid": calls.CLONE_NEWPID,
    "network": calls.CLONE_NEWNET,
    "ipc": calls.CLONE_NEWIPC,
    "uts": calls.CLONE_NEWUTS,
    "cgroup": calls.CLONE_NEWCGROUP,
}
NAMESPACE_NAMES: Final = {number: name for name, number in _NAMESPACES.items()}
_HOOKS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class User(NamedTuple):
    """Who the process is, and the permissions that its new files lack."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int


class Isolation(NamedTuple):
    """Everything that surrounds one process; paths are the host's."""

    root: str
    root_read_only: bool
    user: User
    joined: tuple[tuple[str, int], ...]  # (path of a namespace, CLONE_NEW… of its kind)
    new: int  # CLONE_NEW… of the kinds that it gets for itself
    hostname: str
    limits: tuple[tuple[int, int, int], ...]  # (RLIMIT_…, soft, hard)
    oom_score_adj: int
    cgroup: str  # linux.cgroupsPath
    resources: dict[str, Any]  # linux.resources


def parse_isolation(config: Any, bundle: str) -> Isolation | None:
    """The isolation of a document with a root, None for one without; raises InvalidArgument, Unimplemented."""
    if config.get("root") is None:
        return None
    root, process, linux = document.section(config, "root"), config["process"], document.section(config, "linux")
    hooks = document.section(config, "hooks")
    for name in _HOOKS:
        if document.entries(hooks, name):
            raise Unimplemented(f"hooks.{name} in config.json: wasm-shim runs no hooks; remove them")
    joined, new = _namespaces(linux)
    return Isolation(
        root=os.path.join(bundle, document.text(root, "path")),
        root_read_only=document.flag(root, "readonly"),
        user=_user(document.section(process, "user")),
        joined=joined,
        new=new,
        hostname=_hostname(config),
        limits=tuple(_limit(entry) for entry in document.entries(process, "rlimits")),
        oom_score_adj=document.integer(process, "oomScoreAdj", -1000, 1000, 0),
        cgroup=document.optional_text(linux, "cgroupsPath"),
        resources=document.section(linux, "resources"),
    )


def _hostname(config: Any) -> str:
    name = document.optional_text(config, "hostname")
    if len(os.fsencode(name)) > _MAX_HOSTNAME:
        raise InvalidArgument(f"hostname in config.json is longer than the {_MAX_HOSTNAME} bytes that the kernel takes")
    return name


def _user(user: Any) -> User:
    groups = document.entries(user, "additionalGids")
    if not all(type(group) is int and 0 <= group <= _MAX_ID for group in groups):
        raise InvalidArgument("user.additionalGids in config.json holds something that is no group id")
    if len(groups) > _MAX_GROUPS:
        message = f"user.additionalGids in config.json has {len(groups)} groups; the kernel takes {_MAX_GROUPS}"
        raise InvalidArgument(message)
    return User(
        document.integer(user, "uid", 0, _MAX_ID, 0),
        document.integer(user, "gid", 0, _MAX_ID, 0),
        tuple(groups),
        document.integer(user, "umask", 0, 0o777, 0o022),
    )


def _namespaces(linux: Any) -> tuple[tuple[tuple[str, int], ...], int]:
    """Those to join and those to make. A PID, IPC and UTS namespace of its own is the least that a guest has."""
    joined: list[tuple[str, int]] = []
    new = calls.CLONE_NEWPID | calls.CLONE_NEWIPC | calls.CLONE_NEWUTS
    for entry in document.entries(linux, "namespaces"):
        kind, path = _namespace(document.text(entry, "type"), document.optional_text(entry, "path"))
        if path:
            joined.append((path, kind))
            new &= ~kind
        else:
            new |= kind
    return tuple(joined), new


def _namespace(kind: str, path: str) -> tuple[int, str]:
    """The CLONE_NEW… of one, 0 where it says nothing to us, and its path."""
    if kind == "user":
        raise Unimplemented("wasm-shim serves no user namespaces; remove hostUsers: false from the pod")
    if kind == "mount" and path:
        raise Unimplemented("wasm-shim joins no mount namespace; leave its path out of config.json")
    if kind in ("mount", "time"):  # the first is always its own, and its clocks are the host's
        return 0, ""
    if kind not in _NAMESPACES:
        raise InvalidArgument(f"there is no namespace of type {kind!r}, as config.json has it")
    if path and not path.startswith("/"):
        raise InvalidArgument(f"the {kind} namespace {path} in config.json must be an absolute path")
    return _NAMESPACES[kind], path


def _limit(entry: Any) -> tuple[int, int, int]:
    kind = document.text(entry, "type")
    number = getattr(resource, kind, None) if kind.startswith("RLIMIT_") else None
    if number is None:
        raise InvalidArgument(f"there is no limit {kind!r}, as rlimits in config.json has it")
    soft, hard = (document.integer(entry, name, 0, _UNLIMITED, _UNLIMITED) for name in ("soft", "hard"))
    if soft > hard:
        raise InvalidArgument(f"rlimits in config.json: the soft limit of {kind} is above the hard one")
    return number, _python_limit(soft), _python_limit(hard)


def _python_limit(value: int) -> int:
    """Unlimited is all ones for the kernel, -1 for Python."""
    return value if value < 1 << 63 else resource.RLIM_INFINITY

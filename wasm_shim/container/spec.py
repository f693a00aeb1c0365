"""A bundle's `config.json`: the parts of the OCI runtime spec that a guest needs, checked.

Source: opencontainers/runtime-spec, config.md. Unknown fields are left alone, as the spec asks.
"""

from typing import Any, Final, NamedTuple

from wasm_shim.container import document
from wasm_shim.container.isolation import Isolation, parse_isolation
from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied
from wasm_shim.guest import Mount, Tmpfs

# The kernel's own file systems. With /proc a guest could write /proc/self/mem and walk out of the Wasm wall, and
# nothing in WASI needs the others.
KERNEL_FILE_SYSTEMS: Final = frozenset(
    "proc sysfs cgroup cgroup2 devpts devtmpfs mqueue debugfs tracefs securityfs bpf configfs binfmt_misc pstore"
    " efivarfs fusectl nsfs".split()
)


class Spec(NamedTuple):
    """What the spec says of the container's process; `isolation` is None where it names no root file system."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    terminal: bool
    mounts: tuple[Mount | Tmpfs, ...]
    isolation: Isolation | None = None


def read_bundle(bundle: str) -> Spec:
    """The spec of the bundle directory; raises NotFound, PermissionDenied, InvalidArgument or Unimplemented."""
    path = f"{bundle}/config.json"
    try:
        data = document.read(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no config.json in the bundle {bundle}; write one or name another bundle") from error
    except OSError as error:
        raise PermissionDenied(f"cannot read {path}: {error.strerror}; make it readable for the shim") from error
    return parse_spec(data, bundle)


def parse_spec(data: bytes, bundle: str = "/") -> Spec:
    """Check and convert; raises InvalidArgument naming the field, Unimplemented for what is not served."""
    config = document.parse(data)
    process = document.field(config, "process", dict)
    arguments = document.strings(process, "args")
    if not arguments:
        raise InvalidArgument("process.args in config.json is empty; name the program to run")
    working_directory = document.text(process, "cwd")
    if not working_directory.startswith("/"):
        raise InvalidArgument(f"process.cwd in config.json is {working_directory!r}; it must be an absolute path")
    isolation = parse_isolation(config, bundle)
    mounts = [_mount(entry, rooted=isolation is not None) for entry in document.entries(config, "mounts")]
    return Spec(
        arguments=arguments,
        environment=tuple(_variable(entry) for entry in document.strings(process, "env")),
        working_directory=working_directory,
        terminal=document.flag(process, "terminal"),
        mounts=tuple(mount for mount in mounts if mount),
        isolation=isolation,
    )


def _variable(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"env in config.json holds {entry!r}; write NAME=VALUE")
    return name, value


def _mount(entry: Any, *, rooted: bool) -> Mount | Tmpfs | None:
    """None for one that no guest gets to see."""
    target, options = document.text(entry, "destination"), document.strings(entry, "options")
    kind = document.optional_text(entry, "type")
    if not target.startswith("/"):
        raise InvalidArgument(f"mount to {target} in config.json: it must be an absolute path")
    if "bind" in options or "rbind" in options or kind == "bind":
        source = document.text(entry, "source")
        if not source.startswith("/"):
            raise InvalidArgument(f"mount {source} to {target} in config.json: both must be absolute paths")
        return Mount(source, target, "ro" in options or "rro" in options)
    if rooted and kind in KERNEL_FILE_SYSTEMS:
        return None
    if rooted and kind == "tmpfs":
        # A specification's /dev holds devices; a guest has none, and what else is put there has a place in the root.
        return None if target == "/dev" else Tmpfs(target, options)
    raise InvalidArgument(f"mount {target} in config.json has type {kind or 'nothing'}; only bind mounts are served")

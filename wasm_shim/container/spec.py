"""A bundle's `config.json`: the parts of the OCI runtime spec that a guest needs, checked.

Source: opencontainers/runtime-spec, config.md. Unknown fields are left alone, as the spec asks.
"""

import json
import os
from typing import Any, NamedTuple

from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied
from wasm_shim.guest import Mount


class Spec(NamedTuple):
    """What the spec says of the container's process."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    terminal: bool
    mounts: tuple[Mount, ...]


def read_bundle(bundle: str) -> Spec:
    """The spec of the bundle directory; raises NotFound, PermissionDenied or InvalidArgument."""
    path = f"{bundle}/config.json"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise NotFound(f"no config.json in the bundle {bundle}; write one or name another bundle") from error
    except OSError as error:
        raise PermissionDenied(f"cannot read {path}: {error.strerror}; make it readable for the shim") from error
    return parse_spec(data)


def parse_spec(data: bytes) -> Spec:
    """Check and convert; raises InvalidArgument naming the field."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"config.json is no JSON: {error}; write the bundle again") from error
    process = _field(document, "process", dict)
    arguments = _strings(process, "args")
    if not arguments:
        raise InvalidArgument("process.args in config.json is empty; name the program to run")
    working_directory = _text(process, "cwd")
    if not working_directory.startswith("/"):
        raise InvalidArgument(f"process.cwd in config.json is {working_directory!r}; it must be an absolute path")
    terminal = process.get("terminal") or False
    if not isinstance(terminal, bool):
        raise InvalidArgument("process.terminal in config.json is no boolean")
    return Spec(
        arguments=arguments,
        environment=tuple(_variable(entry) for entry in _strings(process, "env")),
        working_directory=working_directory,
        terminal=terminal,
        mounts=tuple(_mount(entry) for entry in _list(document, "mounts")),
    )


def _field(owner: Any, name: str, kind: type) -> Any:
    value = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(value, kind):
        raise InvalidArgument(f"{name} is missing in config.json, or is no {kind.__name__}; write the bundle again")
    return value


def _list(owner: Any, name: str) -> list[Any]:
    value = owner.get(name) or []
    if not isinstance(value, list):
        raise InvalidArgument(f"{name} in config.json is no list")
    return value


def _strings(owner: Any, name: str) -> tuple[str, ...]:
    values = _list(owner, name)
    if not all(isinstance(value, str) and _is_text(value) for value in values):
        raise InvalidArgument(f"{name} in config.json holds something that is no string, or a NUL")
    return tuple(values)


def _text(owner: Any, name: str) -> str:
    value: str = _field(owner, name, str)
    if not _is_text(value):
        raise InvalidArgument(f"{name} in config.json holds a NUL or half a character; write the bundle again")
    return value


def _is_text(value: str) -> bool:
    """Whether the kernel can take it: no NUL, and no surrogate but those that stand for bytes of a file name."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _variable(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"env in config.json holds {entry!r}; write NAME=VALUE")
    return name, value


def _mount(entry: Any) -> Mount:
    target, source = _text(entry, "destination"), _text(entry, "source")
    options = _strings(entry, "options")
    if "bind" not in options and "rbind" not in options and entry.get("type") != "bind":
        kind = entry.get("type")
        raise InvalidArgument(f"mount {target} in config.json has type {kind}; only bind mounts are served")
    if not target.startswith("/") or not source.startswith("/"):
        raise InvalidArgument(f"mount {source} to {target} in config.json: both must be absolute paths")
    return Mount(source, target, "ro" in options)

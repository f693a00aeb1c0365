"""The words behind containerd-shim-wasm-v1, as containerd's docs/runtime-v2.md lists them."""

import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from wasm_shim.errors import InvalidArgument

_SWITCHES: Final = ("debug", "v", "version", "info")
_NAMES: Final = ("namespace", "id", "address", "publish-binary", "bundle")
_VARIABLES: Final = ("GRPC_ADDRESS", "NAMESPACE", "TTRPC_ADDRESS")


class Command(NamedTuple):
    """What the command line says; absent values are empty."""

    action: str = ""
    namespace: str = ""
    id: str = ""
    address: str = ""  # of containerd's main socket
    publish_binary: str = ""  # containerd's own
    bundle: str = ""
    version: bool = False
    info: bool = False


def parse(words: Sequence[str]) -> Command:
    """Read flags as Go's flag package does: `-name value`, `--name=value`; the first other word is the action.

    Flags that are not ours are passed over, with a value if one follows. Raises InvalidArgument.
    """
    values: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-") and left[0] not in ("-", "--"):
        name, equals, value = left.pop(0).lstrip("-").partition("=")
        values[name] = value if equals else _value(name, left)
    if left[:1] == ["--"]:
        left.pop(0)
    texts = {name.replace("-", "_"): values[name] for name in _NAMES if name in values}
    switched = {name for name in _SWITCHES if values.get(name, "false") not in ("false", "0")}
    version, info = bool(switched & {"v", "version"}), "info" in switched
    return Command(action=left[0] if left else "", version=version, info=info, **texts)


def _value(name: str, left: list[str]) -> str:
    """The value of a flag without `=`, taken from the words behind it."""
    if name in _SWITCHES:
        return "true"
    if name in _NAMES and not left:
        raise InvalidArgument(f"flag -{name} needs a value")
    followed = name in _NAMES or (len(left) > 1 and not left[0].startswith("-"))
    return left.pop(0) if followed else ""


def check(command: Command) -> None:
    """Raise InvalidArgument for a namespace or an id that is missing or could leave its directory."""
    for what, name in (("namespace", command.namespace), ("id", command.id)):
        if not name:
            raise InvalidArgument(f"the {what} is missing; pass -{what}")
        if "/" in name or "\0" in name or name in (".", ".."):
            raise InvalidArgument(f"{name!r} is no {what}; it must be a name without slashes")


def bundle_of(command: Command, directory: str) -> str:
    """The bundle: what the flag says, else the directory in which the command was run."""
    return os.path.normpath(os.path.join(directory, command.bundle))


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What matters of an environment: containerd's addresses and our own settings. The script picks the same."""
    return {name: value for name, value in environ.items() if name in _VARIABLES or name.startswith("WASM_SHIM_")}

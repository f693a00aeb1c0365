"""The options of CreateTaskRequest, of whichever kind: our own, runc's, or containerd's table for other shims."""

import os
from typing import Final, NamedTuple

from wasm_shim.errors import InvalidArgument
from wasm_shim.ttrpc.task import RuncOptions, RunOptions, RuntimeOptions
from wasm_shim.ttrpc.well_known import Any
from wasm_shim.ttrpc.wire import DecodeError

_MAX_CONFIG: Final = 64 << 10  # bytes of a configuration file
_SYSTEMD_CGROUP: Final = ("SystemdCgroup", "systemd_cgroup")


class Options(NamedTuple):
    """What was asked for; kinds that we do not know ask for nothing."""

    run: RunOptions
    systemd_cgroup: bool


def read_options(packed: Any | None) -> Options:
    """Raises InvalidArgument for damaged options, and for a configuration file that cannot be read."""
    run = RunOptions()
    systemd_cgroup = False
    name = packed.type_url.rpartition("/")[2] if packed is not None else ""
    value = packed.value if packed is not None else b""
    try:
        if name == RunOptions.TYPE_URL.rpartition("/")[2]:
            run = RunOptions.decode(value)
        elif name == RuncOptions.TYPE_URL:
            systemd_cgroup = RuncOptions.decode(value).systemd_cgroup
        elif name == RuntimeOptions.TYPE_URL:
            systemd_cgroup = wants_systemd_cgroup(_config(RuntimeOptions.decode(value)))
    except DecodeError as error:
        raise InvalidArgument(f"cannot read the options of Create: {error}") from error
    return Options(run, systemd_cgroup)


def wants_systemd_cgroup(config: str) -> bool:
    """Whether TOML text sets SystemdCgroup, or systemd_cgroup, to true, by itself or in an `options` table.

    No TOML parser: tomllib would cost 0.4 MiB (measured) for one boolean. What else is in the text does not matter, so
    that options made for another shim are no error. Raises InvalidArgument for another value.
    """
    table, wanted = "", False
    for line in config.splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("["):
            table = text.strip("[] \t").rpartition(".")[2].strip(" \t\"'")
            continue
        key, equals, value = text.partition("=")
        if equals and table in ("", "options") and key.strip(" \t\"'") in _SYSTEMD_CGROUP:
            value = value.strip()
            if value not in ("true", "false"):
                raise InvalidArgument(f"{key.strip()} in the runtime's options is {value}; it must be true or false")
            wanted = value == "true"
    return wanted


def _config(options: RuntimeOptions) -> str:
    data, where = options.config_body, "the runtime's options"
    if options.config_path:
        data, where = _read(options.config_path), options.config_path
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{where} are no UTF-8 text; write them as TOML") from error


def _read(path: str) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a FIFO must not hold us up
        try:
            return os.read(file, _MAX_CONFIG)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(f"cannot read the runtime's ConfigPath {path!r}: {reason}; name a file") from error

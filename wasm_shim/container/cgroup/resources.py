"""The OCI document LinuxResources as checked limits.

Source: opencontainers/runtime-spec, config-linux.md, "Control groups". Absent parts, nulls and unknown fields are
fine. Zero means "not given" wherever zero would make no sense, which is how callers written in Go leave fields out.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wasm_shim.container.document import shown
from wasm_shim.errors import InvalidArgument

UNLIMITED: Final = -1
_INT64: Final = (1 << 63) - 1
_UINT64: Final = (1 << 64) - 1


class Limits(NamedTuple):
    """What is asked for; None where nothing is said, -1 where a limit is to be lifted."""

    memory: int | None = None  # bytes
    memory_and_swap: int | None = None  # bytes of both together
    reservation: int | None = None  # bytes
    swappiness: int | None = None  # percent; version 1 only
    oom_killer_off: bool | None = None  # version 1 only
    shares: int | None = None  # relative weight, 1024 by default
    quota: int | None = None  # microseconds of each period
    period: int | None = None  # microseconds
    burst: int | None = None  # microseconds
    idle: int | None = None  # 1: run only when nothing else wants to
    cpus: str | None = None  # as in 0-3,8
    mems: str | None = None
    pids: int | None = None
    weight: int | None = None  # of block I/O, 10 to 1000
    huge_pages: tuple[tuple[str, int], ...] = ()  # (2MB, bytes)
    unified: tuple[tuple[str, str], ...] = ()  # (file, value); version 2 only


def parse_resources(document: Mapping[str, Any]) -> Limits:
    """Check and convert; raises InvalidArgument naming the field."""
    whole = _Part(document, "linux.resources")
    memory, cpu, block = whole.part("memory"), whole.part("cpu"), whole.part("blockIO")
    return Limits(
        memory=memory.integer("limit", UNLIMITED) or None,
        memory_and_swap=memory.integer("swap", UNLIMITED) or None,
        reservation=memory.integer("reservation", UNLIMITED) or None,
        swappiness=memory.integer("swappiness", 0, 100),
        oom_killer_off=memory.boolean("disableOOMKiller"),
        shares=cpu.integer("shares", 0, _UINT64) or None,
        quota=_lifted(cpu.integer("quota", -_INT64)),
        period=cpu.integer("period", 0, _UINT64) or None,
        burst=cpu.integer("burst", 0, _UINT64),
        idle=cpu.integer("idle", 0, 1),
        cpus=cpu.text("cpus") or None,
        mems=cpu.text("mems") or None,
        # Zero: no limit is set, as containerd's own library and runc up to 1.3 take it.
        pids=_lifted(whole.part("pids").integer("limit", -_INT64)),
        weight=_weight(block),
        huge_pages=tuple(_huge_page(entry) for entry in whole.parts("hugepageLimits")),
        unified=_unified(whole.part("unified")),
    )


class _Part:
    """An object of the document that knows where it lies, for messages."""

    def __init__(self, value: Any, where: str) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise InvalidArgument(f"{where} is no object; write the limits again")
        self.value: Mapping[str, Any] = value or {}
        self.where = where

    def part(self, name: str) -> "_Part":
        return _Part(self.value.get(name), f"{self.where}.{name}")

    def parts(self, name: str) -> "list[_Part]":
        values = self._get(name, list, "a list") or []
        return [_Part(value, f"{self.where}.{name}[{index}]") for index, value in enumerate(values)]

    def integer(self, name: str, low: int, high: int = _INT64) -> int | None:
        value: int | None = self._get(name, int, "a whole number")
        if isinstance(value, bool):
            raise InvalidArgument(f"{self.where}.{name} is {shown(value)}; it must be a whole number")
        if value is not None and not low <= value <= high:
            raise InvalidArgument(f"{self.where}.{name} is {shown(value)}; it must lie between {low} and {high}")
        return value

    def boolean(self, name: str) -> bool | None:
        value: bool | None = self._get(name, bool, "true or false")
        return value

    def text(self, name: str) -> str | None:
        """A text that is written to a file of the kernel as it is; only printable ASCII has a meaning there."""
        value: str | None = self._get(name, str, "a text")
        if value and not (value.isascii() and value.replace("\n", " ").isprintable()):
            raise InvalidArgument(f"{self.where}.{name} is {shown(value)}; the kernel reads printable ASCII only")
        return value

    def _get(self, name: str, kind: type, words: str) -> Any:
        value = self.value.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidArgument(f"{self.where}.{name} is {shown(value)}; it must be {words}")
        return value


def _lifted(value: int | None) -> int | None:
    """Every negative number lifts the limit, and zero says nothing."""
    return max(value, UNLIMITED) if value else None


def _weight(block: _Part) -> int | None:
    value = block.integer("weight", 0, 1000)
    if value and value < 10:
        raise InvalidArgument(f"{block.where}.weight is {value}; it must lie between 10 and 1000")
    return value or None


def _huge_page(entry: _Part) -> tuple[str, int]:
    size, limit = entry.text("pageSize") or "", entry.integer("limit", 0, _UINT64)
    number, unit = size[:-2], size[-2:]
    if not (number.isdecimal() and not number.startswith("0") and unit in ("KB", "MB", "GB")):
        raise InvalidArgument(f"{entry.where}.pageSize is {size!r}; write one like 2MB")
    return size, limit or 0


def _unified(part: _Part) -> tuple[tuple[str, str], ...]:
    for name in part.value:
        controller, dot, file = name.partition(".")
        if not (controller and dot and file) or ".." in name or not set(name) <= _FILE_NAME:
            raise InvalidArgument(f"{part.where} has the key {name!r}; name a file of the cgroup, like memory.high")
    return tuple((name, part.text(name) or "") for name in part.value if part.value[name] is not None)


_FILE_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

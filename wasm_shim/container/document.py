"""Read fields of an OCI JSON document, or say in one sentence which one is wrong."""

import json
import os
from typing import Any

from wasm_shim.errors import InvalidArgument


def parse(data: bytes) -> Any:
    """The JSON value; raises InvalidArgument."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"config.json is no JSON: {error}; write the bundle again") from error


def field(owner: Any, name: str, kind: type) -> Any:
    """A field that must be there; raises InvalidArgument."""
    value = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(value, kind):
        raise InvalidArgument(f"{name} is missing in config.json, or is no {kind.__name__}; write the bundle again")
    return value


def section(owner: Any, name: str) -> dict[str, Any]:
    """An object that may be absent, or null, as empty; raises InvalidArgument."""
    value = owner.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name} in config.json is no object")
    return value


def entries(owner: Any, name: str) -> list[Any]:
    """A list that may be absent, or null, as empty; raises InvalidArgument."""
    value = owner.get(name) or []
    if not isinstance(value, list):
        raise InvalidArgument(f"{name} in config.json is no list")
    return value


def strings(owner: Any, name: str) -> tuple[str, ...]:
    """A list of strings that the kernel can take; raises InvalidArgument."""
    values = entries(owner, name)
    if not all(isinstance(value, str) and _is_text(value) for value in values):
        raise InvalidArgument(f"{name} in config.json holds something that is no string, or a NUL")
    return tuple(values)


def text(owner: Any, name: str) -> str:
    """A string that must be there and that the kernel can take; raises InvalidArgument."""
    value: str = field(owner, name, str)
    if not _is_text(value):
        raise InvalidArgument(f"{name} in config.json holds a NUL or half a character; write the bundle again")
    return value


def optional_text(owner: Any, name: str) -> str:
    """A string that may be absent, or null, as empty; raises InvalidArgument."""
    return text(owner, name) if owner.get(name) is not None else ""


def flag(owner: Any, name: str) -> bool:
    """A boolean that may be absent, or null, as false; raises InvalidArgument."""
    value = owner.get(name) or False
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} in config.json is no boolean")
    return value


def integer(owner: Any, name: str, low: int, high: int, default: int) -> int:
    """A whole number within these bounds that may be absent, or null; raises InvalidArgument."""
    value = owner.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise InvalidArgument(f"{name} in config.json is {value!r}; it must be a whole number from {low} to {high}")
    return value


def _is_text(value: str) -> bool:
    """Whether the kernel can take it: no NUL, and no surrogate but those that stand for bytes of a file name."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False

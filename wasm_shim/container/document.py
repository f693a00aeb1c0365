"""Read fields of an OCI JSON document, or say in one sentence which one is wrong."""

import json
import os
import stat
from typing import Any, Final

from wasm_shim.errors import InvalidArgument

_MOST: Final = 8 << 20  # bytes of a document: the worst of this size takes half a second and 300 MB to parse
_LONGEST_TEXT: Final = 4095  # bytes that the kernel takes as a path
_SHOWN: Final = 60  # characters of a value in a message
_KINDS: Final[dict[type, str]] = {dict: "object", list: "list", str: "text"}


def read(path: str) -> bytes:
    """A document's bytes, never waiting for them; raises OSError, and InvalidArgument for what cannot be a document."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(f"{path} is no regular file; write the bundle again")
        if status.st_size > _MOST:
            raise InvalidArgument(f"{path} has {status.st_size} bytes; a bundle's may have {_MOST}")
        return os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def parse(data: bytes, what: str = "config.json") -> Any:
    """The JSON value; raises InvalidArgument. `what` names the document in messages."""
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise InvalidArgument(f"{what} is nested too deeply; write it again") from error
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"{what} is no JSON: {error}; write it again") from error
    except ValueError as error:  # not UTF-8, or a number with thousands of digits
        raise InvalidArgument(f"{what} holds what is no text and no number of JSON; write it again") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def shown(value: Any) -> str:
    """A value as a message shows it: as JSON, its beginning where it is long, and a list or an object by its kind."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def field(owner: Any, name: str, kind: type) -> Any:
    """A field that must be there; raises InvalidArgument."""
    value = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(value, kind):
        raise InvalidArgument(f"{name} is missing in config.json, or is no {_KINDS[kind]}; write the bundle again")
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
    """A name or path that must be there and that the kernel can take; raises InvalidArgument."""
    value: str = field(owner, name, str)
    if not _is_text(value):
        raise InvalidArgument(f"{name} in config.json holds a NUL or half a character; write the bundle again")
    if len(os.fsencode(value)) > _LONGEST_TEXT:
        raise InvalidArgument(f"{name} in config.json is longer than the {_LONGEST_TEXT} bytes that the kernel takes")
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
        message = f"{name} in config.json is {shown(value)}; it must be a whole number from {low} to {high}"
        raise InvalidArgument(message)
    return value


def _is_text(value: str) -> bool:
    """Whether the kernel can take it: no NUL, and no surrogate but those that stand for bytes of a file name."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False

"""JSON from strangers: one meaning or none.

What parsers read differently is refused: names twice in one object, NaN, other encodings than UTF-8. Every failure,
nesting and numbers beyond Python's bounds included, is InvalidContent and names what was read.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Never, TypeAlias

from oci.errors import InvalidContent, shown

__all__ = ["NO_ANNOTATIONS", "Json", "encode", "parse_object", "text", "texts"]

Json: TypeAlias = dict[str, Any]
_MAX_DIGITS: Final = 100
NO_ANNOTATIONS: Final[Mapping[str, str]] = MappingProxyType({})


def parse_object(raw: bytes, what: str) -> Json:
    """The JSON object in these bytes. Raises InvalidContent, which calls it `what` ("the manifest sha256:…")."""
    try:
        value = json.loads(
            str(raw, "utf-8"), object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_short_integer
        )
    except RecursionError:
        raise InvalidContent(f"{what} is nested too deeply; it was made to do harm or is damaged") from None
    except ValueError as error:
        raise InvalidContent(f"{what} is no proper JSON ({_reason(error)}); it is damaged or something else") from None
    if not isinstance(value, dict):
        raise InvalidContent(f"{what} is no JSON object; it is damaged or something else")
    return value


def encode(document: Mapping[str, Any]) -> bytes:
    """The one spelling that we give a document: sorted names, no blanks, UTF-8. Raises InvalidContent."""
    spelled = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return spelled.encode()
    except UnicodeEncodeError:
        raise InvalidContent("text that is no proper Unicode cannot be written; mend names and annotations") from None


def text(value: object, what: str) -> str:
    """A string, "" where nothing is given. Raises InvalidContent."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidContent(f"{what} is {shown(value)} and no string; the content is malformed")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidContent(f"{what} is no proper Unicode; the content is malformed")
    return value


def texts(value: object, what: str) -> Mapping[str, str]:
    """An object of strings that cannot be changed, as annotations are. Raises InvalidContent."""
    if value is None:
        return NO_ANNOTATIONS
    if not isinstance(value, dict):
        raise InvalidContent(f"{what} are {shown(value)} and no object; the content is malformed")
    return MappingProxyType({text(name, what): text(each, f"{what}: {shown(name)}") for name, each in value.items()})


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    value: Json = {}
    for name, each in pairs:
        if name in value:
            raise ValueError(f"the name {shown(name)} occurs twice in one object")
        value[name] = each
    return value


def _short_integer(digits: str) -> int:
    """Python's own bound can be switched off, and then a few megabytes of digits take minutes."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error).partition(";")[0]

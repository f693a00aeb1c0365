"""The text of a call, `add(27, 6)`: parse it, check it against a signature, and values to and from memory.

The notation is that of WAVE (WebAssembly Value Encoding) for scalars: booleans, integers, floats, characters
and strings. Pure: no ctypes calls of libwasmtime here; `pack` and `unpack` fill value buffers of its C API.
"""

import ctypes
import math
import re
import struct
from typing import Any, Final, NamedTuple

from wasm_shim.errors import InvalidArgument
from wasm_shim.runtime.binding import VAL_SIZE, VALUE_OFFSET
from wasm_shim.runtime.program import CORE, SCALARS, Function

_CALL = re.compile(r"\s*([^\s(]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:("(?:[^"\\]|\\.)*")|('(?:[^'\\]|\\.)+')|([^\s,"'()]+))\s*(,|$)""",
    re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_CONTROLS: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|nan)", re.ASCII)
_HEXADECIMAL = re.compile(r"[+-]?0x[0-9a-fA-F]+")

_RANGES: Final = {
    f"{sign}{bits}": (-(1 << bits - 1) if sign == "s" else 0, (1 << bits - (sign == "s")) - 1)
    for sign in "su"
    for bits in (8, 16, 32, 64)
}
_RANGES["i32"], _RANGES["i64"] = (-(1 << 31), (1 << 32) - 1), (-(1 << 63), (1 << 64) - 1)

# wasmtime_component_val_t's kinds and wasm_valkind_t's, with the struct format of the value.
_COMPONENT_KINDS: Final = {
    "bool": (0, "?"), "s8": (1, "b"), "u8": (2, "B"), "s16": (3, "h"), "u16": (4, "H"), "s32": (5, "i"),
    "u32": (6, "I"), "s64": (7, "q"), "u64": (8, "Q"), "f32": (9, "f"), "f64": (10, "d"), "char": (11, "I"),
    "string": (12, "QQ"),
}  # fmt: skip
_CORE_KINDS: Final = {"i32": (0, "i"), "i64": (1, "q"), "f32": (2, "f"), "f64": (3, "d")}


class Call(NamedTuple):
    """A parsed call: the export's name and the arguments as written, quotes included."""

    name: str
    arguments: tuple[str, ...]


def parse(text: str) -> Call:
    """Read `name(a, b)` or a bare `name`; raises InvalidArgument with the place of the fault."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"cannot read the call {text!r}; write it as name(argument, …)")
    name, inside = match.group(1), match.group(2) or ""
    arguments, position = [], 0
    while position < len(inside) and inside[position:].strip():
        token = _TOKEN.match(inside, position)
        if token is None:
            where = inside[position:].strip()
            raise InvalidArgument(f"cannot read the call {text!r} at {where!r}; separate values by commas")
        arguments.append(next(group for group in token.groups()[:3] if group))
        position = token.end()
        if token.group(4) and not inside[position:].strip():
            raise InvalidArgument(f"cannot read the call {text!r}: a value is missing after the last comma")
    return Call(name, tuple(arguments))


def check(call: Call, function: Function) -> tuple[Any, ...]:
    """The arguments as Python values; raises InvalidArgument with the signature when they do not fit."""
    wanted = [kind for _, kind in function.parameters]
    for kind in (*wanted, *function.results):
        if kind not in SCALARS:
            message = f"cannot call {function.name} from text: type {kind} has no notation here; call it from Python"
            raise InvalidArgument(f"{message} with wasm_shim.load; its signature is {function.signature}")
    if len(call.arguments) != len(wanted):
        count = f"{len(wanted)} argument" + ("" if len(wanted) == 1 else "s")
        raise InvalidArgument(f"{function.name} takes {count}, not {len(call.arguments)}: {function.signature}")
    values = []
    for written, kind in zip(call.arguments, wanted, strict=True):
        try:
            values.append(_value(written, kind))
        except ValueError as error:
            raise InvalidArgument(f"{written} is no {kind}{error}: {function.signature}") from error
    return tuple(values)


def _value(written: str, kind: str) -> Any:
    """One argument's value; raises ValueError, whose text continues the sentence "X is no KIND"."""
    if kind in ("string", "char"):
        return _text_value(written, kind)
    if kind == "bool":
        if written not in ("true", "false"):
            raise ValueError(", write true or false")
        return written == "true"
    return _float(written) if kind in ("f32", "f64") else _integer(written, kind)


def _text_value(written: str, kind: str) -> str:
    quote = '"' if kind == "string" else "'"
    if not (len(written) > 1 and written[0] == written[-1] == quote):
        raise ValueError(f", write it in quotes: {quote}{written.strip(chr(34) + chr(39))}{quote}")
    text = _ESCAPE.sub(_unescape, written[1:-1])
    if any("\ud800" <= character < "\ue000" for character in text):  # bytes of the command line that are no text
        raise ValueError(", it is not UTF-8")
    if kind == "char" and len(text) != 1:
        raise ValueError(" but several")
    return text


def _integer(written: str, kind: str) -> int:
    if not _DECIMAL.fullmatch(written) and not _HEXADECIMAL.fullmatch(written):
        raise ValueError
    number = int(written, 16 if "x" in written else 10)
    low, high = _RANGES[kind]
    if not low <= number <= high:
        raise ValueError(f", which reaches from {low} to {high}")
    if kind in ("i32", "i64") and number > high >> 1:  # core integers have no sign of their own
        number -= high + 1
    return number


def check_range(value: Any, kind: str, signature: str) -> None:
    """Raise OverflowError for an integer that its type cannot hold: wasmtime would take its lower bits."""
    low, high = _RANGES.get(kind, (value, value))
    if isinstance(value, int) and not low <= value <= high:
        raise OverflowError(f"{value} is no {kind}, which reaches from {low} to {high}: {signature}")


def _float(written: str) -> float:
    if not _FLOAT.fullmatch(written):
        raise ValueError
    return float(written)


def _unescape(match: "re.Match[str]") -> str:
    if match.group(1):
        point = int(match.group(1), 16)
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise ValueError(f", there is no character U+{point:X}")
        return chr(point)
    if match.group(2) not in _ESCAPES:
        raise ValueError(f", unknown escape \\{match.group(2)}")
    return _ESCAPES[match.group(2)]


def pack(kind: str, program_kind: str, value: Any, buffer: Any, index: int) -> Any:
    """Write a value into slot `index` of a buffer of VAL_SIZE slots; keep the returned object alive."""
    number, form = (_CORE_KINDS if program_kind == CORE else _COMPONENT_KINDS)[kind]
    keep = None
    if kind == "string":
        data = value.encode()
        keep = ctypes.create_string_buffer(data, len(data) or 1)
        fields: tuple[Any, ...] = (len(data), ctypes.addressof(keep))
    else:
        fields = (ord(value) if kind == "char" else value,)
    offset = index * VAL_SIZE
    struct.pack_into("B", buffer, offset, number)
    try:
        struct.pack_into(f"={form}", buffer, offset + VALUE_OFFSET, *fields)
    except OverflowError:  # a float too large for f32
        struct.pack_into("=f", buffer, offset + VALUE_OFFSET, math.copysign(math.inf, value))
    return keep


def unpack(kind: str, program_kind: str, buffer: Any, index: int) -> Any:
    """The value in slot `index`."""
    _, form = (_CORE_KINDS if program_kind == CORE else _COMPONENT_KINDS)[kind]
    fields = struct.unpack_from(f"={form}", buffer, index * VAL_SIZE + VALUE_OFFSET)
    if kind == "string":
        return ctypes.string_at(fields[1], fields[0]).decode() if fields[0] else ""
    return chr(fields[0]) if kind == "char" else fields[0]


def render(values: list[tuple[str, Any]]) -> str:
    """(type, value) pairs as one line of WAVE; empty for no value, parenthesised for several."""
    texts = [_text(kind, value) for kind, value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})" if texts else ""


def _text(kind: str, value: Any) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind == "string":
        return '"' + "".join(_escaped(character, '"') for character in value) + '"'
    if kind == "char":
        return "'" + _escaped(value, "'") + "'"
    if kind in ("f32", "f64"):
        return _float_text(kind, value)
    return str(value)


def _escaped(character: str, quote: str) -> str:
    if character in (quote, "\\"):
        return "\\" + character
    if character in _CONTROLS:
        return _CONTROLS[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def _float_text(kind: str, value: float) -> str:
    """The shortest decimal that reads back as the same float of this width."""
    if math.isnan(value) or math.isinf(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if kind == "f32":
        shorter = (float(f"{value:.{digits}g}") for digits in range(1, 10))
        value = next(short for short in shorter if ctypes.c_float(short).value == value)
    if value.is_integer() and abs(value) < 1e16:
        return ("-" if math.copysign(1, value) < 0 else "") + str(int(abs(value)))
    return repr(value)

"""The outline of a Wasm binary: core module or component, and its sections, without reading what is inside them.

A binary is a preamble (magic, version, layer: 2 bytes each after the magic) and then sections: an id, a size
as unsigned LEB128 of at most 32 bits, and that many bytes. Order and contents are the compiler's to check;
here a file that is cut, or is something else altogether, gets a reason that a person understands.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, Protocol, overload

from oci.errors import InvalidWasm

__all__ = ["Bytes", "InvalidWasm", "Kind", "Section", "WasmBinary", "inspect", "looks_like_wat", "preamble"]

Kind = Literal["core module", "component"]

_MAGIC: Final = b"\0asm"
_PREAMBLE: Final = 8

_CUSTOM: Final = 0
_SECTIONS: Final[dict[Kind, tuple[str, ...]]] = {
    "core module": (
        "custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code",
        "data", "data count", "tag",
    ),
    "component": (
        "custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canon",
        "start", "import", "export", "value",
    ),
}  # fmt: skip

# Far beyond what compilers make and engines take; without bounds a file could fill the memory.
_MAX_SECTIONS: Final = 100_000
_MAX_NAMES: Final = 1_000_000  # bytes of the names of all custom sections

_HEAD: Final = 64 << 10  # how far we look into what is no Wasm
_ELF: Final = b"\x7fELF"
_ELF_OS_ABI, _WASMTIME_ABI = 7, 200  # wasmtime's own number in this byte of the ELF header
_BEGINNINGS: Final = (
    (_ELF, "a native program (ELF); is the image a Linux container image?"),
    (b"#!", "a script; give the Wasm program itself"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"!<arch>\n", "a static library; link it into a program first"),
    (b"BC\xc0\xde", "LLVM bitcode; link it into a program first"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file with git lfs pull"),
)
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_TEXTS: Final = (
    ((b"<!doctype", b"<html", b"<head", b"<?xml"), "an HTML page; was a web page saved instead of the file?"),
    (
        (b"'use ", b'"use ', b"//", b"/*", b"async ", b"class ", b"const ", b"export ", b"function", b"import ",
         b"let ", b"module.exports", b"var "),
        "JavaScript; componentize it first, or give the .wasm file that it loads",
    ),
)  # fmt: skip
_WAT_WORDS: Final = (
    b"module", b"component", b"core", b"data", b"elem", b"export", b"func", b"global", b"import", b"memory", b"rec",
    b"start", b"table", b"tag", b"type",
)  # fmt: skip


class Bytes(Protocol):
    """What can be read at any place: bytes, a memoryview, a file by way of `oci.file_bytes`."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, at: int, /) -> int: ...

    @overload
    def __getitem__(self, at: slice, /) -> bytes | bytearray | memoryview: ...


class Section(NamedTuple):
    """One section; `offset` and `size` are those of its contents. A custom section has its own name."""

    id: int
    name: str
    offset: int
    size: int


class WasmBinary(NamedTuple):
    """What the outline tells; sections of nested core modules and components are not listed."""

    kind: Kind
    version: int
    sections: tuple[Section, ...]


def inspect(data: Bytes) -> WasmBinary:
    """The outline of a binary; its time grows with the number of sections only. Raises InvalidWasm."""
    kind, version = preamble(data)
    return WasmBinary(kind, version, tuple(_sections(data, _SECTIONS[kind])))


def looks_like_wat(data: Bytes) -> bool:
    """Whether this is WebAssembly text: a parenthesis and one of its words, after blanks and comments."""
    text = bytes(data[:_HEAD])
    at = _after_blanks(text, 0)
    if text[at : at + 1] != b"(":
        return False
    word = _after_blanks(text, at + 1)
    end = word
    while text[end : end + 1].isalpha():
        end += 1
    return text[word:end] in _WAT_WORDS


def _sections(view: Bytes, names: tuple[str, ...]) -> Iterator[Section]:
    at, sections, letters = _PREAMBLE, 0, 0
    while at < len(view):
        section = _section(view, at, names)
        yield section
        at = section.offset + section.size
        sections += 1
        letters += len(section.name) if section.id == _CUSTOM else 0
        if sections > _MAX_SECTIONS or letters > _MAX_NAMES:
            raise InvalidWasm(f"{sections} sections and more; the file is damaged or made to do harm")


def preamble(view: Bytes) -> tuple[Kind, int]:
    """What the first 8 bytes say, kind and version; up to 64 KiB are looked at for a reason. Raises InvalidWasm."""
    head = bytes(view[:_PREAMBLE])
    if not head:
        raise InvalidWasm("the file is empty")
    if head[: len(_MAGIC)] != _MAGIC[: len(head)]:
        raise InvalidWasm(f"not Wasm but {_what_else(view)} (it begins with {head.hex(' ')})")
    if len(head) < _PREAMBLE:
        raise InvalidWasm(f"truncated: the Wasm header lacks {_bytes(_PREAMBLE - len(head))}")
    version, layer = int.from_bytes(head[4:6], "little"), int.from_bytes(head[6:8], "little")
    match layer, version:
        case (0, 1):
            return "core module", version
        case (1, 13):
            return "component", version
        case (1, _):
            raise InvalidWasm(
                f"a component of the binary version {version}, from a preview of the component model or from after "
                f"it; version 13 is understood: rebuild the program with current tools"
            )
        case _:
            raise InvalidWasm(
                f"unknown Wasm version {version}, layer {layer}; core modules (version 1, layer 0) and components "
                f"(version 13, layer 1) are understood"
            )


def _section(view: Bytes, at: int, names: tuple[str, ...]) -> Section:
    """The section that begins at this offset."""
    number = view[at]
    if number >= len(names):
        raise InvalidWasm(f"unknown section id {number} at offset {at}; the file is damaged or newer than we know")
    name = names[number]
    where = f"the {name} section at offset {at}"
    size, contents = _u32(view, at + 1, len(view), f"the size of {where}")
    missing = contents + size - len(view)
    if missing > 0:
        raise InvalidWasm(f"truncated: {where} has {_bytes(size)}, of which {missing} are missing")
    if number == _CUSTOM:
        name = _custom_name(view, contents, contents + size, where)
    return Section(number, name, contents, size)


def _custom_name(view: Bytes, at: int, end: int, where: str) -> str:
    length, at = _u32(view, at, end, f"the length of the name of {where}")
    if length > end - at:
        raise InvalidWasm(f"damaged: the name of {where} has {_bytes(length)} and the section only {end - at} more")
    if length > _MAX_NAMES:
        raise InvalidWasm(f"the name of {where} has {_bytes(length)}; the file is damaged or made to do harm")
    try:
        return str(view[at : at + length], "utf-8")
    except UnicodeDecodeError:
        raise InvalidWasm(f"damaged: the name of {where} is not UTF-8") from None


def _u32(view: Bytes, at: int, end: int, what: str) -> tuple[int, int]:
    """An unsigned LEB128 number of 32 bits, and where it ends."""
    value = 0
    for index in range(5):
        if at + index >= end:
            cut = "truncated" if end == len(view) else "damaged"
            raise InvalidWasm(f"{cut}: {what} is cut off; at least 1 byte is missing")
        byte = view[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >> 32:
                break
            return value, at + index + 1
    raise InvalidWasm(f"damaged: {what} takes more than 32 bits")


def _what_else(view: Bytes) -> str:
    """What a file that is no Wasm seems to be, and what to do about it."""
    head = bytes(view[:_HEAD])
    if head.startswith(_ELF) and head[_ELF_OS_ABI : _ELF_OS_ABI + 1] == bytes([_WASMTIME_ABI]):
        return "native code that wasmtime precompiled (.cwasm); give the .wasm file that it was made from"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head.startswith(_TAR_MAGIC, _TAR_MAGIC_AT):
        return "a tar archive; unpack it first"
    if looks_like_wat(head):
        return "WebAssembly text; name it .wat or translate it with wat2wasm"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginnings, what in _TEXTS:
        if text.startswith(beginnings):
            return what
    return "something unknown"


def _after_blanks(text: bytes, at: int) -> int:
    """Where blanks and comments end that begin here."""
    while at < len(text):
        if text[at : at + 1].isspace():
            at += 1
        elif text.startswith(b";;", at):
            at = text.find(b"\n", at) % (len(text) + 1)  # -1, no further line, becomes the end
        elif text.startswith(b"(;", at):
            at = _after_block(text, at)
        else:
            break
    return at


def _after_block(text: bytes, at: int) -> int:
    """Where a block comment ends; they nest."""
    depth = 0
    while at < len(text):
        if text.startswith((b"(;", b";)"), at):
            depth += 1 if text.startswith(b"(;", at) else -1
            at += 2
            if depth == 0:
                break
        else:
            at += 1
    return at


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"

"""What a Wasm binary imports and exports, by name and kind, and what its custom sections say about it.

Only a file that is no whole Wasm binary is refused (InvalidWasm, see `wasm_binary`). Inside the sections nothing is:
where one cannot be read – a proposal that we do not know, damage, more than the bounds below – the view holds
what came before that place and is not `complete`. So no push depends on our knowledge of the newest Wasm.

Sources: core specification, binary/modules.html; component-model, Binary.md, "Import and Export Definitions";
tool-conventions, ProducersSection.md; custom sections of wasm-metadata, which hold one OCI annotation each.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from oci.wasm_binary import Bytes, Kind, Section, inspect

__all__ = ["Item", "Producer", "WasmInterface", "read_interface"]

_MAX_CONTENTS: Final = 512 << 10  # bytes of sections that are looked into, all together
_MAX_TEXT: Final = 4096  # bytes of one annotation

_CUSTOM: Final = 0
_IMPORTS, _EXPORTS = {"core module": 2, "component": 10}, {"core module": 7, "component": 11}
_CORE_KINDS: Final = ("func", "table", "memory", "global", "tag")
_COMPONENT_KINDS: Final = ("core module", "func", "value", "type", "component", "instance")
_ANNOTATIONS: Final = {
    "authors": "authors",
    "description": "description",
    "homepage": "url",
    "licenses": "licenses",
    "revision": "revision",
    "source": "source",
    "version": "version",
}
_WASI_OF_COMPONENTS: Final = (("@0.3.", "wasip3"), ("@0.2.", "wasip2"))


class Item(NamedTuple):
    """One import or export. `module` is that of a core module's import, else empty."""

    module: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


class Producer(NamedTuple):
    """A tool or language that made the binary: `field` is language, processed-by or sdk."""

    field: str
    name: str
    version: str


class WasmInterface(NamedTuple):
    """The outside of a binary; nested core modules and components are not looked into.

    `annotations` are what the binary says about itself, under the names of OCI annotations.
    """

    kind: Kind
    imports: tuple[Item, ...]
    exports: tuple[Item, ...]
    custom_sections: tuple[str, ...]
    producers: tuple[Producer, ...]
    annotations: dict[str, str]
    complete: bool

    @property
    def wasi(self) -> str:
        """The WASI that it was built for: wasip1, wasip2, wasip3, wasi_unstable, or empty when it names none."""
        if self.kind == "core module":
            modules = {item.module for item in self.imports}
            names = {"wasi_snapshot_preview1": "wasip1", "wasi_unstable": "wasi_unstable"}
            return next((version for module, version in names.items() if module in modules), "")
        interfaces = [item.name for item in self.imports + self.exports if item.name.startswith("wasi:")]
        return next((version for mark, version in _WASI_OF_COMPONENTS if any(mark in n for n in interfaces)), "")

    @property
    def role(self) -> str:
        """What it is to be run as: command, http, proxy-wasm, wapc, or empty when its exports tell none of these."""
        names = [item.name for item in self.exports]
        roles = _CORE_ROLES if self.kind == "core module" else _COMPONENT_ROLES
        return next((role for beginning, role in roles if any(name.startswith(beginning) for name in names)), "")


_CORE_ROLES: Final = (("_start", "command"), ("proxy_abi_version_", "proxy-wasm"), ("__guest_call", "wapc"))
_COMPONENT_ROLES: Final = (
    ("wasi:http/incoming-handler@", "http"),
    ("wasi:http/handler@", "http"),
    ("wasi:cli/run@", "command"),
)


def read_interface(data: Bytes) -> WasmInterface:
    """The imports, exports and custom sections of a binary, in its order; see above. Raises InvalidWasm."""
    binary = inspect(data)
    reader = _Reader(data)
    importing, exporting = (
        (_core_import, _core_export) if binary.kind == "core module" else (_component_import, _component_export)
    )
    imports: list[Item] = []
    exports: list[Item] = []
    for section in binary.sections:
        if section.id == _IMPORTS[binary.kind]:
            imports += reader.items(section, importing)
        elif section.id == _EXPORTS[binary.kind]:
            exports += reader.items(section, exporting)
        elif section.id == _CUSTOM:
            reader.custom(section)
    names = tuple(section.name for section in binary.sections if section.id == _CUSTOM)
    return WasmInterface(
        binary.kind, tuple(imports), tuple(exports), names, tuple(reader.producers), reader.annotations, reader.complete
    )


class _Odd(Exception):
    """Contents that we do not understand."""


class _Cursor:
    """Reads numbers and names one after the other. Raises _Odd at the end and for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        if self._at == len(self._data):
            raise _Odd
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        """LEB128 of up to 64 bits; a signed one is only passed over."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _Odd

    def name(self) -> str:
        length = self.number()
        if length > len(self._data) - self._at:
            raise _Odd
        self._at += length
        return _utf8(self._data[self._at - length : self._at])

    def rest(self) -> str:
        return _utf8(self._data[self._at :])


class _Reader:
    """Looks into sections as long as the bounds allow it."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._left = _MAX_CONTENTS
        self.complete = True
        self.producers: list[Producer] = []
        self.annotations: dict[str, str] = {}

    def items(self, section: Section, read: Callable[[_Cursor], Item]) -> Iterator[Item]:
        """The entries of a vector, up to the first odd one."""
        try:
            cursor = self._open(section)
            for _ in range(cursor.number()):
                yield read(cursor)
        except _Odd:
            self.complete = False

    def custom(self, section: Section) -> None:
        """Take in a custom section that we know; an odd one says nothing and does no harm."""
        try:
            if section.name == "producers":
                self.producers += _producers(self._open(section))
            elif section.name in _ANNOTATIONS and section.size <= _MAX_TEXT:
                cursor = self._open(section)
                cursor.name()
                text = cursor.rest()
                if text.isprintable() and text:
                    self.annotations.setdefault(f"org.opencontainers.image.{_ANNOTATIONS[section.name]}", text)
        except _Odd:
            return

    def _open(self, section: Section) -> _Cursor:
        if section.size > self._left:
            raise _Odd
        self._left -= section.size
        return _Cursor(bytes(self._data[section.offset : section.offset + section.size]))


def _core_import(cursor: _Cursor) -> Item:
    module, name = cursor.name(), cursor.name()
    kind = _kind(_CORE_KINDS, cursor.byte())
    match kind:
        case "func":
            cursor.number()
        case "table":
            _value_type(cursor)
            _limits(cursor)
        case "memory":
            _limits(cursor)
        case "global":
            _value_type(cursor)
            cursor.byte()
        case _:
            cursor.byte()
            cursor.number()
    return Item(module, name, kind)


def _core_export(cursor: _Cursor) -> Item:
    item = Item("", cursor.name(), _kind(_CORE_KINDS, cursor.byte()))
    cursor.number()
    return item


def _value_type(cursor: _Cursor) -> None:
    if cursor.byte() in {0x63, 0x64}:  # (ref null? heap type)
        cursor.number()


def _limits(cursor: _Cursor) -> None:
    flags = cursor.byte()
    cursor.number()
    if flags & 1:  # a maximum
        cursor.number()
    if flags & 8:  # custom page sizes
        cursor.number()


def _component_import(cursor: _Cursor) -> Item:
    name = _external_name(cursor)
    return Item("", name, _description(cursor))


def _component_export(cursor: _Cursor) -> Item:
    name = _external_name(cursor)
    kind = _kind(_COMPONENT_KINDS, cursor.byte())
    if kind == "core module":
        cursor.byte()  # which sort of core item
    cursor.number()
    if cursor.byte():
        _description(cursor)
    return Item("", name, kind)


def _external_name(cursor: _Cursor) -> str:
    if cursor.byte() > 1:  # 1 was once written for the names of interfaces
        raise _Odd
    return cursor.name()


def _description(cursor: _Cursor) -> str:
    """The kind that an external description tells; its type is passed over."""
    kind = _kind(_COMPONENT_KINDS, cursor.byte())
    match kind:
        case "core module" | "value":
            cursor.byte()
            cursor.number()
        case "type":
            if cursor.byte() == 0:  # equal to a type; else a resource, of which nothing more is said
                cursor.number()
        case _:
            cursor.number()
    return kind


def _producers(cursor: _Cursor) -> list[Producer]:
    cursor.name()
    found = []
    for _ in range(cursor.number()):
        field = cursor.name()
        found += [Producer(field, cursor.name(), cursor.name()) for _ in range(cursor.number())]
    return found


def _kind(kinds: tuple[str, ...], number: int) -> str:
    if number >= len(kinds):
        raise _Odd
    return kinds[number]


def _utf8(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise _Odd from None

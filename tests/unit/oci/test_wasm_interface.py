"""The reader of imports, exports and custom sections: real guests, every kind, and what it does not understand."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import component as wc

from oci.file_bytes import FileBytes
from oci.wasm_binary import InvalidWasm
from oci.wasm_interface import Item, Producer, WasmInterface, read_interface

CORE, COMPONENT = b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0"


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def read_wat(text: str) -> WasmInterface:
    return read_interface(wat(text))


def named(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def section(number: int, contents: bytes) -> bytes:
    """A section of fewer than 128 bytes."""
    return bytes([number, len(contents)]) + contents


def custom(name: str, contents: bytes) -> bytes:
    return section(0, named(name) + contents)


def test_reads_every_kind_of_core_import_and_export() -> None:
    interface = read_wat("""(module
        (import "env" "f" (func (param i32)))
        (import "env" "t" (table 1 2 funcref))
        (import "env" "t64" (table i64 1 externref))
        (import "env" "r" (table 1 (ref null func)))
        (import "env" "m" (memory 1 2 shared))
        (import "env" "m64" (memory i64 1))
        (import "env" "g" (global (mut i64)))
        (import "env" "gr" (global (ref null extern)))
        (import "env" "e" (tag (param i32)))
        (export "f" (func 0)) (export "t" (table 0)) (export "m" (memory 0)) (export "g" (global 0))
        (export "e" (tag 0)))""")
    assert interface.complete
    assert interface.imports == (
        Item("env", "f", "func"),
        Item("env", "t", "table"),
        Item("env", "t64", "table"),
        Item("env", "r", "table"),
        Item("env", "m", "memory"),
        Item("env", "m64", "memory"),
        Item("env", "g", "global"),
        Item("env", "gr", "global"),
        Item("env", "e", "tag"),
    )
    assert [(item.name, item.kind) for item in interface.exports] == [
        ("f", "func"),
        ("t", "table"),
        ("m", "memory"),
        ("g", "global"),
        ("e", "tag"),
    ]
    assert [str(interface.imports[0]), str(interface.exports[0])] == ["env.f", "f"]


def test_reads_every_kind_of_component_import_and_export() -> None:
    interface = read_wat("""(component
        (import "a:b/c@1.0.0" (instance))
        (import "f" (func (param "x" string)))
        (import "r" (type (sub resource)))
        (type $t u32) (import "t" (type (eq $t)))
        (import "c" (component))
        (import "m" (core module))
        (core module $inner (import "hidden" "x" (func)) (func (export "hidden")))
        (component $nested (import "hidden" (func)))
        (export "d:e/f@2.0.0" (instance 0))
        (export "g" (func 0) (func (param "x" string)))
        (export "u" (type 1))
        (export "h" (component 0))
        (export "n" (core module 0)))""")
    assert interface.complete
    assert [(item.name, item.kind) for item in interface.imports] == [
        ("a:b/c@1.0.0", "instance"),
        ("f", "func"),
        ("r", "type"),
        ("t", "type"),
        ("c", "component"),
        ("m", "core module"),
    ]
    assert [(item.name, item.kind) for item in interface.exports] == [
        ("d:e/f@2.0.0", "instance"),
        ("g", "func"),
        ("u", "type"),
        ("h", "component"),
        ("n", "core module"),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "wasi", "role"),
    [
        ("hello.wat", "core module", "wasip1", "command"),
        ("kit_p1.wasm", "core module", "wasip1", "command"),
        ("kit_p2.wasm", "component", "wasip2", "command"),
        ("greeter.wasm", "component", "wasip2", ""),
        ("scalars.wasm", "component", "", ""),
        ("numbers.wat", "core module", "", ""),
    ],
)
def test_reads_real_guests(guest: Callable[[str], Path], name: str, kind: str, wasi: str, role: str) -> None:
    path = guest(name)
    data = path.read_bytes() if path.suffix == ".wasm" else wat(path.read_text())
    interface = read_interface(data)
    assert (interface.kind, interface.wasi, interface.role, interface.complete) == (kind, wasi, role, True)
    assert read_interface(FileBytes(io.BytesIO(data))) == interface


def test_agrees_with_wasmtime_on_a_component_of_a_compiler(guest: Callable[[str], Path]) -> None:
    path = guest("kit_p2.wasm")
    with path.open("rb") as file:
        interface = read_interface(FileBytes(file))
    engine = wasmtime.Engine()
    component = wc.Component(engine, path.read_bytes())
    assert {item.name for item in interface.imports} == set(component.type.imports(engine))
    assert {item.name for item in interface.exports} == set(component.type.exports(engine))


def test_names_the_producers(guest: Callable[[str], Path]) -> None:
    interface = read_interface(guest("greeter.wasm").read_bytes())
    assert Producer("language", "JavaScript", "") in interface.producers
    assert "producers" in interface.custom_sections


@pytest.mark.parametrize(
    ("text", "wasi"),
    [
        ('(module (import "wasi_unstable" "fd_write" (func)))', "wasi_unstable"),
        ('(module (import "env" "x" (func)))', ""),
        ('(component (import "wasi:io/poll@0.2.6" (instance)))', "wasip2"),
        ('(component (import "wasi:cli/run@0.3.0-rc-2025-09-16" (instance)))', "wasip3"),
        ('(component (import "wasi:io/poll@0.2.6" (instance)) (import "wasi:cli/run@0.3.0" (instance)))', "wasip3"),
        ('(component (import "example:thing/x@0.2.0" (instance)))', ""),
    ],
)
def test_tells_the_version_of_wasi(text: str, wasi: str) -> None:
    assert read_wat(text).wasi == wasi


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ('(module (func (export "proxy_abi_version_0_2_1")))', "proxy-wasm"),
        ('(module (func (export "__guest_call")))', "wapc"),
        ('(component (import "x" (instance)) (export "wasi:http/incoming-handler@0.2.0" (instance 0)))', "http"),
        ('(component (import "x" (instance)) (export "wasi:http/handler@0.3.0" (instance 0)))', "http"),
        ('(component (import "x" (instance)) (export "wasi:cli/run@0.2.0" (instance 0)))', "command"),
    ],
)
def test_tells_what_it_is_to_be_run_as(text: str, role: str) -> None:
    assert read_wat(text).role == role


def test_turns_metadata_into_annotations() -> None:
    fields = {
        "authors": "Ann <a@example.org>",
        "description": "A guest",
        "homepage": "https://example.org",
        "licenses": "MIT",
        "revision": "abc",
        "source": "https://example.org/src",
        "version": "1.2.3",
    }
    data = COMPONENT + b"".join(custom(name, text.encode()) for name, text in fields.items())
    assert read_interface(data).annotations == {
        f"org.opencontainers.image.{'url' if name == 'homepage' else name}": text for name, text in fields.items()
    }


@pytest.mark.parametrize(
    "contents", [b"", b"\xff\xfe", b"two\nlines", b"\x1b[31m"], ids=["empty", "not UTF-8", "lines", "escapes"]
)
def test_leaves_out_metadata_that_is_no_plain_text(contents: bytes) -> None:
    interface = read_interface(CORE + custom("description", contents) + custom("version", b"1"))
    assert interface.annotations == {"org.opencontainers.image.version": "1"}
    assert interface.complete


def test_the_first_of_two_metadata_sections_counts() -> None:
    assert read_interface(CORE + custom("version", b"1") + custom("version", b"2")).annotations == {
        "org.opencontainers.image.version": "1"
    }


def test_a_custom_section_called_import_is_no_import() -> None:
    interface = read_interface(CORE + custom("import", b"\1\1a\1b\0\0"))
    assert (interface.imports, interface.complete) == ((), True)


@pytest.mark.parametrize(
    ("data", "imports", "exports"),
    [
        (CORE + section(2, b"\2\1a\1b\0\0\1c\1d\x7f\0"), ["a.b"], []),
        (CORE + section(2, b"\1\1a\1b\0"), [], []),
        (CORE + section(2, b"\1\5a"), [], []),
        (CORE + section(2, b"\1\1\xff\1b\0\0"), [], []),
        (CORE + section(2, b"\xff" * 12), [], []),
        (CORE + section(7, b"\2\1a\0\0\1b\7\0"), [], ["a"]),
        (CORE + section(7, b"\1\1a\0\0") + section(7, b"") + section(7, b"\1\1b\0\0"), [], ["a", "b"]),
        (COMPONENT + section(10, b"\2\0\1a\1\0\2\1b\1\0"), ["a"], []),
        (COMPONENT + section(10, b"\1\1\1a\5\0"), ["a"], []),
        (COMPONENT + section(11, b"\1\0\1a\x09\0\0"), [], []),
    ],
)
def test_shows_what_came_before_the_odd_part(data: bytes, imports: list[str], exports: list[str]) -> None:
    interface = read_interface(data)
    assert [str(item) for item in interface.imports] == imports
    assert [str(item) for item in interface.exports] == exports
    assert interface.complete is (data == COMPONENT + section(10, b"\1\1\1a\5\0"))


def test_does_not_look_into_enormous_sections() -> None:
    contents = b"\x01\x80\x80\x40" + b"a" * (1 << 20)
    size = len(contents)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    interface = read_interface(CORE + section(7, b"\1\1a\0\0") + b"\7" + length + contents)
    assert [item.name for item in interface.exports] == ["a"]
    assert not interface.complete


def test_a_damaged_producers_section_says_nothing() -> None:
    interface = read_interface(CORE + custom("producers", b"\2\1a\1\1b\1c\1x"))
    assert (interface.producers, interface.complete) == ((), True)


@pytest.mark.parametrize("data", [b"", b"\0asm", b"\x7fELF\2\1\1\0", CORE + b"\1\5"])
def test_rejects_what_is_no_whole_binary(data: bytes) -> None:
    with pytest.raises(InvalidWasm):
        read_interface(data)


@settings(max_examples=200)
@given(
    st.sampled_from([CORE, COMPONENT]),
    st.lists(st.tuples(st.sampled_from([0, 2, 7, 10, 11]), st.binary(max_size=60)), max_size=4),
)
def test_random_sections_are_read_or_refused_in_one_line(preamble: bytes, sections: list[tuple[int, bytes]]) -> None:
    data = preamble + b"".join(section(number, contents) for number, contents in sections)
    with suppress(InvalidWasm):
        interface = read_interface(data)
        assert len(interface.imports) + len(interface.exports) <= len(data)
        assert all("\n" not in value for value in interface.annotations.values())


@settings(max_examples=200)
@given(st.integers(0, 5000), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_but_invalid_wasm(at: int, byte: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[at % len(damaged)] = byte
    with suppress(InvalidWasm):
        read_interface(damaged)


SAMPLE = wat("""(component
    (import "wasi:io/poll@0.2.6" (instance)) (import "f" (func (param "x" string)))
    (core module $m (func (export "g"))) (core instance $i (instantiate $m))
    (func $g (canon lift (core func $i "g"))) (export "g" (func $g)))""")

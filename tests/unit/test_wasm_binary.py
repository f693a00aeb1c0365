"""The outline reader of Wasm binaries: what it sees, and the reason it gives for what it refuses."""

import subprocess
import sys
from contextlib import suppress

import pytest
import wasmtime
from hypothesis import example, given
from hypothesis import strategies as st

from oci.wasm_binary import InvalidWasm, Section, inspect, looks_like_wat

MODULE = bytes(wasmtime.wat2wasm('(module $m (memory 1) (func $f (export "f")) (data (i32.const 0) "hello"))'))
COMPONENT = bytes(
    wasmtime.wat2wasm('(component (core module $m (func (export "f"))) (core instance $i (instantiate $m)))')
)
CORE_PREAMBLE, COMPONENT_PREAMBLE = b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0"


def reason(data: bytes) -> str:
    """Why these bytes are refused."""
    with pytest.raises(InvalidWasm) as caught:
        inspect(data)
    return str(caught.value)


def test_lists_sections_of_a_core_module() -> None:
    binary = inspect(MODULE)
    assert (binary.kind, binary.version) == ("core module", 1)
    assert [section.name for section in binary.sections] == [
        "type", "function", "memory", "export", "code", "data", "name",
    ]  # fmt: skip
    data = binary.sections[5]
    assert MODULE[data.offset : data.offset + data.size].endswith(b"hello")


def test_lists_sections_of_a_component_without_descending() -> None:
    binary = inspect(COMPONENT)
    assert (binary.kind, binary.version) == ("component", 13)
    assert [section.name for section in binary.sections] == ["core module", "core instance", "component-name"]
    nested = binary.sections[0]
    assert inspect(memoryview(COMPONENT)[nested.offset : nested.offset + nested.size]).kind == "core module"


def test_accepts_a_preamble_alone() -> None:
    assert inspect(CORE_PREAMBLE).sections == ()
    assert inspect(COMPONENT_PREAMBLE).sections == ()


def test_accepts_padded_sizes_as_linkers_write_them() -> None:
    assert inspect(CORE_PREAMBLE + b"\x01\x81\x80\x80\x80\x00\x00").sections == (Section(1, "type", 14, 1),)


@pytest.mark.parametrize("binary", [MODULE, COMPONENT], ids=["core module", "component"])
def test_every_cut_is_refused_unless_it_falls_between_sections(binary: bytes) -> None:
    whole = inspect(binary).sections
    ends = {8} | {section.offset + section.size for section in whole}
    for length in range(len(binary)):
        if length in ends:
            assert inspect(binary[:length]).sections == tuple(s for s in whole if s.offset + s.size <= length)
        elif length:
            assert reason(binary[:length]).startswith("truncated: ")


def test_names_the_section_and_the_missing_bytes_of_a_cut_file() -> None:
    code = next(section for section in inspect(MODULE).sections if section.name == "code")
    start = code.offset - 2
    cut = MODULE[: code.offset + code.size - 3]
    assert reason(cut) == (
        f"truncated: the code section at offset {start} has {code.size} bytes, of which 3 are missing"
    )
    assert reason(MODULE[: start + 1]) == (
        f"truncated: the size of the code section at offset {start} is cut off; at least 1 byte is missing"
    )
    assert reason(b"\0asm\1") == "truncated: the Wasm header lacks 3 bytes"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (b"\x01\x80\x80\x80\x80\x80\x00", "damaged: the size of the type section at offset 8 takes more than 32 bits"),
        (b"\x01\x80\x80\x80\x80\x10", "damaged: the size of the type section at offset 8 takes more than 32 bits"),
        (b"\x20\x00", "unknown section id 32 at offset 8; the file is damaged or newer than we know"),
        (b"\x00\x00", "the length of the name of the custom section at offset 8 is cut off"),
        (b"\x00\x01\x80\x01\x00", "damaged: the length of the name of the custom section at offset 8 is cut off"),
        (b"\x00\x02\x05a", "the name of the custom section at offset 8 has 5 bytes and the section only 1 more"),
        (b"\x00\x02\x01\xff", "damaged: the name of the custom section at offset 8 is not UTF-8"),
    ],
)
def test_rejects_damaged_sections(section: bytes, expected: str) -> None:
    assert expected in reason(CORE_PREAMBLE + section)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\0asm\x0a\0\1\0", "a component of the binary version 10, from a preview of the component model"),
        (b"\0asm\2\0\0\0", "unknown Wasm version 2, layer 0"),
        (b"\0asm\1\0\2\0", "unknown Wasm version 1, layer 2"),
    ],
)
def test_rejects_other_versions(header: bytes, expected: str) -> None:
    assert expected in reason(header)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x7fELF\2\1\1\0", "a native program (ELF)"),
        (b"#!/bin/sh\n", "a script"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"app.wasm".ljust(257, b"\0") + b"ustar\0", "a tar archive"),
        (b" <!DOCTYPE html>", "an HTML page"),
        (b"import fs from 'fs'", "JavaScript"),
        (b"(module)", "WebAssembly text"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"\xca\xfe", "something unknown"),
    ],
)
def test_names_common_mistakes(data: bytes, expected: str) -> None:
    text = reason(data)
    assert text.startswith(f"not Wasm but {expected}")
    assert text.endswith(f"(it begins with {data[:8].hex(' ')})")


def test_tells_precompiled_code_from_other_elf_files() -> None:
    precompiled = bytes(wasmtime.Module(wasmtime.Engine(), MODULE).serialize())
    assert "wasmtime precompiled (.cwasm); give the .wasm file" in reason(precompiled)


def test_rejects_an_empty_file() -> None:
    assert reason(b"") == "the file is empty"


@pytest.mark.parametrize(
    "text",
    [
        b"(module)",
        b"\n ;; a comment\n(module $m)",
        b"(; block (; nested ;) ;)(;;)( ;; and\n component)",
        b'(func (export "f"))',
    ],
)
def test_recognises_wat(text: bytes) -> None:
    assert looks_like_wat(text)


@pytest.mark.parametrize(
    "text", [b"", b"(", b";; only a comment", b"(; open (; (module)", b"(defun f ())", b"module", MODULE, b"(modules)"]
)
def test_does_not_take_other_bytes_for_wat(text: bytes) -> None:
    assert not looks_like_wat(text)


binaries = st.binary() | st.builds(bytes.__add__, st.sampled_from([CORE_PREAMBLE, COMPONENT_PREAMBLE]), st.binary())


@given(binaries)
@example(CORE_PREAMBLE + b"\x00\x05\xff\xff\xff\xff\x0f")
def test_random_bytes_raise_nothing_but_invalid_wasm(data: bytes) -> None:
    looks_like_wat(data)
    with suppress(InvalidWasm):
        assert sum(section.size for section in inspect(data).sections) < len(data)


@given(binaries)
def test_reasons_are_one_line(data: bytes) -> None:
    try:
        inspect(data)
    except InvalidWasm as error:
        lines = str(error).splitlines()
    else:
        lines = [""]
    assert len(lines) == 1


def test_loads_nothing_heavy() -> None:
    script = "import sys, oci.wasm_binary; print(*{'dataclasses', 'inspect', 'pathlib', 'json'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_rejects_more_sections_and_longer_names_than_could_be_meant() -> None:
    assert "100001 sections and more" in reason(CORE_PREAMBLE + b"\x01\x00" * 100_001)
    name = 400_000
    length = bytes([name & 0x7F | 0x80, name >> 7 & 0x7F | 0x80, name >> 14])
    size = name + len(length)
    custom = b"\0" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + length + b"a" * name
    assert len(inspect(CORE_PREAMBLE + custom * 2).sections) == 2
    assert "3 sections and more" in reason(CORE_PREAMBLE + custom * 3)


def test_rejects_a_name_that_fills_the_memory() -> None:
    number = bytes([0x80, 0x80, 0x80, 0x01])  # 2 MiB
    size = bytes([0x84, 0x80, 0x80, 0x01])
    assert "has 2097152 bytes" in reason(CORE_PREAMBLE + b"\0" + size + number + bytes(2 << 20))

"""Programs that cannot be run: one line with the cause, the right exit code, and nothing left behind."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from oci.wasm_binary import inspect
from tests.conftest import User
from tests.integration.support import (
    Environment,
    compiled_programs,
    leftovers,
    refusal,
    refused,
    wasm_shim,
)

Guest = Callable[[str], Path]

CANNOT_RUN, NOT_THERE = 126, 127

NO_PROGRAMS = {
    "empty": (b"", "empty"),
    "one byte": (b"\0", "truncated"),
    "half a magic number": (b"\0as", "truncated"),
    "header cut off": (b"\0asm\1\0", "truncated"),
    "unknown version": (b"\0asm\2\0\0\0", "version 2"),
    "old component": (b"\0asm\x0a\0\1\0", "version 10"),
    "text": (b"hello, world\n", "not Wasm"),
    "binary": (bytes(range(128, 256)), "not Wasm"),
    "native program": (b"\x7fELF\2\1\1" + bytes(100), "ELF"),
    "script": (b"#!/bin/sh\necho\n", "script"),
    "archive": (b"\x1f\x8b\x08\x00" + bytes(100), "gzip"),
    "web page": (b"<!DOCTYPE html><html></html>", "HTML"),
    "text form with a fault": (b"(module\n  (fnc))", "line 2"),
    "text form that is not closed": (b"(module", "line 1"),
    "text form that is not UTF-8": (b'(module (data "\xff"))', "not UTF-8"),
    "section of an unknown kind": (b"\0asm\1\0\0\0\x63\0", "unknown section"),
    "section too long": (b"\0asm\1\0\0\0\1\x05\0", "truncated"),
    "sections in the wrong order": (b"\0asm\1\0\0\0\3\1\0\1\1\0", "order"),
}

CANNOT_LINK = {
    "module of a component": (
        '(module (import "wasi:cli/environment@0.2.0" "get-arguments" (func (param i32)))'
        ' (memory (export "memory") 1) (func (export "_start")))',
        ["core module built for a component", "wasm-tools component new"],
    ),
    "module of a component, exporting run": (
        '(module (memory (export "memory") 1) (func (export "wasi:cli/run@0.2.0#run") (result i32) i32.const 0))',
        ["core module built for a component", "wasm-tools component new"],
    ),
    "unknown function": (
        '(module (import "env" "launch" (func (param i32))) (func (export "_start")))',
        ["env.launch"],
    ),
    "unknown function of WASI": (
        '(module (import "wasi_snapshot_preview1" "fd_fly" (func)) (func (export "_start")))',
        ["wasi_snapshot_preview1.fd_fly"],
    ),
    "wrong type of a WASI function": (
        '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))',
        ["fd_write"],
    ),
    "WASI before 0.1": (
        '(module (import "wasi_snapshot_preview0" "fd_write" (func)) (func (export "_start")))',
        ["wasi_snapshot_preview0.fd_write"],
    ),
    "imported memory": ('(module (import "env" "memory" (memory 1)) (func (export "_start")))', ["env.memory"]),
    "unknown interface": (
        '(component (import "example:missing/thing@1.0.0" (instance (export "use-it" (func)))))',
        ["example:missing/thing@1.0.0"],
    ),
    "WASI of the future": (
        '(component (import "wasi:cli/environment@0.3.0" (instance (export "get-all" (func)))))',
        ["wasi:cli/environment@0.3.0", "build it for WASI 0.2"],
    ),
    "no command in a module": (
        '(module (func (export "twice") (param i32)))',
        ["_start", "--invoke", "twice: func(i32)"],
    ),
    "_start of another type": ('(module (func (export "_start") (param i32)))', ["_start"]),
    "no exports": ("(module)", ["_start"]),
    "no command in a component": ("(component)", ["wasi:cli/run"]),
}


@pytest.mark.parametrize("kind", NO_PROGRAMS)
@pytest.mark.parametrize("verb", ["run", "wit", "compile"])
def test_what_is_no_program_is_refused(home: Environment, tmp_path: Path, kind: str, verb: str) -> None:
    """What is no Wasm is 126, and the message tells what it is; nothing of it reaches the cache."""
    content, reason = NO_PROGRAMS[kind]
    program = tmp_path / "program.wasm"
    program.write_bytes(content)
    said = refused(home, CANNOT_RUN, verb, program)
    assert reason in said
    assert program.name in said
    assert compiled_programs(home) == set()


@pytest.mark.parametrize("name", ["kit_p1.wasm", "exit_with_code.wat"])
def test_program_cut_at_every_section_is_refused(home: Environment, guest: Guest, tmp_path: Path, name: str) -> None:
    """A program that ends in or between sections is 126, unless all its functions and exports are there."""
    whole = bytes(wasmtime.wat2wasm(guest(name).read_text())) if name.endswith(".wat") else guest(name).read_bytes()
    sections = inspect(whole).sections
    last = max(section.offset + section.size for section in sections if section.name in ("code", "export"))
    places = {8} | {section.offset + by for section in sections for by in (-1, 0, 1)}
    places |= {section.offset + section.size + by for section in sections for by in (-1, 0)}
    ends = {section.offset + section.size for section in sections}
    program = tmp_path / "cut.wasm"
    for place in sorted(places - {end for end in ends if end >= last}):
        program.write_bytes(whole[:place])
        done = wasm_shim(home, "run", "--rm", program)
        assert program.name in refusal(done)
        assert (done.returncode, done.stdout) == (CANNOT_RUN, ""), place
    assert leftovers(home) == []


@pytest.mark.parametrize("name", ["kit_p1.wasm", "fraction.wasm"])
def test_program_with_a_damaged_section_is_refused(home: Environment, guest: Guest, tmp_path: Path, name: str) -> None:
    """A program one of whose sections holds nonsense is 126."""
    whole = guest(name).read_bytes()
    program = tmp_path / "damaged.wasm"
    for section in inspect(whole).sections:
        if section.id:
            nonsense = b"\xff" * section.size
            program.write_bytes(whole[: section.offset] + nonsense + whole[section.offset + section.size :])
            done = wasm_shim(home, "run", "--rm", program)
            assert program.name in refusal(done)
            assert (done.returncode, done.stdout) == (CANNOT_RUN, ""), section
    assert compiled_programs(home) == set()
    assert leftovers(home) == []


@pytest.mark.parametrize("kind", CANNOT_LINK)
def test_program_that_does_not_fit_is_refused(home: Environment, tmp_path: Path, kind: str) -> None:
    """A program that needs or lacks something is 126, and the message names that."""
    text, reasons = CANNOT_LINK[kind]
    program = tmp_path / "program.wasm"
    program.write_bytes(wasmtime.wat2wasm(text))
    for _ in range(2):  # compiled by the first run, found in the cache by the second
        said = refused(home, CANNOT_RUN, "run", "--name", "n", program)
        assert all(reason in said for reason in reasons), said


def test_precompiled_code_is_refused(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """Native code, even our own, is never run as a program: it could be anything."""
    wasm_shim(home, "compile", guest("kit_p1.wasm"), guest("kit_p2.wasm"))
    for code in compiled_programs(home):
        for program in (code, tmp_path / "renamed.wasm"):
            program.write_bytes(code.read_bytes())
            assert "precompiled" in refused(home, CANNOT_RUN, "run", "--rm", program)


@pytest.mark.parametrize("image", ["none.wasm", "./none", "../none", "/none/at/all.wat", "none/at/all.wasm"])
def test_missing_program_is_127(home: Environment, tmp_path: Path, image: str) -> None:
    """A program that is not there is 127, and the message names it as it was given, or where it was looked for."""
    assert Path(image).name in refused(home, NOT_THERE, "run", "--rm", image, cwd=tmp_path)


def test_path_through_a_file_is_127(home: Environment, guest: Guest) -> None:
    """A path that goes on behind a file names nothing."""
    refused(home, NOT_THERE, "run", "--rm", guest("hello.wat") / "more.wasm")


def test_what_is_no_regular_file_is_126(home: Environment, tmp_path: Path) -> None:
    """A directory, a FIFO, a device and a socket are refused at once, and nothing waits for them."""
    fifo, address = tmp_path / "fifo.wasm", tmp_path / "socket.wasm"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        for program in (tmp_path, fifo, address, Path("/dev/null"), Path("/dev/zero"), Path("/")):
            assert str(program) in refused(home, CANNOT_RUN, "run", "--rm", program)


def test_loop_of_links_is_126(home: Environment, tmp_path: Path) -> None:
    """A symbolic link to itself cannot be read."""
    loop = tmp_path / "loop.wasm"
    loop.symlink_to(loop)
    refused(home, CANNOT_RUN, "run", "--rm", loop)


def test_unreadable_program_is_126(ordinary_user: User, guest: Guest) -> None:
    """A program that the user may not read is 126, and the message says so."""
    program = Path(ordinary_user.environment["HOME"]) / "secret.wasm"
    program.write_bytes(guest("kit_p1.wasm").read_bytes())
    program.chmod(0)
    os.chown(program, ordinary_user.uid, -1)
    options = ordinary_user.popen_options()
    said = refused(ordinary_user.environment, CANNOT_RUN, "run", "--rm", program, **options)
    assert "permission denied" in said


@pytest.mark.parametrize(
    ("call", "code", "reasons"),
    [
        ("gone()", NOT_THERE, ["gone", "divide: func(i32, i32) -> (i32, i32)", "nothing: func()"]),
        ("answer()", NOT_THERE, ["answer"]),  # a global
        ("add_i64(1)", CANNOT_RUN, ["2 arguments, not 1", "add_i64: func(i64, i64) -> i64"]),
        ("nothing(1)", CANNOT_RUN, ["0 arguments, not 1", "nothing: func()"]),
        ("echo_i64()", CANNOT_RUN, ["1 argument, not 0", "echo_i64: func(i64) -> i64"]),
        ("echo_i64(1.5)", CANNOT_RUN, ["1.5 is no i64", "echo_i64: func(i64) -> i64"]),
        ('echo_i64("1")', CANNOT_RUN, ['"1" is no i64']),
        ("echo_i64(18446744073709551616)", CANNOT_RUN, ["echo_i64: func(i64) -> i64"]),
        ("divide(4294967296, 1)", CANNOT_RUN, ["4294967296 is no i32", "divide: func(i32, i32)"]),
        ("echo_f64(one)", CANNOT_RUN, ["one is no f64"]),
        ("take_reference(1)", CANNOT_RUN, ["take_reference"]),
        ("echo_i64(1", CANNOT_RUN, ["cannot read the call"]),
        ("echo_i64 1", CANNOT_RUN, ["cannot read the call"]),
        ("add_i64(1 2)", CANNOT_RUN, ["cannot read the call", "commas"]),
        ("add_i64(1,)", CANNOT_RUN, ["cannot read the call", "comma"]),
        ("(1)", CANNOT_RUN, ["cannot read the call"]),
        (" ", CANNOT_RUN, ["cannot read the call"]),
    ],
)
def test_call_that_does_not_fit_is_refused(
    home: Environment, guest: Guest, call: str, code: int, reasons: list[str]
) -> None:
    """A call of what is not there is 127 with a list of what is; one that does not fit 126 with the signature."""
    said = refused(home, code, "run", "--rm", "--invoke", call, guest("numbers.wat"))
    assert all(reason in said for reason in reasons), said


@pytest.mark.parametrize(
    ("call", "reasons"),
    [
        ("echo-s8(128)", ["128 is no s8", "-128 to 127", "echo-s8: func(x: s8) -> s8"]),
        ("echo-u8(-1)", ["-1 is no u8", "0 to 255"]),
        ("echo-bool(1)", ["true or false"]),
        ("shout(hello)", ['"hello"', "shout: func(s: string) -> string"]),
        ('shout("hello)', ["cannot read the call"]),
        ('shout("\\q")', ["escape"]),
        ("echo-char('ab')", ["is no char"]),
        ("echo-char('')", ["char"]),
    ],
)
def test_call_of_a_component_that_does_not_fit_is_refused(
    home: Environment, guest: Guest, call: str, reasons: list[str]
) -> None:
    """Values outside of a WIT type's range, or written wrong, are 126 with the signature."""
    said = refused(home, CANNOT_RUN, "run", "--rm", "--invoke", call, guest("scalars.wasm"))
    assert all(reason in said for reason in reasons), said

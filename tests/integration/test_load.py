"""The Python API: exported functions as Python functions, in a program of its own each."""

from __future__ import annotations

import pydoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import wasm_shim
from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied, WasmShimError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
  (func (export "leave") (param i32) (call $exit (local.get 0))))"""
REACTOR = """(module (global $g (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $g (i32.const 42))) (func (export "get") (result i32) (global.get $g)))"""


@pytest.fixture(autouse=True)
def private_cache(home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are compiled into a cache of this test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", home["XDG_CACHE_HOME"])


@pytest.fixture
def load(guest: Callable[[str], Path]) -> Callable[[str], Any]:
    """Load a guest by name; of no type that a checker knows, as for users."""
    return lambda name: wasm_shim.load(guest(name))


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str], Any]:
    """Load WebAssembly text."""

    def load(source: str) -> Any:
        path = tmp_path / "text.wat"
        path.write_text(source)
        return wasm_shim.load(path)

    return load


@pytest.mark.parametrize("name", ["addition.wasm", "addition.wat"])
def test_adds(load: Callable[[str], Any], name: str) -> None:
    """The example of the README: a component and a core module, in binary and in text."""
    program = load(name)
    assert program.add(27, 6) == 33
    assert program["sub"](27, 6) == 21
    assert program.add(-(1 << 31), 0) == -(1 << 31)


def test_path_may_be_text_or_path(guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a str or any os.PathLike, absolute or not."""
    path = guest("addition.wat")
    monkeypatch.chdir(path.parent)
    for given in (path, str(path), path.name, Path(path.name)):
        assert wasm_shim.load(given).add(1, 1) == 2


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("echo_bool", True), ("echo_s8", -128), ("echo_u8", 255), ("echo_s16", -32768), ("echo_u16", 65535),
        ("echo_s32", -1), ("echo_u32", (1 << 32) - 1), ("echo_s64", -(1 << 63)), ("echo_u64", (1 << 64) - 1),
        ("echo_f32", 0.5), ("echo_f64", 0.1), ("echo_char", "😀"), ("echo_string", ""), ("echo_string", "a\0ü😀\n"),
    ],
)  # fmt: skip
def test_scalars(load: Callable[[str], Any], function: str, value: object) -> None:
    """Every scalar and strings go there and back; dashes in names are underscores."""
    assert getattr(load("scalars.wasm"), function)(value) == value


def test_strings_and_nothing(load: Callable[[str], Any]) -> None:
    """Functions take several strings and numbers, or nothing, and may return nothing."""
    program = load("scalars.wasm")
    assert program.shout("loud ü") == "LOUD ü"
    assert program.mix(7, 2.5, "words") == "7 2.500 words"
    assert program.nothing() is None


def test_records(load: Callable[[str], Any]) -> None:
    """Records have their fields as attributes and can be passed on, also those of an exported interface."""
    program = load("fraction.wasm")
    half = program.new(2, 4)
    assert (half.numerator, half.denominator) == (1, 2)
    one = program.add(half, half)
    assert (one.numerator, one.denominator) == (1, 1)
    ops = program["example:fraction/ops#new"](6, -8)
    assert (ops.numerator, ops.denominator) == (-3, 4)


def test_several_results(load: Callable[[str], Any]) -> None:
    """A core function with two results returns both."""
    assert list(load("numbers.wat").divide(-7, 2)) == [-3, -1]


def test_instances_are_independent(text: Callable[[str], Any]) -> None:
    """Loading twice gives two instances; a reactor is initialized first."""
    assert text(REACTOR).get() == text(REACTOR).get() == 42


# Traps and exits


@pytest.mark.parametrize(("name", "inner"), [("scalars.wasm", "fail_inside"), ("numbers.wat", "inner")])
def test_trap_names_its_functions(load: Callable[[str], Any], name: str, inner: str) -> None:
    """A trap is an exception whose text says why and has the names of the program's functions."""
    with pytest.raises(wasm_shim.Trap, match=inner) as trap:
        load(name).fail()
    assert "unreachable" in str(trap.value)


def test_trap_on_division(load: Callable[[str], Any]) -> None:
    """So is a division by zero, after which a core module goes on."""
    program = load("numbers.wat")
    with pytest.raises(wasm_shim.Trap, match="integer divide by zero"):
        program.divide(1, 0)
    assert list(program.divide(1, 1)) == [1, 0]


@pytest.mark.parametrize("code", [0, 1, 125, 126, 255])
def test_exit_has_its_code(text: Callable[[str], Any], code: int) -> None:
    """A program that exits raises Exit with its code, and ends nothing else."""
    with pytest.raises(wasm_shim.Exit, match=f"exited with status {code}$") as end:
        text(EXIT).leave(code)
    assert end.value.code == code


def test_start_that_traps(text: Callable[[str], Any]) -> None:
    """A trap while loading is a trap."""
    with pytest.raises(wasm_shim.Trap, match="unreachable"):
        text("(module (func $s unreachable) (start $s))")


# What is refused


def test_rejects_a_missing_export(load: Callable[[str], Any]) -> None:
    """A name that is not exported is an AttributeError, or a KeyError, with what there is."""
    program = load("addition.wasm")
    with pytest.raises(AttributeError, match=r"exports no function mul; its functions: add: func\(a: s32, b: s32\)"):
        program.mul(1, 2)
    with pytest.raises(KeyError, match="no exported function mul"):
        program["mul"]
    assert not hasattr(program, "__wrapped__")
    assert not hasattr(load("numbers.wat"), "answer")  # a global


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
@pytest.mark.parametrize("name", ["addition.wasm", "addition.wat"])
def test_rejects_a_wrong_count(load: Callable[[str], Any], name: str, arguments: tuple[int, ...]) -> None:
    """Too few and too many arguments are a TypeError with the signature."""
    with pytest.raises(TypeError, match=rf"add takes 2 arguments, not {len(arguments)}: add: func\("):
        load(name).add(*arguments)


@pytest.mark.parametrize(
    ("name", "function", "value", "kind"),
    [
        ("scalars.wasm", "echo_s32", "1", TypeError),
        ("scalars.wasm", "echo_string", 1, TypeError),
        ("scalars.wasm", "echo_char", "ab", TypeError),
        ("scalars.wasm", "echo_bool", 2, TypeError),
        ("numbers.wat", "echo_i64", "x", TypeError),
        ("scalars.wasm", "echo_u8", 256, OverflowError),
        ("scalars.wasm", "echo_u8", -1, OverflowError),
        ("scalars.wasm", "echo_s64", 1 << 63, OverflowError),
        ("numbers.wat", "echo_i64", 1 << 64, OverflowError),
        ("scalars.wasm", "echo_string", "\ud800", UnicodeEncodeError),
    ],
)
def test_rejects_wrong_values(
    load: Callable[[str], Any], name: str, function: str, value: object, kind: type[Exception]
) -> None:
    """A value of another type or out of its type's range is refused, never cut."""
    with pytest.raises(kind):
        getattr(load(name), function)(value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\0asm\x01\0\0\0\x01", "truncated"),
        (b"#!/bin/sh\n", "a script"),
        (b"(module (", "expected"),
        (b'(module (import "env" "f" (func)))', r"it imports env\.f, which no host interface provides"),
    ],
)
def test_rejects_bad_programs(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that is no program, or cannot be linked, is InvalidArgument with its reason."""
    path = tmp_path / "bad.wasm"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=sentence):
        wasm_shim.load(path)


def test_rejects_bad_paths(tmp_path: Path) -> None:
    """What is not there is NotFound, a directory PermissionDenied; both are WasmShimErrors."""
    for path, kind in ((tmp_path / "none.wasm", NotFound), (tmp_path, PermissionDenied)):
        with pytest.raises(kind, match=str(path)) as refusal:
            wasm_shim.load(path)
        assert isinstance(refusal.value, WasmShimError)


def test_rejects_programs_that_need_a_network(load: Callable[[str], Any]) -> None:
    """A loaded program gets no network; one that asks for it is sent to `run`."""
    with pytest.raises(InvalidArgument, match="programs that are loaded get no network; start it with wasm-shim run"):
        load("greeter.wasm")


# Nothing is granted


def test_program_sees_nothing_of_ours(load: Callable[[str], Any], capfd: pytest.CaptureFixture[str]) -> None:
    """A command that is loaded has no arguments, no variables, no files and no stdout."""
    load("hello.wat")._start()
    assert capfd.readouterr().out == ""


# For people at a prompt


def test_functions_have_help(load: Callable[[str], Any]) -> None:
    """help() and dir() know the functions and their signatures."""
    program = load("addition.wasm")
    assert dir(program) == ["add", "sub"]
    assert program.add.__doc__ == "add: func(a: s32, b: s32) -> s32"
    assert program.add.__name__ == "add"
    assert "add: func(a: s32, b: s32) -> s32" in pydoc.plain(pydoc.render_doc(program.add))
    assert {"echo_string", "shout"} <= set(dir(load("scalars.wasm")))


def test_package_offers_three_names() -> None:
    """load, Trap and Exit, and an AttributeError for anything else."""
    assert wasm_shim.__all__ == ["Exit", "Trap", "load"]
    with pytest.raises(AttributeError, match="module 'wasm_shim' has no attribute 'nonsense'"):
        wasm_shim.nonsense  # noqa: B018 - looking is the test


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_loading_leaves_nothing_open(guest: Callable[[str], Path]) -> None:
    """Loading leaves no descriptor but the program's own, and those go with the program."""
    path = guest("addition.wat")
    wasm_shim.load(path)
    before = descriptors()
    for _ in range(5):
        wasm_shim.load(path)
    assert descriptors() == before

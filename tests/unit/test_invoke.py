"""Calls from text: what is read, what is refused, and that values pass the engine unharmed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import struct
from ctypes import byref, c_void_p
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wasm_shim.errors import InvalidArgument
from wasm_shim.kernel.machine import Machine
from wasm_shim.runtime import invoke
from wasm_shim.runtime.binding import INSTANCE_SIZE, VAL_SIZE, VALUE_OFFSET
from wasm_shim.runtime.cache import ProgramCache
from wasm_shim.runtime.called import CalledFunction, Caller, PreparedCall, checked_call
from wasm_shim.runtime.compile import compile_now
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.host import Host
from wasm_shim.runtime.invoke import Call, check, parse, render
from wasm_shim.runtime.program import CORE, SCALARS, Function, Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INTEGERS = {f"{sign}{bits}": (-(1 << bits - 1) if sign == "s" else 0, (1 << bits - (sign == "s")) - 1)
            for sign in "su" for bits in (8, 16, 32, 64)}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "f32": st.floats(width=32),
    "f64": st.floats(),
    "char": st.characters(exclude_categories=["Cs"]),
    "string": st.text(max_size=50),
    **{kind: st.integers(low, high) | st.sampled_from([low, high]) for kind, (low, high) in INTEGERS.items()},
}
CORE_VALUES = {
    "i64": st.integers(-(1 << 63), (1 << 63) - 1),
    "f32": VALUES["f32"],
    "f64": VALUES["f64"],
}


class Loaded(NamedTuple):
    """A program that is mapped here."""

    program: Program
    pointer: int


class Engine:
    """One program, loaded and called as a guest's process does it, without WASI."""

    def __init__(self, host: Host, path: Path, cache: ProgramCache) -> None:
        compiled = compile_now(cache, str(path))
        self.host, self.library = host, host.library
        self.loaded = Loaded(compiled.program, host.load(compiled.path, compiled.program.kind))
        self.store = self.library.wasmtime_store_new(host.engine, None, None)
        self.context = self.library.wasmtime_store_context(self.store)
        self.instance = ctypes.create_string_buffer(INSTANCE_SIZE)
        pointer, trap = self.loaded.pointer, c_void_p()
        if self.loaded.program.kind == CORE:
            arguments: tuple[Any, ...] = (host.core_linker, self.context, pointer, self.instance, byref(trap))
            self.library.check(self.library.wasmtime_linker_instantiate(*arguments))
        else:
            arguments = (host.component_linker, self.context, pointer, self.instance)
            self.library.check(self.library.wasmtime_component_linker_instantiate(*arguments))

    def call(self, text: str) -> str:
        """The line that --invoke would print."""
        program = self.loaded.program
        function, values = checked_call(text, program)
        prepared = PreparedCall(function, values, program.kind)
        if self.loaded.program.kind == CORE:
            self._call_core(function.name.encode(), prepared)
        else:
            called = CalledFunction.of(program, function, values)
            caller = Caller(self.host, called, self.loaded.pointer)
            entry = caller._component_function(self.context, self.instance, function.name)
            self.library.check(
                self.library.wasmtime_component_func_call(entry, self.context, *prepared.buffers())
            )
        kind, results = self.loaded.program.kind, prepared.buffers()[2]
        return render([(name, invoke.unpack(name, kind, results, i)) for i, name in enumerate(function.results)])

    def _call_core(self, name: bytes, prepared: PreparedCall) -> None:
        export, trap = ctypes.create_string_buffer(VAL_SIZE), c_void_p()
        found = self.library.wasmtime_instance_export_get(self.context, self.instance, name, len(name), export)
        assert found
        function = byref(export, VALUE_OFFSET)
        self.library.check(
            self.library.wasmtime_func_call(self.context, function, *prepared.buffers(), byref(trap))
        )
        assert not trap.value


@pytest.fixture(scope="module")
def engine(guest: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Engine]:
    """The engine with a guest loaded, by the guest's name."""
    host, cache = Host(Machine()), ProgramCache(str(tmp_path_factory.mktemp("cache") / "programs"), engine_id())
    loaded: dict[str, Engine] = {}

    def load(name: str) -> Engine:
        if name not in loaded:
            loaded[name] = Engine(host, guest(name), cache)
        return loaded[name]

    return load


def written(kind: str, value: Any) -> str:
    return render([(kind, value)])


def same(kind: str, one: Any, other: Any) -> bool:
    """Equal as values of this type: one NaN is like another, and zeros have signs."""
    if kind not in ("f32", "f64"):
        return bool(one == other)
    form = kind[0] if kind == "f32" else "d"
    return (math.isnan(one) and math.isnan(other)) or struct.pack(form, one) == struct.pack(form, other)


@pytest.mark.parametrize("kind", sorted(VALUES))
@given(st.data())
def test_components_echo_every_scalar(engine: Callable[[str], Engine], kind: str, data: st.DataObject) -> None:
    """What is written is what the component gets, and what it returns is written the same way."""
    text = written(kind, data.draw(VALUES[kind]))
    assert engine("scalars.wasm").call(f"echo-{kind}({text})") == text


@pytest.mark.parametrize("kind", sorted(CORE_VALUES))
@given(st.data())
def test_core_modules_echo_every_number(engine: Callable[[str], Engine], kind: str, data: st.DataObject) -> None:
    """The same for the number types of core modules."""
    text = written(kind, data.draw(CORE_VALUES[kind]))
    assert engine("numbers.wat").call(f"echo_{kind}({text})") == text


@pytest.mark.parametrize("kind", sorted(VALUES))
@given(st.data())
def test_rendered_values_read_back(kind: str, data: st.DataObject) -> None:
    """Reading what was rendered gives the same value."""
    value = data.draw(VALUES[kind])
    function = Function("f", (("x", kind),), ())
    (back,) = check(parse(f"f({written(kind, value)})"), function)
    assert same(kind, value, back)


@pytest.mark.parametrize(
    ("program", "text", "result"),
    [
        ("numbers.wat", "divide(-7, 2)", "(-3, -1)"),
        ("numbers.wat", "nothing", ""),
        ("numbers.wat", "nothing()", ""),
        ("numbers.wat", "add_i64(0xffffffffffffffff, 2)", "1"),
        ("numbers.wat", "add_i64(-0x10, +1)", "-15"),
        ("numbers.wat", "add_f32(0.1, 0.2)", "0.3"),
        ("numbers.wat", "add_f64(0.1, 0.2)", "0.30000000000000004"),
        ("numbers.wat", "add_f32(1e39, 0)", "inf"),
        ("numbers.wat", "add_f32(-1e39, 0)", "-inf"),
        ("numbers.wat", "add_f64(inf, -inf)", "nan"),
        ("numbers.wat", "echo_f64(-0)", "-0"),
        ("numbers.wat", "echo_f64(-1)", "-1"),
        ("numbers.wat", "echo_f64(.5)", "0.5"),
        ("addition.wat", " add ( 27 ,\n6 ) ", "33"),
        ("addition.wat", "sub(4294967295, 1)", "-2"),
        ("scalars.wasm", 'shout("straße \\"x\\"")', '"STRAßE \\"X\\""'),
        ("scalars.wasm", 'mix(7, 2.5, "a, b)")', '"7 2.500 a, b)"'),
        ("scalars.wasm", 'echo-string("\\u{1F600}\\n\\t\\r\\\\\\u{0}")', '"😀\\n\\t\\r\\\\\\u{0}"'),
        ("scalars.wasm", "echo-string(\"it's\")", '"it\'s"'),
        ("scalars.wasm", "echo-char('\"')", "'\"'"),
        ("scalars.wasm", "echo-char('\\'')", "'\\''"),
        ("scalars.wasm", 'echo-string("")', '""'),
        ("scalars.wasm", "nothing()", ""),
    ],
)
def test_calls(engine: Callable[[str], Engine], program: str, text: str, result: str) -> None:
    """Calls of every shape give the line that a person expects."""
    assert engine(program).call(text) == result


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(3.4028234663852886e38)
@example(1.401298464324817e-45)
@example(16777216.0)
def test_f32_is_rendered_shortest(value: float) -> None:
    """No decimal with fewer digits reads back as the same f32."""
    text = written("f32", value)
    assert ctypes.c_float(float(text)).value == value
    digits = len(text.lstrip("-").partition("e")[0].replace(".", "").strip("0")) or 1
    assert digits == 1 or ctypes.c_float(float(f"{value:.{digits - 1}g}")).value != value


# What is refused


@given(st.text(max_size=30) | st.text("()\"',\\ab1 \n", max_size=20))
def test_any_text(text: str) -> None:
    """Any text is a call or InvalidArgument that quotes it, and a call for no type is anything else."""
    try:
        call = parse(text)
    except InvalidArgument as error:
        assert repr(text) in error.message  # noqa: PT017 - one of two outcomes
        return
    for kind in sorted(SCALARS):
        with contextlib.suppress(InvalidArgument):
            check(call, Function("f", (("x", kind),) * len(call.arguments), ()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot read the call ''; write it as name(argument, …)"),
        ("add(1, 2", "cannot read the call 'add(1, 2'; write it as name(argument, …)"),
        ("(1)", "cannot read the call '(1)'; write it"),
        ("add 1 2", "cannot read the call 'add 1 2'; write it"),
        ("add(1 2)", "at '1 2'; separate values by commas"),
        ("add(,1)", "at ',1'; separate values by commas"),
        ("add(1,)", "a value is missing after the last comma"),
        ("add(1,,2)", "at ',2'; separate values by commas"),
        ('add("a)', "at '\"a'; separate values by commas"),
        ("add(f(1))", "at 'f(1)'; separate values by commas"),
        ("add([1])(2)", "at '[1])(2'; separate"),
    ],
)
def test_rejects_calls_that_cannot_be_read(text: str, sentence: str) -> None:
    """A fault in the notation is shown with its place."""
    with pytest.raises(InvalidArgument) as refusal:
        parse(text)
    assert sentence in refusal.value.message


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("s32", "abc", "abc is no s32: f(x: s32)"),
        ("s32", "1.5", "1.5 is no s32: "),
        ("s32", '"1"', '"1" is no s32: '),
        ("u8", "256", "256 is no u8, which reaches from 0 to 255: "),
        ("u8", "-1", "-1 is no u8, which reaches from 0 to 255: "),
        ("s8", "-129", "which reaches from -128 to 127"),
        ("s8", "0x80", "which reaches from -128 to 127"),
        ("s64", "9223372036854775808", "which reaches from -9223372036854775808 to 9223372036854775807"),
        ("i32", "4294967296", "which reaches from -2147483648 to 4294967295"),
        ("u64", "9" * 5000, " is no u64: "),
        ("u8", "\N{ARABIC-INDIC DIGIT ONE}", " is no u8: "),
        ("f64", "\N{ARABIC-INDIC DIGIT ONE}", " is no f64: "),
        ("f64", "1_0", "1_0 is no f64: "),
        ("f64", "infinity", "infinity is no f64: "),
        ("f32", "1e", "1e is no f32: "),
        ("bool", "1", "1 is no bool, write true or false: "),
        ("bool", "True", "True is no bool, write true or false: "),
        ("string", "abc", 'abc is no string, write it in quotes: "abc": '),
        ("string", "'a'", "'a' is no string, write it in quotes: \"a\": "),
        ("string", '"\\x"', '"\\x" is no string, unknown escape \\x: '),
        ("string", '"\\u{110000}"', "there is no character U+110000"),
        ("string", '"\\u{d800}"', "there is no character U+D800"),
        ("string", '"\\u{1234567}"', "unknown escape \\u"),
        ("string", '"\udcff"', "is no string, it is not UTF-8: "),
        ("char", "'\udcff'", "is no char, it is not UTF-8: "),
        ("char", "'ab'", "'ab' is no char but several: "),
        ("char", '"a"', "\"a\" is no char, write it in quotes: 'a': "),
    ],
)
def test_rejects_values_with_the_signature(kind: str, text: str, sentence: str) -> None:
    """A value that does not fit its type is named, with the reason and the signature."""
    function = Function("f", (("x", kind),), ())
    with pytest.raises(InvalidArgument) as refusal:
        check(Call("f", (text,)), function)
    expected = sentence.replace("f(x: s32)", "f: func(x: s32)")
    assert expected in refusal.value.message
    assert refusal.value.message.endswith(function.signature)


@pytest.mark.parametrize(("arguments", "count"), [((), "2 arguments, not 0"), (("1", "2", "3"), "2 arguments, not 3")])
def test_rejects_a_wrong_count(arguments: tuple[str, ...], count: str) -> None:
    """Too few and too many arguments are refused with the signature."""
    function = Function("add", (("a", "s32"), ("b", "s32")), ("s32",))
    with pytest.raises(InvalidArgument, match=f"add takes {count}: add: func"):
        check(Call("add", arguments), function)


@pytest.mark.parametrize("function", [Function("f", (("x", "list<u8>"),), ()), Function("f", (), ("record {a: u8}",))])
def test_rejects_types_without_notation(function: Function) -> None:
    """A type that text cannot hold, taken or returned, is refused with the way out."""
    with pytest.raises(InvalidArgument, match=r"has no notation here; call it from Python with wasm_shim\.load"):
        check(Call("f", ("1",) * len(function.parameters)), function)

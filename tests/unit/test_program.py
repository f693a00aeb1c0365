"""What is known of a program: its description on disk, and what is said when it cannot run or be called."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import component as wc

from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound
from wasm_shim.runtime.describe import describe_component, describe_module
from wasm_shim.runtime.program import COMPONENT, CORE, FORMAT, Function, Program

TEXT = st.text(max_size=10)
FUNCTIONS = st.builds(
    Function, TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple), st.lists(TEXT, max_size=2).map(tuple)
)
PROGRAMS = st.builds(
    Program,
    kind=st.sampled_from([CORE, COMPONENT]),
    imports=st.lists(TEXT, max_size=3).map(tuple),
    exports=st.lists(TEXT, max_size=3).map(tuple),
    functions=st.lists(FUNCTIONS, max_size=3).map(tuple),
    command=TEXT,
    refusal=TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("format", "kind", "imports", "exports", "functions", "command", "refusal")
ADD = Function("add", (("a", "s32"), ("b", "s32")), ("s32",))


def program(kind: str = COMPONENT, **fields: Any) -> Program:
    """A program with these fields, all others empty."""
    return Program(kind, **{"imports": (), "exports": (), "functions": (), "command": "", "refusal": ""} | fields)


@given(PROGRAMS)
def test_description_survives_the_disk(made: Program) -> None:
    """What is read back is what was written."""
    assert Program.from_json(made.to_json()) == made


@given(PROGRAMS, st.sampled_from(FIELDS), JSON)
def test_damaged_fields(made: Program, name: str, value: Any) -> None:
    """A field that holds something else makes a program or ValueError, and nothing else."""
    document = json.loads(made.to_json()) | {name: value}
    with contextlib.suppress(ValueError):
        Program.from_json(json.dumps(document).encode())


@given(JSON | st.fixed_dictionaries({"format": st.just(FORMAT)}, optional=dict.fromkeys(FIELDS[1:], JSON)))
def test_other_json(document: Any) -> None:
    """JSON of any other shape is ValueError."""
    with contextlib.suppress(ValueError):
        Program.from_json(json.dumps(document).encode())


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    """Bytes that are no JSON are ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - any of its kinds
        Program.from_json(data)


@pytest.mark.parametrize("name", FIELDS)
def test_rejects_a_missing_field(name: str) -> None:
    """No field may be missing."""
    document = json.loads(program().to_json())
    del document[name]
    with pytest.raises(ValueError, match="damaged description"):
        Program.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("change", [{"format": FORMAT + 1}, {"format": None}, {"more": 1}])
def test_rejects_other_formats(change: dict[str, Any]) -> None:
    """A description of another version is not taken for one of ours."""
    document = json.loads(program().to_json()) | change
    with pytest.raises(ValueError, match=r"another format|damaged description"):
        Program.from_json(json.dumps(document).encode())


def test_every_cut_is_noticed() -> None:
    """A description that was cut at any byte, or nested too deep, is ValueError."""
    whole = program(functions=(ADD,), exports=("add",)).to_json()
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=r"."):
            Program.from_json(whole[:end])
    with pytest.raises(ValueError, match=r"."):
        Program.from_json(b"[" * 100_000)


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (ADD, "add: func(a: s32, b: s32) -> s32"),
        (Function("f", (), ()), "f: func()"),
        (Function("f", (("", "i32"),), ("i32", "f64")), "f: func(i32) -> (i32, f64)"),
    ],
)
def test_signature(function: Function, signature: str) -> None:
    """A signature reads as in WIT."""
    assert function.signature == signature


# Commands


@pytest.mark.parametrize("made", [program(CORE, command="_start"), program(command="wasi:cli/run@0.2.6")])
def test_a_command_may_run(made: Program) -> None:
    """A program with a command export that the host can link is accepted."""
    made.require_command("x.wasm")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (program(command="wasi:cli/run@0.2.0", refusal="it imports a.b"), "cannot run x.wasm: it imports a.b"),
        (program(CORE), "the core module has no command export _start; build it as a command"),
        (program(), "the component has no command export wasi:cli/run; build it as a command"),
        (
            program(functions=(ADD,)),
            "no command export wasi:cli/run; call one of its exports with --invoke: add: func(a: s32, b: s32) -> s32",
        ),
        (program(exports=("wasi:http/incoming-handler@0.2.0",)), "it is an HTTP component, and this version serves"),
        (program(exports=("wasi:cli/run@0.3.0",)), "it is a command of another WASI than 0.2; build it for WASI 0.2"),
        (
            program(CORE, exports=("wasi:cli/run@0.2.0#run: func() -> i32",)),
            "it is a core module built for a component; make one of it first: wasm-tools component new",
        ),
        (program(CORE, exports=("cm32p2|wasi:cli/run@0.2|run: func() -> i32",)), "a core module built for a component"),
    ],
)
def test_rejects_what_is_no_command(made: Program, sentence: str) -> None:
    """A program that cannot run says why and what to do."""
    with pytest.raises(FailedPrecondition if made.refusal else InvalidArgument) as refusal:
        made.require_command("x.wasm")
    assert refusal.value.message.startswith("cannot run x.wasm: ")
    assert sentence in refusal.value.message


# Functions

OPS_ADD, MATH_ADD = ADD._replace(name="a:b/ops#add"), ADD._replace(name="a:b/math#add")


@pytest.mark.parametrize(
    ("functions", "name", "found"),
    [
        ((ADD,), "add", ADD),
        ((OPS_ADD,), "add", OPS_ADD),
        ((OPS_ADD, MATH_ADD), "a:b/math#add", MATH_ADD),
        ((OPS_ADD, ADD, MATH_ADD), "add", ADD),
    ],
)
def test_function_is_found(functions: tuple[Function, ...], name: str, found: Function) -> None:
    """A function is found by its full name, or by its own where only one interface has it; the world's own wins."""
    assert program(functions=functions).function(name) == found


def test_rejects_an_unknown_function() -> None:
    """A missing export is NotFound, with what there is."""
    with pytest.raises(NotFound, match=r"no exported function dd; the component exports add: func\(a"):
        program(functions=(ADD,)).function("dd")
    with pytest.raises(NotFound, match="no exported function add; the core module exports no functions"):
        program(CORE).function("add")


def test_rejects_an_ambiguous_function() -> None:
    """A name in several interfaces is refused with all of them."""
    with pytest.raises(InvalidArgument, match=r"add is in several interfaces; name one of: a:b/ops#add.*math#add"):
        program(functions=(OPS_ADD, MATH_ADD)).function("add")


def test_rejects_calls_of_what_cannot_be_linked() -> None:
    """A program that cannot be linked has no functions to call."""
    with pytest.raises(FailedPrecondition, match="cannot call add: it imports x"):
        program(functions=(ADD,), refusal="it imports x").function("add")


# Descriptions of real programs


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


def component_of(version: str) -> str:
    """A component that imports a function of wasi:cli and exports a command, of this version."""
    return f"""(component
      (import "wasi:cli/environment@{version}" (instance (export "get-arguments" (func (result (list string))))))
      (core module $m (func (export "run") (result i32) i32.const 0))
      (core instance $i (instantiate $m))
      (func $run (result (result)) (canon lift (core func $i "run")))
      (instance $e (export "run" (func $run)))
      (export "wasi:cli/run@{version}" (instance $e)))"""


def test_describes_a_core_module(engine: wasmtime.Engine) -> None:
    """Imports, exports and functions are lines for a person; a start function is never run."""
    text = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (func $s unreachable) (start $s)
      (memory (export "memory") 1) (table (export "t") 1 funcref) (global (export "g") i32 (i32.const 1))
      (func (export "f") (param externref funcref i64) (result f32 f64) f32.const 0 f64.const 0)
      (func (export "_start")))"""
    made = describe_module(engine, wasmtime.Module(engine, text))
    f = Function("f", (("", "externref"), ("", "funcref"), ("", "i64")), ("f32", "f64"))
    assert made.imports == ("wasi_snapshot_preview1#fd_write: func(i32, i32, i32, i32) -> i32",)
    assert made.exports == ("memory: memory", "t: table", "g: global", f.signature, "_start: func()")
    assert made.functions == (f, Function("_start", (), ()))
    assert (made.kind, made.command, made.refusal) == (CORE, "_start", "")


def test_start_with_parameters_is_no_command(engine: wasmtime.Engine) -> None:
    """Only a _start that takes and returns nothing is a command."""
    made = describe_module(engine, wasmtime.Module(engine, '(module (func (export "_start") (param i32)))'))
    assert (made.command, made.refusal) == ("", "")


@pytest.mark.parametrize("version", ["0.2.0", "0.2.6", "0.2.99"])
def test_describes_a_component(engine: wasmtime.Engine, version: str) -> None:
    """A command of any WASI 0.2 is one, and its functions are not for calling."""
    made = describe_component(engine, wc.Component(engine, component_of(version)))
    assert made.imports == (f"wasi:cli/environment@{version}", "  get-arguments: func() -> list<string>")
    assert made.exports == (f"wasi:cli/run@{version}", "  run: func() -> result<_, _>")
    assert (made.kind, made.functions, made.refusal) == (COMPONENT, (), "")
    assert made.command == f"wasi:cli/run@{version}"


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("0.3.0", "WASI 0.3 is not supported yet, build it for WASI 0.2"),
        ("0.1.0", "build it for WASI 0.2 or wasi_snapshot_preview1 as they were released"),
    ],
)
def test_other_wasi_versions_are_refused(engine: wasmtime.Engine, version: str, remedy: str) -> None:
    """A component for another WASI is no command, and its import is named."""
    made = describe_component(engine, wc.Component(engine, component_of(version)))
    assert made.command == ""
    named = f"it imports wasi:cli/environment@{version} (its get-arguments), which no host interface provides; "
    assert made.refusal == named + remedy


IMPORT = "which no host interface provides; "
COMPOSE = "build it for WASI, or compose it with a component that provides this"
FOR_A_COMPONENT = "it is a core module built for a component; make one of it first: wasm-tools component new"


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ('"env" "launch"', f"it imports env.launch, {IMPORT}{COMPOSE}"),
        ('"wasi_unstable" "fd_x"', f"it imports wasi_unstable.fd_x, {IMPORT}build it for wasi_snapshot_preview1"),
        ('"wasi_snapshot_preview1" "fd_x"', f"it imports wasi_snapshot_preview1.fd_x, {IMPORT}build it for WASI 0.2"),
        ('"wasi_snapshot_preview1" "fd_write"', "incompatible import type for `wasi_snapshot_preview1::fd_write`"),
        ('"wasi:cli/stdout@0.2.0" "get-stdout"', FOR_A_COMPONENT),
        ('"cm32p2|wasi:cli/stdout@0.2" "get-stdout"', FOR_A_COMPONENT),
    ],
)
def test_imports_without_a_host_are_refused(engine: wasmtime.Engine, name: str, refusal: str) -> None:
    """An import that no host interface provides is named, with what to do."""
    text = f'(module (import {name} (func)) (func (export "_start")))'
    assert describe_module(engine, wasmtime.Module(engine, text)).refusal.startswith(refusal)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ('(import "host-log" (func (param "s" string)))', "host-log"),
        ('(import "a:b/c" (instance (export "f" (func))))', "a:b/c (its f)"),
    ],
)
def test_component_imports_without_a_host_are_refused(engine: wasmtime.Engine, item: str, name: str) -> None:
    """The same for components."""
    made = describe_component(engine, wc.Component(engine, f"(component {item})"))
    assert made.refusal == f"it imports {name}, {IMPORT}{COMPOSE}"


def test_http_components_are_linked(engine: wasmtime.Engine) -> None:
    """Importing wasi:http is no reason to refuse."""
    text = '(component (import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource))))))'
    made = describe_component(engine, wc.Component(engine, text))
    assert (made.imports, made.refusal) == (("wasi:http/types@0.2.0", "  fields: resource"), "")

"""The verbs about programs: `wit`, `compile`, `version`, and the help of all."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import Environment, Hold, compiled_programs, leftovers, wasm_shim
from wasm_shim.version import VERSION

Guest = Callable[[str], Path]


def test_wit_prints_a_core_modules_functions(home: Environment, guest: Guest) -> None:
    """`wit` prints kind, imports and exports of a core module with their types."""
    done = wasm_shim(home, "wit", guest("addition.wat"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "core module\nimports: none\nexports:\n  add: func(i32, i32) -> i32\n  sub: func(i32, i32) -> i32\n"
    )


def test_wit_prints_a_components_interfaces(home: Environment, guest: Guest) -> None:
    """`wit` prints a component's functions as WIT writes them, those of an interface below its name."""
    lines = wasm_shim(home, "wit", guest("fraction.wasm")).stdout.splitlines()
    assert lines[:3] == ["component", "imports: none", "exports:"]
    record = "record {numerator: s32, denominator: s32}"
    assert f"  new: func(numerator: s32, denominator: s32) -> {record}" in lines
    assert f"    add: func(a: {record}, b: {record}) -> {record}" in lines
    assert lines.index("  example:fraction/ops") < lines.index(f"    add: func(a: {record}, b: {record}) -> {record}")


def test_wit_tells_what_cannot_run_here(home: Environment, guest: Guest) -> None:
    """`wit` of a program that cannot be linked prints it all the same, and says why it cannot run."""
    done = wasm_shim(home, "wit", guest("unknown_import.wat"))
    assert done.returncode == 0
    assert "  env#launch: func(i32) -> i32\n" in done.stdout
    assert re.search(r"^cannot run here: .*env\.launch", done.stdout, re.MULTILINE)


def test_compiled_program_runs_without_a_compiler(home: Environment, guest: Guest) -> None:
    """After `compile` the program's code is in the cache and a run starts no compiler."""
    kits = [guest("kit_p1.wasm"), guest("kit_p2.wasm")]
    done = wasm_shim(home, "compile", *kits)
    assert (done.returncode, done.stderr) == (0, "")
    codes = [Path(line.rpartition(": ")[2]) for line in done.stdout.splitlines()]
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [str(kit) for kit in kits]
    assert set(codes) == compiled_programs(home)
    with Hold(home, "compiler.locked") as hold:  # a compiler would stop there and the run never end
        for kit in kits:
            assert wasm_shim(hold.environment, "run", "--rm", kit).stdout == "hello from kit\n"
    assert leftovers(home) == []


def test_compile_goes_on_after_a_failure(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """`compile` of several files compiles what it can, complains of the others, and fails."""
    bad = tmp_path / "bad.wasm"
    bad.write_bytes(b"not wasm")
    done = wasm_shim(home, "compile", tmp_path / "none.wasm", bad, guest("hello.wat"))
    assert done.returncode == 126
    assert [line.startswith("wasm-shim: ") for line in done.stderr.splitlines()] == [True, True]
    assert done.stdout.startswith(f"{guest('hello.wat')}: ")
    assert len(compiled_programs(home)) == 1
    assert leftovers(home) == []


def test_version_tells_everything_a_report_needs(home: Environment) -> None:
    """`version` prints the versions of wasm-shim and wasmtime and the wall that guests get."""
    lines = wasm_shim(home, "version").stdout.splitlines()
    assert lines[0] == f"wasm-shim {VERSION}"
    assert re.fullmatch(r"wasmtime \d+\.\d+\.\d+", lines[1])
    assert lines[2].startswith("guests are walled in by: ")


@pytest.mark.parametrize("verb", ["", "run", "ps", "rm", "wit", "compile", "version"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_verb(home: Environment, verb: str, option: str) -> None:
    """--help of each verb prints its usage on stdout and exits with 0."""
    done = wasm_shim(home, *([verb] if verb else []), option)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout
    assert leftovers(home) == []

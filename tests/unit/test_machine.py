"""The machine code is what its source says, and carries out what a routine writes down."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wasm_shim.kernel import machine
from wasm_shim.kernel.machine import Machine
from wasm_shim.kernel.routine import (
    NEVER,
    NO_ERROR_NUMBER,
    NOT_NEGATIVE,
    Address,
    Check,
    Label,
    Result,
    Routine,
    Sender,
    Value,
    exactly,
    function,
)

if TYPE_CHECKING:
    from pathlib import Path

_exit, _memcpy, _write = function("_exit"), function("memcpy"), function("write")


@pytest.fixture(scope="module")
def code() -> Machine:
    return Machine()


def text_at(base: int, routine: Routine, place: Address, size: int) -> bytes:
    return ctypes.string_at(routine.locate(base, place), size)


def test_code_is_that_of_its_source(tmp_path: Path) -> None:
    """The docstring, assembled, is what is mapped."""
    source = (machine.__doc__ or "").partition("    run:")[2]
    lines = [line.partition("#")[0] for line in f"    run:{source}".splitlines()]
    (tmp_path / "code.s").write_text("\n".join([".intel_syntax noprefix", *lines, ""]), encoding="ascii")
    words = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu", "-c", "code.s", "-o", "code.o"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    assembled = (tmp_path / "code.o").read_bytes()
    ours = machine._RUN + machine._LEAVE
    assert ours in assembled
    assert len(re.findall(re.escape(machine._RUN), assembled)) == 1


def test_calls_are_made_in_order_with_their_arguments(code: Machine) -> None:
    """Numbers, bytes, places and earlier results, up to eight arguments."""
    routine = Routine()
    out = routine.cell(64)
    first = routine.call(function("snprintf"), out, 64, b"%ld %s %ld %ld %ld", 7, b"text", -1, 1 << 40, 5)
    routine.call(function("strncat"), out, b"!", first)
    base = routine.lay_down()
    assert code.carry_out(base) == 0
    assert text_at(base, routine, out, 32).rstrip(b"\0") == b"7 text -1 1099511627776 5!"
    assert first.read(base) == 25


def test_values_are_read_when_they_are_wanted(code: Machine) -> None:
    """Of memory, of any size, after earlier calls have written there."""
    routine = Routine()
    cell, out = routine.data(b"\xff" * 8), routine.cell(16)
    routine.call(_memcpy, cell, b"\x2a\0\0\0", 4)
    routine.call(function("snprintf"), out, 16, b"%ld", Value(cell, 4))
    base = routine.lay_down()
    assert code.carry_out(base) == 0
    assert text_at(base, routine, out, 2) == b"42"


def test_pointers_and_kept_results(code: Machine) -> None:
    """Arrays of strings, and results that are copied to a place."""
    routine = Routine()
    array, length = routine.pointers([b"one", b"three"]), routine.cell()
    routine.keep(routine.call(function("strlen"), Value(array.after(8))), length)
    base = routine.lay_down()
    assert code.carry_out(base) == 0
    assert text_at(base, routine, length, 8) == (5).to_bytes(8, "little")


def test_a_failure_stops_or_goes_on_elsewhere(code: Machine) -> None:
    """Without a label the routine stops, and tells where; with one, the label's step knows who sent it there."""
    routine = Routine()
    failing = routine.call(function("close"), -1, check=NOT_NEGATIVE)
    base = routine.lay_down()
    assert code.carry_out(base) == failing.step_at(base)
    assert ctypes.get_errno() == 9

    routine, label = Routine(), Label()
    out, name = routine.cell(32), routine.cell()
    routine.call(function("close"), -1, check=NOT_NEGATIVE, otherwise=label, what="close nothing")
    routine.call(_memcpy, out, b"passed", 6)
    routine.end()
    routine.place(label)
    routine.call(_memcpy, name, Sender(label), 8)
    routine.call(function("snprintf"), out, 32, b"cannot %s", Value(name))
    base = routine.lay_down()
    assert code.carry_out(base) == 0
    assert text_at(base, routine, out, 32).rstrip(b"\0") == b"cannot close nothing"


def test_loops_end(code: Machine) -> None:
    """A label may lie before its jump."""
    routine, done = Routine(), Label()
    text, at = routine.data(b"aaab\0"), routine.cell()
    routine.point(at, text)
    again = routine.here()
    routine.call(function("strncmp"), Value(at), b"a", 1, check=NO_ERROR_NUMBER, otherwise=done)
    routine.keep(routine.call(_memcpy, Value(at), Value(at), 0, bias=1), at)
    routine.jump(again)
    routine.place(done)
    base = routine.lay_down()
    assert code.carry_out(base) == 0
    assert int.from_bytes(text_at(base, routine, at, 8), "little") == routine.locate(base, text) + 3


@pytest.mark.parametrize(("check", "passes"), [(exactly(3), True), (exactly(2), False), (NEVER, False)])
def test_checks(code: Machine, check: Check, passes: bool) -> None:  # noqa: FBT001
    """A result is masked and compared."""
    routine = Routine()
    routine.call(function("strlen"), b"abc", check=check)
    assert (code.carry_out(routine.lay_down()) == 0) is passes


def test_a_forked_child_goes_on_without_python(code: Machine) -> None:
    """The parent stops at the fork, the child carries out the rest, and its exit status is a result with its bias."""
    reader, writer = os.pipe()
    routine = Routine()
    forked = routine.call(function("fork"), check=exactly(0))
    routine.call(_write, writer, b"child", 5)
    length: Result = routine.call(function("strlen"), b"seven", bias=2)
    routine.call(_exit, length)
    base = routine.lay_down()
    assert code.carry_out(base) == forked.step_at(base)
    pid = forked.read(base)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert os.read(reader, 10) == b"child"
    os.close(reader)
    os.close(writer)


def test_the_host_function_exits_with_its_argument(code: Machine) -> None:
    """As wasmtime calls it: environment, caller, arguments of 32 bytes with their value at 8."""
    routine = Routine()
    forked = routine.call(function("fork"), check=exactly(0))
    arguments = routine.data(bytes(8) + (0x1C8).to_bytes(4, "little") + bytes(20))
    routine.call(code.leave, None, None, arguments, 1, None, 0)
    routine.call(_exit, 1)
    base = routine.lay_down()
    code.carry_out(base)
    assert os.waitstatus_to_exitcode(os.waitpid(forked.read(base), 0)[1]) == 0xC8

"""`wasm-shim run --invoke`: what a called function returns is printed as one line of WAVE."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import Environment, compiled_programs, leftovers, wasm_shim

Guest = Callable[[str], Path]

RESULTS = [
    ("addition.wat", "add(27, 6)", "33"),
    ("addition.wat", "sub(27,6)", "21"),
    ("addition.wat", "sub(6, 27)", "-21"),
    ("addition.wat", "  add ( 0x1f , -0x1 )  ", "30"),
    ("addition.wat", "add(2147483647, 1)", "-2147483648"),
    ("addition.wat", "add(4294967295, 0)", "-1"),
    ("addition.wasm", "add(27, 6)", "33"),
    ("numbers.wat", "add_i64(9223372036854775807, -1)", "9223372036854775806"),
    ("numbers.wat", "echo_i64(-9223372036854775808)", "-9223372036854775808"),
    ("numbers.wat", "echo_i64(+7)", "7"),
    ("numbers.wat", "echo_f32(0.1)", "0.1"),
    ("numbers.wat", "add_f32(1.5, 2)", "3.5"),
    ("numbers.wat", "echo_f64(0.1)", "0.1"),
    ("numbers.wat", "add_f64(0.1, 0.2)", "0.30000000000000004"),
    ("numbers.wat", "echo_f64(1e300)", "1e+300"),
    ("numbers.wat", "echo_f32(1e300)", "inf"),
    ("numbers.wat", "echo_f64(-inf)", "-inf"),
    ("numbers.wat", "echo_f64(nan)", "nan"),
    ("numbers.wat", "divide(-7, 2)", "(-3, -1)"),
    ("numbers.wat", "nothing()", ""),
    ("numbers.wat", "nothing", ""),
    ("scalars.wasm", "echo-bool(true)", "true"),
    ("scalars.wasm", "echo-s8(-128)", "-128"),
    ("scalars.wasm", "echo-u8(255)", "255"),
    ("scalars.wasm", "echo-s16(-32768)", "-32768"),
    ("scalars.wasm", "echo-u16(0xffff)", "65535"),
    ("scalars.wasm", "echo-u32(4294967295)", "4294967295"),
    ("scalars.wasm", "echo-s64(-9223372036854775808)", "-9223372036854775808"),
    ("scalars.wasm", "echo-u64(18446744073709551615)", "18446744073709551615"),
    ("scalars.wasm", "echo-f32(-2.25)", "-2.25"),
    ("scalars.wasm", "echo-char('é')", "'é'"),
    ("scalars.wasm", "echo-char('\\'')", "'\\''"),
    ("scalars.wasm", 'echo-string("")', '""'),
    ("scalars.wasm", 'echo-string("a, \\"b\\" (c) \\n\\u{1F600} ä")', '"a, \\"b\\" (c) \\n😀 ä"'),
    ("scalars.wasm", 'shout("hello")', '"HELLO"'),
    ("scalars.wasm", 'mix(7, -2.5, "words, more")', '"7 -2.500 words, more"'),
    ("scalars.wasm", "nothing()", ""),
]


@pytest.mark.parametrize(("program", "call", "result"), RESULTS)
def test_result_is_one_line(home: Environment, guest: Guest, program: str, call: str, result: str) -> None:
    """The result is printed as WAVE writes it, several in parentheses, none as nothing; the exit code is 0."""
    done = wasm_shim(home, "run", "--rm", "--invoke", call, guest(program))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"{result}\n" if result else "")


@pytest.mark.parametrize(
    ("program", "call", "names"),
    [
        ("numbers.wat", "fail()", ["inner", "outer", "unreachable"]),
        ("numbers.wat", "divide(7, 0)", ["integer divide by zero"]),
        ("scalars.wasm", "fail()", ["fail_inside", "fail", "unreachable"]),
    ],
)
def test_trap_in_a_call_is_134_with_a_backtrace(
    home: Environment, guest: Guest, program: str, call: str, names: list[str]
) -> None:
    """A trap in a called function ends with 134, its backtrace on stderr and nothing on stdout."""
    done = wasm_shim(home, "run", "--rm", "--invoke", call, guest(program))
    assert (done.returncode, done.stdout) == (134, "")
    places = [done.stderr.find(name) for name in names]
    assert -1 not in places, done.stderr
    assert places == sorted(places)


def test_arguments_behind_the_image_do_not_disturb_a_call(home: Environment, guest: Guest) -> None:
    """A call takes its arguments from its own text; words behind IMAGE belong to the program."""
    done = wasm_shim(home, "run", "--rm", "--invoke", "add(1, 2)", guest("addition.wat"), "--rm", "7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_calls_leave_nothing(home: Environment, guest: Guest) -> None:
    """After calls that return and that trap, only the compiled program is there, once."""
    for call in ("nothing()", "fail()", "divide(1, 0)"):
        wasm_shim(home, "run", "--rm", "--invoke", call, guest("numbers.wat"))
    assert leftovers(home) == []
    assert len(compiled_programs(home)) == 1

"""The exit status of `wasm-shim run`: the guest's own, a trap's, a signal's."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import (
    DEADLINE,
    Environment,
    Hold,
    guest_pid,
    leftovers,
    on_terminal,
    started,
    wait_for,
    wait_ready,
    wasm_shim,
)

Guest = Callable[[str], Path]

FORWARDED = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
BUSY = {"spins": ["spin"], "sleeps": ["sleep", "3600000"], "waits for stdin": ["block"]}
KITS = ["kit_p1.wasm", "kit_p2.wasm"]


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 200, 255])
def test_exit_code_of_a_p1_guest_is_passed_on(home: Environment, guest: Guest, code: int) -> None:
    """Every code that a WASI 0.1 guest exits with becomes that of the command line, and nothing is printed."""
    done = wasm_shim(home, "run", "--rm", guest("kit_p1.wasm"), "exit", str(code))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 200, 255])
def test_exit_code_of_a_p2_guest_is_passed_on(home: Environment, guest: Guest, code: int) -> None:
    """Every code given to exit-with-code becomes that of the command line, and nothing is printed."""
    done = wasm_shim(home, "run", "--rm", guest("exit_with_code.wat"), str(code))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize(("said", "heard"), [("0", 0), ("1", 1), ("42", 1)])
def test_p2_exit_with_a_result_is_0_or_1(home: Environment, guest: Guest, said: str, heard: int) -> None:
    """A component that can only say ok or error exits with 0 or 1."""
    assert wasm_shim(home, "run", "--rm", guest("kit_p2.wasm"), "exit", said).returncode == heard


def test_run_that_returns_an_error_exits_with_1(home: Environment, guest: Guest) -> None:
    """An error returned by a component's run function is exit code 1."""
    assert wasm_shim(home, "run", "--rm", guest("exit_with_code.wat")).returncode == 1


@pytest.mark.parametrize(
    ("program", "words", "names"),
    [
        ("kit_p1.wasm", ["trap"], ["trap_inner", "trap_middle", "trap_outer", "unreachable"]),
        ("kit_p2.wasm", ["trap"], ["trap_inner", "trap_middle", "trap_outer", "unreachable"]),
        ("kit_p1.wasm", ["div"], ["divide_by_zero", "integer divide by zero"]),
        ("kit_p1.wasm", ["abort"], ["abort_now", "unreachable"]),
        ("kit_p1.wasm", ["recurse"], ["recurse", "call stack exhausted"]),
        ("trap_component.wat", [], ["inner", "outer", "unreachable"]),
    ],
)
def test_trap_is_134_with_a_backtrace(
    home: Environment, guest: Guest, program: str, words: list[str], names: list[str]
) -> None:
    """A trap ends with 134; its cause and the functions that were running stand on stderr, innermost first."""
    done = wasm_shim(home, "run", "--rm", guest(program), *words)
    assert (done.returncode, done.stdout) == (134, "")
    places = [done.stderr.find(name) for name in names]
    assert -1 not in places, done.stderr
    assert places == sorted(places)
    assert leftovers(home) == []


@pytest.mark.parametrize("program", KITS)
def test_killed_guest_is_137(home: Environment, guest: Guest, program: str) -> None:
    """A guest that somebody kills with SIGKILL ends with 137, and nothing is left."""
    with started(home, "run", "--rm", guest(program), "spin") as process:
        wait_ready(process)
        os.kill(guest_pid(home), signal.SIGKILL)
        assert process.wait(DEADLINE) == 137
    assert leftovers(home) == []


@pytest.mark.parametrize("number", FORWARDED, ids=lambda number: number.name)
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("program", KITS)
def test_signal_to_the_command_line_ends_the_guest_at_once(
    home: Environment, guest: Guest, program: str, busy: str, number: signal.Signals
) -> None:
    """A signal ends a guest that spins, sleeps or waits for stdin with 128 + its number, and nothing is left."""
    words = ["run", "--rm", "-i", str(guest(program)), *BUSY[busy]]
    with started(home, *words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_ready(process)
        process.send_signal(number)
        assert process.wait(DEADLINE) == 128 + number
        assert process.stderr
        assert process.stderr.read() == b""
    assert leftovers(home) == []


def test_ignored_signal_stays_ignored(home: Environment, guest: Guest) -> None:
    """Under nohup the guest outlives SIGHUP, and ends by the next signal."""
    with started(home, "run", "--rm", guest("kit_p1.wasm"), "spin", preexec_fn=_ignore_hangup) as process:
        wait_ready(process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 143


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("step", ["cli.prepared", "compiler.locked", "guest.forked", "shim.created", "cli.created"])
def test_signal_before_the_guest_runs_ends_the_run(home: Environment, guest: Guest, step: str) -> None:
    """A signal that comes while the guest is being made ends the run with 128 + its number, and nothing is left."""
    with Hold(home, step) as hold, started(hold.environment, "run", "--rm", guest("kit_p1.wasm"), "spin") as process:
        hold.wait()
        process.send_signal(signal.SIGTERM)
        hold.release()
        assert process.wait(DEADLINE) == 143
    assert leftovers(home) == []


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x1c", 131)], ids=["Ctrl-C", "Ctrl-backslash"])
@pytest.mark.parametrize(
    ("busy", "options"),
    [
        *((busy, options) for busy in ("spins", "sleeps") for options in ([], ["-t"])),
        *((busy, options) for busy in BUSY for options in (["-i"], ["-i", "-t"])),
    ],
)
def test_interrupt_key_ends_the_guest(
    home: Environment, guest: Guest, busy: str, options: list[str], key: bytes, code: int
) -> None:
    """Ctrl-C and Ctrl-\\ on the caller's terminal end a guest however it is busy, and nothing is left."""
    with on_terminal(home, "run", "--rm", *options, guest("kit_p1.wasm"), *BUSY[busy]) as (process, terminal):
        wait_for(terminal, b"ready\r")
        os.write(terminal, key)
        assert process.wait(DEADLINE) == code
    assert leftovers(home) == []

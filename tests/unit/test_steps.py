"""Steps at which a test holds a process."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wasm_shim.steps import STEPS, VARIABLE, held_at, reached

if TYPE_CHECKING:
    from collections.abc import Iterator

PASS = "from wasm_shim.steps import reached; reached('shim.created'); reached('cli.created'); print('passed')"
HANDED_ON = "from wasm_shim.steps import hold_at, held_at; hold_at({value!r}); print(held_at()); " + PASS


@contextmanager
def listener(path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path / "s"))
        made.listen()
        yield made, str(path / "s")


def start(code: str, value: str = "") -> subprocess.Popen[str]:
    environment = os.environ | ({VARIABLE: value} if value else {})
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["environment", "handed on"])
def test_process_is_held_and_goes_on(tmp_path: Path, how: str) -> None:
    """A process that reaches the step says so and waits until it is answered."""
    with listener(tmp_path) as (made, address):
        value = f"shim.created:{address}"
        with start(PASS, value) if how == "environment" else start(HANDED_ON.format(value=value)) as process:
            connection, _ = made.accept()
            assert connection.recv(100) == b"shim.created"
            assert process.poll() is None
            connection.send(b"x")
            connection.close()
            assert process.stdout is not None
            assert process.stdout.read().split()[-1] == "passed"
        assert process.returncode == 0


def test_held_process_can_be_killed(tmp_path: Path) -> None:
    """The test learns which process it is, and its end."""
    with listener(tmp_path) as (made, address), start(PASS, f"cli.created:{address}") as process:
        connection, _ = made.accept()
        with connection:
            assert connection.recv(100) == b"cli.created"
            pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
            assert pid == process.pid
            process.kill()
            assert connection.recv(1) == b""


def test_other_steps_are_passed(tmp_path: Path) -> None:
    """Only the step that is named holds; without the variable, none does."""
    with listener(tmp_path) as (_, address):
        for value in ("", f"cli.exited:{address}", ":", "shim.created.more:x"):
            with start(PASS, value) as process:
                assert process.stdout is not None
                assert process.stdout.read() == "passed\n"
            assert process.returncode == 0


def test_step_without_a_test_is_passed(tmp_path: Path) -> None:
    """When the test has gone, nobody is held."""
    with start(PASS, f"shim.created:{tmp_path / 'none'}") as process:
        assert process.stdout is not None
        assert process.stdout.read() == "passed\n"


def test_nothing_is_held_here() -> None:
    """This process holds at no step, and the steps have names of their own."""
    for step in STEPS:
        reached(step)
    assert held_at() == ""
    assert len(set(STEPS)) == len(STEPS)


def test_steps_are_those_in_the_code() -> None:
    """Each is reached somewhere, and none that is reached is missing: so each has its row in the tables of crashes."""
    sources = Path(__file__).parents[2].glob("wasm_shim/**/*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    reaching = re.compile(r'\b(?:reached|Gate|reached_here)\((?:routine, )?"([a-z.]+)"\)')
    named = {name for text in texts for name in reaching.findall(text)}
    assert named == set(STEPS)

"""The note that nothing is left to delete, and the shell part of the script, which prints it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wasm_shim.shim.receipt import NAME, Receipt
from wasm_shim.task.events import Deleted, Exited
from wasm_shim.task.ports import Exit
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Timestamp

SCRIPT = Path(__file__).parents[2] / "wasm_shim/shim/containerd-shim-wasm-v1"
END = Exit(137, 1795389400.0625)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The script beside a console script whose interpreter says how it was called."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / SCRIPT.name
    script.write_bytes(SCRIPT.read_bytes())
    python = directory / "python9"
    python.write_text("#!/bin/sh\necho python \"$@\"\n", encoding="ascii")
    (directory / "wasm-shim").write_text(f"#!{python}\n", encoding="ascii")
    for file in (script, python):
        file.chmod(0o755)
    return script


def run(script: Path, bundle: Path, *words: str) -> bytes:
    """What it prints, on both outputs."""
    done = subprocess.run([script, *words], cwd=bundle, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout + done.stderr


def leave(bundle: Path, *, exit_: Exit | None = END) -> None:
    """Do as a pod shim does whose container `one` has been deleted."""
    receipt = Receipt(str(bundle), "one")
    receipt.note(Exited("one", 5, END))
    receipt.note(Deleted("one", 5, exit_))
    receipt.note(Deleted("two", 6, Exit(1, 1.0)))
    receipt.write()


@pytest.mark.parametrize(
    ("exit_", "answer"),
    [
        (END, messages.DeleteResponse(pid=5, exit_status=137, exited_at=Timestamp(seconds=1795389400, nanos=62500000))),
        (None, messages.DeleteResponse(pid=5)),
    ],
)
def test_the_shell_prints_the_answer(
    installed: Path, tmp_path: Path, exit_: Exit | None, answer: messages.DeleteResponse
) -> None:
    """Byte for byte, and Python is not started."""
    leave(tmp_path, exit_=exit_)
    said = run(installed, tmp_path, "-namespace", "default", "-id", "one", "-bundle", str(tmp_path), "delete")
    assert messages.DeleteResponse.decode(said) == answer


@pytest.mark.parametrize("words", [("-id", "two", "delete"), ("-id", "one", "start"), ("-v",), ("delete",), ()])
def test_anything_else_is_pythons(installed: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Another container, another command, or none."""
    leave(tmp_path)
    assert run(installed, tmp_path, *words).decode().split() == ["python", "-IS", str(installed), *words]


def test_without_a_note(installed: Path, tmp_path: Path) -> None:
    """Nothing is written for a container that was never deleted, and `delete` takes the long way, silently."""
    Receipt(str(tmp_path), "one").write()
    assert not (tmp_path / NAME).exists()
    assert run(installed, tmp_path, "-id", "one", "delete").startswith(b"python -IS")


def test_a_bundle_that_has_gone(tmp_path: Path) -> None:
    """containerd may be faster."""
    leave(tmp_path / "gone")


def test_a_link_leads_to_the_interpreter(installed: Path, tmp_path: Path) -> None:
    """The script may be linked to from a directory of PATH, under any name."""
    link = tmp_path / "containerd-shim-other-v1"
    link.symlink_to(installed)
    assert run(link, tmp_path, "start").decode().split() == ["python", "-IS", str(installed), "start"]


def test_without_a_console_script(installed: Path, tmp_path: Path) -> None:
    """One whose first line names no Python is not believed: the python3 beside the script is taken."""
    (installed.parent / "wasm-shim").write_text("#!/bin/sh\n", encoding="ascii")
    (installed.parent / "python9").rename(installed.parent / "python3")
    assert run(installed, tmp_path, "start").startswith(b"python -IS")

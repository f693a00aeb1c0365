"""README.md tells the truth: every command in it is run, and every verb and option stands in it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, User
from tests.integration.readme import README
from wasm_shim.cli.options import VERBS

FIRST = "python3 -m venv"


class Example:
    """One `$ command` of a console block, with the output that follows it there."""

    def __init__(self, command: str, output: str) -> None:
        self.command, self.output = command, output


def examples() -> list[Example]:
    """All commands of all console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append(Example(command, output))
    return found


INSTALLED = [example for example in examples() if not example.command.startswith(FIRST)]


@pytest.mark.parametrize("example", INSTALLED, ids=lambda example: example.command)
def test_commands_print_what_readme_shows(
    example: Example, home: dict[str, str], guests: Path, guest: Callable[[str], Path]
) -> None:
    """Each command of README prints, on stdout and stderr together, just what stands below it."""
    for name in re.findall(r"\.build/guests/([\w.]+)", example.command):
        guest(name)  # skips where it could not be built
    assert guests == ROOT / ".build/guests", "README names the guests by this path"
    if example.command.startswith("wasm-shim rm"):  # it removes what the example before it has left
        _shell("wasm-shim run --name first tests/guests/hello.wat", ROOT, home)
    assert _shell(example.command, ROOT, home) == example.output


@pytest.mark.timeout(300)
def test_first_command_works_for_an_ordinary_user_on_a_fresh_clone(ordinary_user: User) -> None:
    """README's first command makes a virtual environment, installs the project and runs a guest."""
    (example,) = [example for example in examples() if example.command.startswith(FIRST)]
    clone = Path(ordinary_user.environment["HOME"]) / "clone"
    kept = shutil.ignore_patterns(".git", ".build", ".venv", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, clone, ignore=kept)
    for path in [clone, *clone.rglob("*")]:
        os.chown(path, ordinary_user.uid, -1, follow_symlinks=False)
    python = f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}"
    environment = {**os.environ, **ordinary_user.environment, "PATH": python}
    options = {**ordinary_user.popen_options(), "env": environment}
    done = subprocess.run(
        ["sh", "-c", example.command], **options | {"cwd": clone}, capture_output=True, text=True, timeout=280
    )
    assert (done.stdout, done.returncode) == (example.output, 0), done.stderr


def test_second_command_is_what_ci_runs() -> None:
    """README names tests/run, and .ci/run calls just that."""
    assert "```sh\ntests/run\n```" in README
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert any("tests/run" in line for line in commands)
    assert os.access(ROOT / "tests/run", os.X_OK)


def test_python_examples_run(home: dict[str, str]) -> None:
    """README's Python is correct, assertions included."""
    for code in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=home, check=True, timeout=60)


def _words() -> list[str]:
    return [verb.name for verb in VERBS] + [name for verb in VERBS for option in verb.options for name in option.names]


@pytest.mark.parametrize("word", _words())
def test_every_verb_and_option_is_explained(word: str) -> None:
    """Each verb and each option's name stands in README as code."""
    assert re.search(rf"`[^`\n]*(?<![\w-]){re.escape(word)}(?![\w-])[^`\n]*`", README)


def _shell(command: str, directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout

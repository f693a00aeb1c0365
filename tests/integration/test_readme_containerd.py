"""README's commands with containerd, each in its place, on a private one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.containerd.daemon import Daemon
from tests.integration.test_readme import README

pytestmark = pytest.mark.root
SHIM = "containerd-shim-wasm-v1"


def examples() -> list[tuple[str, str]]:
    """(command, output) of the block for containerd."""
    [block] = re.findall(r"^```console containerd\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    parts = [part.partition("\n") for part in block.split("$ ")[1:]]
    return [(command, output) for command, _, output in parts]


def installed_here(command: str, daemon: Daemon) -> str:
    """The command for where this project is installed and this containerd looks for programs."""
    return command.replace("$PWD/.venv", sys.prefix).replace("/usr/local/bin", str(daemon.programs))


@pytest.mark.parametrize("containerd", ["2.1"], indirect=True)  # older ones put the name of the code behind an error
def test_commands_print_what_readme_shows(containerd: Daemon, tmp_path: Path) -> None:
    """One after the other, from the link that makes the shim known to a program that is not there."""
    for name in ("tests", "wasm_shim", "oci"):
        (tmp_path / name).symlink_to(ROOT / name)
    (containerd.programs / SHIM).unlink()
    for command, output in examples():
        done = subprocess.run(
            ["sh", "-c", installed_here(command, containerd)],
            cwd=tmp_path,
            env=containerd.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == output, command


def test_environment_variables_are_ours() -> None:
    """Each variable that README lists stands in the source."""
    names = re.findall(r"^\| `(WASM_SHIM_\w+)` \|", README, re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "wasm_shim").rglob("*.py"))
    assert len(names) == 3
    assert [name for name in names if name not in source] == []

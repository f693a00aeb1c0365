"""README's commands with containerd, each in its place, on a private one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.containerd.daemon import Daemon
from tests.integration.readme import README, REGISTRY, block
from tests.integration.support import Environment
from tests.registry.server import RegistryServer

pytestmark = pytest.mark.root
SHIM = "containerd-shim-wasm-v1"


def installed_here(command: str, daemon: Daemon) -> str:
    """The command for where this project is installed and this containerd looks for programs."""
    return command.replace("$PWD/.venv", sys.prefix).replace("/usr/local/bin", str(daemon.programs))


@pytest.mark.parametrize("containerd", ["2.1"], indirect=True)  # older ones put the name of the code behind an error
def test_commands_print_what_readme_shows(
    containerd: Daemon, plain_registry: RegistryServer, home: Environment, tmp_path: Path
) -> None:
    """One after the other, from the link that makes the shim known to a program that is not there."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (containerd.programs / SHIM).unlink()
    ours = {name: value for name, value in home.items() if name.startswith("XDG_")}
    environment = {**containerd.environment, **ours}
    environment["PATH"] += f":{Path(sys.executable).parent}"
    for command, output in block("containerd"):
        done = subprocess.run(
            ["sh", "-c", installed_here(command, containerd).replace(REGISTRY, plain_registry.host)],
            cwd=tmp_path,
            env=environment,
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

"""README's commands with a registry, one after the other, on a private one."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.readme import REGISTRY, block, put_tool
from tests.integration.support import Environment
from tests.registry import programs
from tests.registry.server import RegistryServer


@pytest.fixture
def tools(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A directory with the other programs that README calls; skips where one cannot be had."""
    directory = tmp_path / "bin"
    directory.mkdir()
    try:
        for name, options in (("oras", []), ("skopeo", ["--insecure-policy"])):
            put_tool(name, programs.find(name, request.config.rootpath / ".build"), directory, *options)
    except programs.PeerMissing as reason:
        pytest.skip(str(reason))
    return directory


def test_commands_print_what_readme_shows(
    home: Environment, guest: Callable[[str], Path], plain_registry: RegistryServer, tools: Path, tmp_path: Path
) -> None:
    """Columns may be wider: the private registry's port has more digits."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / ".build").mkdir()
    (tmp_path / ".build/guests").symlink_to(guest("kit_p1.wasm").parent)
    environment = {**home, "PATH": f"{tools}:{home['PATH']}"}
    for command, output in block("registry"):
        done = subprocess.run(
            ["sh", "-c", command.replace(REGISTRY, plain_registry.host)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert _narrow(done.stdout.replace(plain_registry.host, REGISTRY)) == _narrow(output), command


def _narrow(text: str) -> str:
    return re.sub("  +", "  ", text)

"""The tests that depend on the version of cgroups, run once more under version 2 in a virtual machine."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BUILD, ROOT
from tests.containerd.images import native_image
from tests.containerd.releases import PeerMissing, Release

CANNOT = 77  # as tests/vm/run exits where no machine can be started
SECONDS = 900  # the machine has no KVM
STEP_SECONDS = 240  # for what takes a few milliseconds here

# What runs there; in one machine, as boot and imports take half a minute.
CGROUPS = (
    "tests/integration/test_cgroup.py",
    "tests/integration/test_cgroup_limits.py",
    "tests/integration/test_cgroup_memory.py",
)
CONTAINERD = "tests/integration/test_containerd_core.py"


@pytest.mark.timeout(SECONDS + 60)
def test_under_cgroup_version_2(containerd_release: Callable[[str], Release], guest: Callable[[str], Path]) -> None:
    """All pass there, and none is skipped for another reason than being about version 1."""
    files, missing = list(CGROUPS), ""
    try:  # the machine has no network and writes nothing: what is to be fetched or built is made here
        containerd_release("2.1")
        guest("kit_p1.wasm")
        native_image(BUILD)
        files.append(CONTAINERD)
    except (PeerMissing, pytest.skip.Exception) as reason:
        missing = str(reason)
    said = run_there(*files)
    assert re.search(r"\d+ passed", said), said
    reasons = re.findall(r"^skipped: .*?: (.*)$", said, re.MULTILINE)
    assert [reason for reason in reasons if reason != "cgroups are of version 2 here"] == [], said
    if missing:
        pytest.skip(f"only cgroups were tested, without containerd: {missing}")


def run_there(*files: str) -> str:
    """What pytest says of these files; skips where no machine can be started."""
    passed_on = ("WASM_SHIM_TESTED_PACKAGES", "PYTHONPATH", "PATH")
    variables = [f"{key}={os.environ[key]}" for key in passed_on if key in os.environ]
    variables += [f"WASM_SHIM_TEST_DEADLINE={STEP_SECONDS}"]
    command = ["env", *variables, sys.executable, "-m", "pytest", "-q", "-o", f"timeout={STEP_SECONDS}", *files]
    machine = os.environ | {"VM_TIMEOUT": str(SECONDS)}
    done = subprocess.run(
        [ROOT / "tests" / "vm" / "run", *command], cwd=ROOT, env=machine, capture_output=True, text=True
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    return said

"""The tests that depend on the version of cgroups, run once more under version 2 in a virtual machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANNOT = 77  # as tests/vm/run exits where no machine can be started
SECONDS = 900  # the machine has no KVM

# What runs there, one machine for each entry.
IN_A_MACHINE = {
    "cgroups": (
        "tests/integration/test_cgroup.py",
        "tests/integration/test_cgroup_limits.py",
        "tests/integration/test_cgroup_memory.py",
    ),
}


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("name", IN_A_MACHINE)
def test_under_cgroup_version_2(name: str) -> None:
    """All pass there, and none is skipped for another reason than being about version 1."""
    passed_on = ("WASM_SHIM_TESTED_PACKAGES", "PYTHONPATH", "PATH")
    variables = [f"{key}={os.environ[key]}" for key in passed_on if key in os.environ]
    command = ["env", *variables, sys.executable, "-m", "pytest", "-q", "-o", "timeout=300", *IN_A_MACHINE[name]]
    machine = os.environ | {"VM_TIMEOUT": str(SECONDS)}
    done = subprocess.run(
        [ROOT / "tests" / "vm" / "run", *command], cwd=ROOT, env=machine, capture_output=True, text=True
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    assert re.search(r"\d+ passed", said), said
    reasons = re.findall(r"^skipped: .*?: (.*)$", said, re.MULTILINE)
    assert [reason for reason in reasons if reason != "cgroups are of version 2 here"] == [], said

"""The benchmark runs to its end and says what it could not measure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(300)
def test_benchmark_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    """A short benchmark ends with 0 and has a row, or a reason, for each of its subjects."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.run", "--rounds", "2", "--pods", "2", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    names = " ".join([row["what"] for row in document["rows"]] + document["missing"])
    for subject in ("wasm-shim run, hello", "first byte", "runc", "wasmtime", "PSS of pod shim, 1", "PSS of guest, 2"):
        assert subject in names
    assert all(row["what"] in done.stdout for row in document["rows"])
    assert all(row["median"] > 0 and row["n"] >= 1 for row in document["rows"])

"""The benchmark runs to its end and says what it could not measure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.movers import Mover, theirs
from tests.conftest import ROOT
from tests.registry.programs import PEERS, PeerMissing


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


@pytest.mark.timeout(300)
def test_benchmark_of_transfers(tmp_path: Path) -> None:
    """A short one has six figures, or a reason, for each program and each of the three things to move."""
    file = tmp_path / "figures.json"
    words = ["--mib", "2", "--layers", "3", "--rounds", "1", "1", "1", "--json", str(file)]
    command = [sys.executable, "-m", "tests.bench.transfer", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    missing = {reason.partition(":")[0] for reason in document["missing"]}
    if "anything" in missing:
        pytest.skip(document["missing"][0])
    rows = document["rows"]
    assert len(rows) == 18 * (1 + len(PEERS) - len(missing))
    assert {row["what"].partition(":")[0] for row in rows} == {"wasm-shim", "wasm-shim's oci.copy", *PEERS} - missing
    assert {row["unit"] for row in rows if row["what"].endswith("memory")} == {"MiB"}
    assert all(row["what"] in done.stdout and row["median"] > 0 for row in rows)


def test_a_mover_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="false: it cannot push"):
        Mover("false", Path("/bin/false"), {}, [], []).run("push", tmp_path, "x", tmp_path)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_does_not_run_is_missing(name: str, tmp_path: Path) -> None:
    """Its package is there, but nothing in it."""
    for suite in ("bookworm", "sid"):
        (tmp_path / "peers" / f"{name}-{suite}").mkdir(parents=True)
    with pytest.raises(PeerMissing, match=f"{name}: it does not run here"):
        theirs(name, tmp_path, tmp_path / "home", by_file=True)

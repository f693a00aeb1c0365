"""The generated messages are what protoc makes of proto/ today."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "wasm_shim" / "api"
REGENERATE = "python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. proto/wasm_shim/api/*.proto"


def generated(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if "_pb2" in path.name}


def protoc_version(files: dict[str, str]) -> str:
    """The version line that protoc writes at the top of what it generates."""
    return next(line for line in files["task_pb2.py"].splitlines() if line.startswith("# Protobuf Python Version"))


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools, which brings protoc, is not installed")
def test_generated_code_is_current(tmp_path: Path) -> None:
    """Regenerating changes nothing, so nobody edited the generated files or forgot to regenerate them."""
    sources = sorted(str(path) for path in (ROOT / "proto" / "wasm_shim" / "api").glob("*.proto"))
    options = ["-I", str(ROOT / "proto"), f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *sources], check=True)
    fresh, committed = generated(tmp_path / "wasm_shim" / "api"), generated(COMMITTED)
    if protoc_version(fresh) != protoc_version(committed):
        pytest.skip(f"this protoc is another one than generated the files: {protoc_version(fresh)}")
    assert fresh == committed, f"run: {REGENERATE}"

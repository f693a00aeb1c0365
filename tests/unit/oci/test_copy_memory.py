"""Copying, saving and loading a large blob take little memory: the peaks of processes of their own are measured."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.layout import Layout
from oci.manifest import new_manifest
from oci.media_types import WASM_LAYER
from tests.contracts.stores import CONFIG, put, put_parent

MIB = 1 << 20

PEAK = """
import sys
from pathlib import Path
from oci.archive import load, save
from oci.copy import copy
from oci.layout import Layout
what, directory = sys.argv[1], Path(sys.argv[2])
source = Layout(directory / "source")
match what:
    case "copy":
        copy(source, "large", Layout.create(directory / "target"), "large")
    case "save":
        save(source, ["large"], sys.stdout.buffer)
    case "load":
        load(sys.stdin.buffer, Layout.create(directory / "target"))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
Path(directory / what).write_text(peak)
"""
LIMIT = 64 * MIB

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.parametrize("layer", [100 * MIB, pytest.param(1 << 30, marks=pytest.mark.heavy)], indirect=True),
]


@pytest.fixture
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> Descriptor:
    """A layer of so many zeros in a layout, under a name."""
    size: int = request.param
    source = Layout.create(tmp_path / "source")
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(bytes(MIB))
    layer = Descriptor(WASM_LAYER, Digest("sha256", digest.hexdigest()), size)
    with source.blob(layer.digest).open("wb") as blob:
        blob.truncate(size)
    put_parent(source, new_manifest(put(source, b"{}", CONFIG), [layer]), "large")
    return layer


def words(what: str, directory: Path) -> list[str]:
    """The command line of a process that does this, and writes its peak of memory in KiB to a file."""
    return [sys.executable, "-c", PEAK, what, str(directory)]


def peak(what: str, directory: Path) -> int:
    """Bytes."""
    return int((directory / what).read_text()) << 10


def test_copying(tmp_path: Path, layer: Descriptor) -> None:
    subprocess.run(words("copy", tmp_path), check=True)
    assert peak("copy", tmp_path) < LIMIT
    assert Layout(tmp_path / "target").has(layer)


def test_saving_and_loading_through_a_pipe(tmp_path: Path, layer: Descriptor) -> None:
    with subprocess.Popen(words("save", tmp_path), stdout=subprocess.PIPE) as saving:
        subprocess.run(words("load", tmp_path), stdin=saving.stdout, check=True)
    assert saving.returncode == 0
    assert max(peak("save", tmp_path), peak("load", tmp_path)) < LIMIT
    assert Layout(tmp_path / "target").has(layer)

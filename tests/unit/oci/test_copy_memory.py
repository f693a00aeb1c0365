"""Copying a large blob takes little memory: the peak of a process of its own is measured."""

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

COPY = """
import sys
from oci.copy import copy
from oci.layout import Layout
copy(Layout(sys.argv[1]), "large", Layout.create(sys.argv[2]), "large")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [100 * MIB, pytest.param(1 << 30, marks=pytest.mark.heavy)])
def test_memory_stays_flat(tmp_path: Path, size: int) -> None:
    source = Layout.create(tmp_path / "source")
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(bytes(MIB))
    layer = Descriptor(WASM_LAYER, Digest("sha256", digest.hexdigest()), size)
    with source.blob(layer.digest).open("wb") as blob:
        blob.truncate(size)
    put_parent(source, new_manifest(put(source, b"{}", CONFIG), [layer]), "large")
    words = [sys.executable, "-c", COPY, str(source.path), str(tmp_path / "target")]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert int(said) << 10 < 64 * MIB
    assert Layout(tmp_path / "target").has(layer)

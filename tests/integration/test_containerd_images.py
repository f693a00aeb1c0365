"""Images that are Wasm artifacts run on a real containerd: the shim asks it for the program."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oci.pack_options import ArtifactLayout
from tests.containerd.artifacts import create, indexed, packed, pushed
from tests.containerd.daemon import Daemon, without_log
from tests.containerd.images import Image
from tests.integration.tasks import run

pytestmark = pytest.mark.root
Guest = Callable[[str], Path]
unpacks = pytest.mark.parametrize("containerd", ["1.7", "2.1", "2.4"], indirect=True)  # 1.6.20 takes it for a tar
one_release = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)


@unpacks
def test_image_with_a_wasm_layer(containerd: Daemon, guest: Guest) -> None:
    """As runwasi has it: ctr runs it as any image, with its entrypoint, or with words instead."""
    image = containerd.load(packed("localhost/layer:1", guest("kit_p1.wasm"), cmd=("hello",)))
    done = run(containerd, image)
    assert done.returncode == 0, done.stderr
    assert (done.returncode, done.stdout, without_log(done.stderr)) == (0, "hello from kit\n", "")
    assert run(containerd, image, "kit_p1.wasm", "exit", "42").returncode == 42

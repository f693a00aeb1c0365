"""Images that are Wasm artifacts run on a real containerd: the shim asks it for the program."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oci.pack_options import ArtifactLayout
from tests.containerd.artifacts import CNCF_CONFIG, WASM_LAYER, create, indexed, load, packed, pushed, start
from tests.containerd.daemon import Daemon, without_log
from tests.containerd.leftovers import resolvers
from tests.integration.tasks import run

pytestmark = pytest.mark.root
Guest = Callable[[str], Path]
# 1.6.20 takes every layer for a tar when it unpacks or makes a container by itself.
unpacks = pytest.mark.parametrize("containerd", ["1.7", "2.1", "2.4"], indirect=True)
one_release = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)


def started(daemon: Daemon, image: str, *words: str) -> tuple[int, str, str]:
    """A container made by containerd's API: its code, and what it wrote."""
    return start(daemon, create(daemon, image, *words))


# What runs


@unpacks
def test_image_with_a_wasm_layer(containerd: Daemon, guest: Guest) -> None:
    """As runwasi has it: ctr runs it as any image, with its entrypoint, or with words instead."""
    image = containerd.load(packed("localhost/layer:1", guest("kit_p1.wasm"), ArtifactLayout.RUNWASI, cmd=("hello",)))
    done = run(containerd, image)
    assert (done.returncode, done.stdout, without_log(done.stderr)) == (0, "hello from kit\n", "")
    for word in ("kit_p1.wasm", "./kit_p1.wasm", "/kit_p1.wasm#_start"):
        assert run(containerd, image, word, "exit", "42").returncode == 42


def test_image_with_the_program_in_its_files(containerd: Daemon, guest: Guest) -> None:
    """No resolver is asked for what the root file system holds."""
    image = containerd.load(packed("localhost/file:1", guest("kit_p1.wasm"), ArtifactLayout.IMAGE, cmd=("hello",)))
    before = resolvers(containerd.owner)
    done = run(containerd, image)
    assert (done.returncode, done.stdout, without_log(done.stderr)) == (0, "hello from kit\n", "")
    assert resolvers(containerd.owner) == before


def test_artifact(containerd: Daemon, guest: Guest) -> None:
    """A module and a component whose containers are made as a CRI makes them, by entrypoint and by title.

    So even 1.6.20 runs runwasi's layout.
    """
    for program, layout in (
        ("kit_p1.wasm", ArtifactLayout.CNCF),
        ("kit_p2.wasm", ArtifactLayout.CNCF),
        ("kit_p2.wasm", ArtifactLayout.RUNWASI),
    ):
        image = load(containerd, packed(f"localhost/{layout.value}-{program}:1", guest(program), layout))
        for word in (f"/{program}", program):
            assert started(containerd, image.name, word, "hello") == (0, "hello from kit\n", "")


def test_artifact_without_an_entrypoint(containerd: Daemon, guest: Guest) -> None:
    """As wkg pushes them, whose config says nothing of how to start: the container's word can mean nothing else."""
    data = guest("kit_p1.wasm").read_bytes()
    config = {"architecture": "wasm", "os": "wasip1", "created": "1970-01-01T00:00:00Z"}
    image = load(containerd, pushed("localhost/bare:1", (CNCF_CONFIG, config), [(WASM_LAYER, data, "")]))
    assert started(containerd, image.name, "/whatever", "hello") == (0, "hello from kit\n", "")


@pytest.mark.parametrize(("os", "architecture"), [("linux", "amd64"), ("wasip1", "wasm")])
def test_artifact_in_an_index(containerd: Daemon, guest: Guest, os: str, architecture: str) -> None:
    """The only way for one name to lead to artifacts for more than one kind of host."""
    name = f"localhost/index-{os}:1"
    image = load(containerd, indexed(name, guest("kit_p1.wasm"), os, architecture))
    assert started(containerd, image.name, "/kit_p1.wasm", "hello") == (0, "hello from kit\n", "")


@one_release
def test_root_file_system_of_nothing(containerd: Daemon, guest: Guest, tmp_path: Path) -> None:
    """An artifact has no files: the root is empty, can be written unless it is read-only, and takes mounts."""
    image = load(containerd, packed("localhost/root:1", guest("kit_p1.wasm"), ArtifactLayout.RUNWASI))
    (tmp_path / "note").write_text("from the host\n")
    tmp_path.chmod(0o755)
    mount = ["--mount", f"type=bind,src={tmp_path},dst=/inside,options=rbind:ro"]
    for options in ([], ["--read-only"], ["--cwd", "/somewhere"]):
        done = run(containerd, image, "/kit_p1.wasm", "read", "/inside/note", options=[*options, *mount])
        assert (done.returncode, done.stdout) == (0, "from the host\n"), done.stderr

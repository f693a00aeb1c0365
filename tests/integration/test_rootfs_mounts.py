"""The mounts that make a container's root file system, as containerd's snapshotters ask for them."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.observe import mounts
from tests.integration.rooted import APP, Container, OnHost, tree
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Mount

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]
SAFE = {"nosuid", "nodev"}


class Layers:
    """The directories of an overlay, on a file system that can hold its upper one."""

    def __init__(self, directory: Path, program: Path, count: int, name_length: int = 1) -> None:
        self.lower = [directory / "snapshots" / f"{number:0{name_length}}" / "fs" for number in range(count)]
        self.upper, self.work = directory / "upper", directory / "work"
        for number, path in enumerate(self.lower):
            path.mkdir(parents=True)
            (path / f"layer{number}").write_text(str(number), encoding="ascii")
        for path in (self.upper, self.work):
            path.mkdir()
        shutil.copy(program, self.lower[-1] / APP[1:])

    @property
    def lowerdir(self) -> str:
        return f"lowerdir={':'.join(str(path) for path in self.lower)}"

    def mount(self) -> Mount:
        """For a container that may write."""
        options = ["index=off", f"workdir={self.work}", f"upperdir={self.upper}", self.lowerdir]
        return Mount(type="overlay", source="overlay", options=options)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own: an upper directory of an overlay may not be on another overlay."""
    with OnHost("tmpfs", tmp_path / "disk"):
        yield tmp_path / "disk"


def test_overlay_of_one_layer(container: Container, guest: Guest, disk: Path) -> None:
    """What the guest writes is in the upper directory; the layer stays as it is."""
    layers = Layers(disk, guest("kit_p1.wasm"), 1)
    container.rootfs = [layers.mount()]
    assert container.run("write", "/layer0", "changed").status == 0
    assert (layers.upper / "layer0").read_text(encoding="ascii") == "changed"
    assert (layers.lower[0] / "layer0").read_text(encoding="ascii") == "0"
    container.spec["root"]["readonly"] = True
    assert container.run("write", "/layer0", "again").status == 1
    assert container.run("read", "/layer0").stdout == "changed"


@pytest.mark.parametrize("writable", [True, False])
def test_overlay_whose_options_exceed_a_page(
    container: Container, guest: Guest, disk: Path, writable: bool  # noqa: FBT001 - a parameter of the test
) -> None:
    """Sixty layers with long names fit, as their common beginning is left out; the first one is on top."""
    layers = Layers(disk, guest("kit_p1.wasm"), 60, name_length=60)
    assert len(layers.lowerdir) > 4096
    (layers.lower[3] / "layer59").write_text("hidden", encoding="ascii")
    read_only = Mount(type="overlay", source="overlay", options=[layers.lowerdir])
    container.rootfs = [layers.mount() if writable else read_only]
    if not writable:  # nor can mount points be made
        container.spec["mounts"] = []
    assert container.run("read", "/layer59").stdout == "hidden"
    assert container.run("read", "/layer58").stdout == "58"
    assert container.run("write", "/layer58", "text").status == (0 if writable else 1)


def test_overlay_with_too_many_layers(container: Container, guest: Guest, disk: Path) -> None:
    """Where no common beginning helps, one sentence says so."""
    layers = Layers(disk, guest("kit_p1.wasm"), 100, name_length=60)
    container.rootfs = [layers.mount()]
    assert container.refused("hello").message.endswith("bytes; use fewer layers")


@pytest.mark.parametrize("options", [["ro"], ["rbind", "ro"], ["bind", "ro", "noatime"]])
def test_read_only_bind(container: Container, options: list[str]) -> None:
    """A root that is bound read-only cannot be written, whatever the spec says; mount points are there or not."""
    container.rootfs[0].options = options
    container.spec["mounts"] = []
    assert container.run("write", "/new", "text").status == 1
    assert container.run("hello").stdout == "hello from kit\n"


def test_mount_point_in_a_read_only_root(container: Container, tmp_path: Path) -> None:
    """One that exists is used; one that would have to be made is refused by name."""
    (container.image / "there").mkdir()
    container.rootfs[0].options = ["rbind", "ro"]
    container.spec["mounts"] = []
    container.mount(tmp_path, "/there")
    assert container.run("hello").status == 0
    container.mount(tmp_path, "/missing")
    assert container.refused("hello").message == "cannot mount /missing in the container: Read-only file system"


def test_root_without_mounts(container: Container) -> None:
    """Without any, root.path is the root as it is, also where it is absolute; what is mounted in it counts."""
    shutil.copytree(container.image, container.bundle / "rootfs")
    container.rootfs = []
    assert container.run("write", "/new", "text").status == 0
    assert (container.bundle / "rootfs/new").read_text(encoding="ascii") == "text"
    container.spec["root"]["path"] = str(container.image)
    with OnHost("tmpfs", container.image / "data"):
        pid = container.create("write", "/data/file", "text")
        assert tree(pid)["/"] == tree(pid)["/data"] == {"rw", *SAFE}
        container.start()
        assert container.end().status == 0
        assert container.left() == []
        assert (container.image / "data/file").read_text(encoding="ascii") == "text"


def test_several_mounts(container: Container, tmp_path: Path) -> None:
    """Each goes to its target beneath those before it, without set-user-id programs and devices."""
    (tmp_path / "data").mkdir()
    options = ["size=64k", "suid", "dev"]
    container.rootfs += [
        Mount(type="bind", source=str(tmp_path / "data"), target="/some/data", options=["rbind", "ro"]),
        Mount(type="tmpfs", source="tmpfs", target="scratch", options=options),
    ]
    pid = container.create("write", "/scratch/file", "text")
    found = tree(pid)
    assert (found["/some/data"], found["/scratch"]) == ({"ro", *SAFE}, {"rw", *SAFE})
    container.start()
    assert container.end().status == 0
    assert container.run("write", "/some/data/file", "text").status == 1


def test_target_behind_a_link_stays_inside(container: Container, tmp_path: Path) -> None:
    """A link in the first mount does not lead the second one to a directory of the host."""
    (tmp_path / "data").mkdir()
    (container.image / str(tmp_path)[1:]).mkdir(parents=True)
    (container.image / "data").symlink_to(tmp_path)
    container.rootfs.append(Mount(type="bind", source=str(tmp_path / "data"), target="data", options=["rbind"]))
    pid = container.create("sleep", "3600000")
    assert str(tmp_path) in tree(pid)
    container.end(signal.SIGKILL)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no source": (
        {"source": "/nowhere/at/all"},
        Code.FAILED_PRECONDITION,
        "cannot mount the root file system (bind of /nowhere/at/all):",
    ),
    "no such type": ({"type": "nonsense", "options": []}, Code.FAILED_PRECONDITION, "No such device; look at the"),
    "unknown option": ({"type": "tmpfs", "options": ["nonsense"]}, Code.FAILED_PRECONDITION, "look at the snapshotter"),
    "overlay without layers": ({"type": "overlay", "options": []}, Code.FAILED_PRECONDITION, "(overlay of "),
    "mapped users": ({"options": ["rbind", "uidmap=0:1000:1"]}, Code.INVALID_ARGUMENT, "'uidmap=0:1000:1'"),
    "mapped groups": ({"options": ["gidmap=0:1000:1"]}, Code.INVALID_ARGUMENT, "use another snapshotter"),
    "a procfs": ({"type": "proc", "source": "proc", "options": []}, Code.INVALID_ARGUMENT, "cannot show / to a guest"),
    "the host's /proc": ({"source": "/proc"}, Code.INVALID_ARGUMENT, ""),
}


@pytest.mark.parametrize(("fields", "code", "sentence"), BAD.values(), ids=BAD)
def test_bad_mounts_are_refused(container: Container, fields: dict[str, Any], code: int, sentence: str) -> None:
    """One sentence names the mount and the reason, nothing is left, and the next one works."""
    good = container.rootfs
    wanted: dict[str, Any] = {"type": "bind", "source": str(container.image), "options": ["rbind"]}
    container.spec["mounts"] = []
    container.rootfs = [Mount(**wanted | fields)]
    refusal = container.refused("hello")
    assert refusal.code == code, refusal
    assert sentence in refusal.message
    container.rootfs = good
    assert container.run("hello").status == 0


@pytest.mark.parametrize("place", ["/proc", "/sys", "/", "/proc/self", "/proc/version", "/dev/pts"])
def test_kernel_file_systems_are_not_bound(container: Container, place: str) -> None:
    """A bind mount of one, of a part of one, or of what is above one is refused with its place in the container."""
    container.mount(place, "/data", "ro")
    refusal = container.refused("hello")
    assert refusal.code == Code.INVALID_ARGUMENT
    assert refusal.message.startswith("cannot show /data")


@pytest.mark.parametrize("name", ["plain", "with space", "tab\tand\\", "ünïcode"])
def test_kernel_file_systems_below_a_volume(container: Container, tmp_path: Path, name: str) -> None:
    """A procfs is found wherever the root is, and however deep in a volume; /dev has a devpts below it."""
    container.spec["root"]["path"] = f"{tmp_path}/{name}"
    (tmp_path / "volume").mkdir()
    container.mount(tmp_path / "volume", "/data")
    with OnHost("proc", tmp_path / "volume/inner"):
        refusal = container.refused("hello")
        assert refusal.message.startswith("cannot show /data/inner to a guest: proc is one of the kernel's own")
    container.spec["root"]["path"] = "rootfs"
    if any(place.startswith("/dev/") for place, _, _ in mounts("self")) or os.path.ismount("/dev"):
        container.spec["mounts"][-1]["source"] = "/dev"
        assert container.refused("hello").message.startswith("cannot show /data")


def test_root_of_the_host_is_refused(container: Container) -> None:
    """As root.path, too."""
    container.rootfs, container.spec["mounts"] = [], []
    for path in ("/", "/proc"):
        container.spec["root"]["path"] = path
        assert container.refused("hello").message.startswith("cannot show /")


def test_missing_volume(container: Container) -> None:
    """The source of a bind mount that is not there is NotFound, with its name."""
    container.mount("/nowhere/at/all", "/data")
    refusal = container.refused("hello")
    message = "mount source /nowhere/at/all does not exist; create it or mount another directory"
    assert refusal == (Code.NOT_FOUND, message)


def test_mount_points_that_cannot_be(container: Container, tmp_path: Path) -> None:
    """A directory over a file, a file over a directory, and a place below a file are refused by name."""
    (container.image / "directory").mkdir()
    (tmp_path / "file").write_text("text", encoding="ascii")
    for source, target in ((tmp_path, APP), (tmp_path / "file", "/directory"), (tmp_path, f"{APP}/below")):
        container.mount(source, target)
        refusal = container.refused("hello")
        assert refusal.code == Code.FAILED_PRECONDITION
        assert refusal.message.startswith(f"cannot mount {target} in the container: ")
        del container.spec["mounts"][-1]

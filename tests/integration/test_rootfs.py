"""Containers with a root file system: which file of it is the program, and what the guest's tree holds."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.rooted import Container, OnHost, tree

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]


def test_a_life(container: Container) -> None:
    """Arguments, environment, output, exit status; and nothing is left."""
    container.process["env"] = ["A=1", "B=x=y"]
    ended = container.run("args", "one", "two words")
    words, variables = ["/app.wasm", "args", "one", "two words"], ["A=1", "B=x=y"]
    assert ended.stdout.splitlines() == [*(f"arg {word}" for word in words), *(f"env {pair}" for pair in variables)]
    assert container.run("err") == (3, "", "to stderr\n")
    assert container.run("exit", "200").status == 200
    assert container.run("trap").status == 134


def test_component(container: Container, guest: Guest) -> None:
    """A WASI 0.2 program is no different."""
    shutil.copy(guest("kit_p2.wasm"), container.image / "app.wasm")
    container.process["cwd"] = "/srv"
    assert container.run("write", "file", "text").status == 0
    assert container.run("read", "/srv/file").stdout == "text"
    assert container.run("read", "/none").status == 1


# The program


PLACES = {
    "absolute": ("/bin/tool.wasm", "/", ""),
    "relative": ("bin/tool.wasm", "/", ""),
    "in the working directory": ("tool.wasm", "/bin", ""),
    "with a dot": ("./tool.wasm", "/bin", ""),
    "from above": ("../../bin/tool.wasm", "/etc", ""),
    "by PATH": ("tool.wasm", "/", "relative:/none:/etc:/bin"),
    "without its ending": ("tool", "/", "/bin"),
    "past a directory of that name": ("bin", "/", "/opt"),
    "through an absolute link": ("/alias", "/", ""),
    "through a linked directory": ("/usr/tool.wasm", "/", ""),
    "through a link that climbs": ("/climber", "/", ""),
    "in a mount": ("/volume/tool.wasm", "/", ""),
    "text": ("/bin/hello.wat", "/", ""),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_program_is_found(container: Container, guest: Guest, tmp_path: Path, place: tuple[str, str, str]) -> None:
    """The first argument names a file of the image as a command names a program; links stay inside."""
    for name in ("bin", "opt", "etc"):
        (container.image / name).mkdir()
    for name in ("bin/tool.wasm", "bin/tool", "opt/bin"):
        shutil.copy(guest("kit_p1.wasm"), container.image / name)
    shutil.copy(guest("hello.wat"), container.image / "bin")
    (container.image / "alias").symlink_to("/bin/tool.wasm")
    (container.image / "climber").symlink_to("../" * 9 + "bin/tool.wasm")
    (container.image / "usr").symlink_to("bin")
    (tmp_path / "volume").mkdir()
    shutil.copy(guest("kit_p1.wasm"), tmp_path / "volume/tool.wasm")
    container.mount(tmp_path / "volume", "/volume", "ro")
    argument, container.process["cwd"], path = place
    container.process["args"], container.process["env"] = [argument], [f"PATH={path}"]
    assert container.run().stdout in ("hello from kit\n", "hello from wasm-shim\n")


def test_links_to_the_host_stay_inside(container: Container, guest: Guest, tmp_path: Path) -> None:
    """A link whose target is a file of the host only leads nowhere; one that both have leads to the image's."""
    outside = tmp_path / "host.wasm"
    shutil.copy(guest("kit_p1.wasm"), outside)
    (container.image / "link").symlink_to(outside)
    container.process["args"] = ["/link"]
    assert "no program /link in the image" in container.refused().message
    inside = container.image / str(outside)[1:]
    inside.parent.mkdir(parents=True)
    shutil.copy(guest("hello.wat"), inside)
    assert container.run().stdout == "hello from wasm-shim\n"


# The tree


SAFE = {"nosuid", "nodev"}


def test_tree_is_the_root_and_its_mounts(container: Container, tmp_path: Path) -> None:
    """The root, bind mounts and tmpfs are all there is: none of the kernel's file systems, nothing of the host.

    What is mounted is seen by the guest alone, from Create on.
    """
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("content", encoding="ascii")
    container.mount(tmp_path / "directory", "/a/b/c")
    container.mount(tmp_path / "file", "/etc/config/file", "ro")
    before = container.mounted("self")
    pid = container.create("sleep", "3600000")
    found = tree(pid)
    root = {"rw", *SAFE}
    assert found == {"/": root, "/a/b/c": root, "/etc/config/file": {"ro", *SAFE}, "/dev/shm": root, "/run": root}
    assert container.mounted("self") == container.mounted(container.shim) == before
    container.start()
    assert tree(pid) == found
    container.end(signal.SIGKILL)
    assert (container.image / "a/b/c").is_dir()
    assert (container.image / "etc/config/file").read_bytes() == b""


def test_writes_obey_the_mounts(container: Container, tmp_path: Path) -> None:
    """A read-only root and a mount that is `ro` take nothing; one that is not, and a tmpfs, take everything."""
    for name in ("ro", "rw", "below"):
        (tmp_path / name).mkdir()
    container.mount(tmp_path / "ro", "/ro", "ro")
    container.mount(tmp_path / "rw", "/rw", "rw")
    container.mount(tmp_path / "below", "/below", "rro")
    assert container.run("write", "/new", "text").status == 0
    assert (container.image / "new").read_text(encoding="ascii") == "text"
    container.spec["root"]["readonly"] = True
    wanted = {"/new": 1, "/other": 1, "/ro/file": 1, "/rw/file": 0, "/run/file": 0, "/below/file": 1}
    assert {path: container.run("write", path, "more").status for path in wanted} == wanted
    assert container.run("mkdir", "/directory").status == container.run("unlink", "/app.wasm").status == 1
    assert (tmp_path / "rw/file").read_text(encoding="ascii") == "more"
    assert not list((tmp_path / "ro").iterdir())
    assert (container.image / "new").read_text(encoding="ascii") == "text"


def test_read_only_holds_below_the_mount(container: Container, tmp_path: Path) -> None:
    """What is mounted on the host below the source of a read-only mount is read-only, too."""
    container.mount(tmp_path / "volume", "/data", "ro")
    with OnHost("tmpfs", tmp_path / "volume"), OnHost("tmpfs", tmp_path / "volume/inner"):
        pid = container.begin("sleep", "3600000")
        assert tree(pid)["/data"] == tree(pid)["/data/inner"] == {"ro", *SAFE}
        container.end(signal.SIGKILL)
        assert container.run("write", "/data/inner/file", "text").status == 1


def test_later_mounts_of_the_host_stay_outside(container: Container, tmp_path: Path) -> None:
    """What the host mounts in a volume while a guest runs is not shown to it: it could be a procfs."""
    volume = tmp_path / "volume"
    with OnHost("tmpfs", volume):
        subprocess.run(["mount", "--make-shared", volume], check=True)
        container.mount(volume, "/data")
        pid = container.create("sleep", "3600000")
        before = tree(pid)
        with OnHost("proc", volume / "proc"):
            assert tree(pid) == before
        container.start()
        container.end(signal.SIGKILL)


def test_links_of_the_image_keep_mounts_inside(container: Container, tmp_path: Path) -> None:
    """A mount point behind a link to a directory of the host is made beneath the root, and the host's is untouched."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "outside").mkdir()
    (container.image / "data").symlink_to(tmp_path / "outside")
    (container.image / str(tmp_path)[1:] / "outside").mkdir(parents=True)
    container.mount(tmp_path / "volume", "/data/deep/er")
    pid = container.create("sleep", "3600000")
    assert tree(pid)[f"{tmp_path}/outside/deep/er"] == {"rw", *SAFE}
    container.end(signal.SIGKILL)
    assert not list((tmp_path / "outside").iterdir())


def test_dangling_link_is_no_mount_point(container: Container, tmp_path: Path) -> None:
    """Where a link leads nowhere inside the image, its target on the host is not taken either."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "outside").mkdir()
    (container.image / "data").symlink_to(tmp_path / "outside")
    container.mount(tmp_path / "volume", "/data")
    assert "cannot mount /data in the container: File exists" in container.refused("hello").message


def test_tmpfs_has_its_options(container: Container) -> None:
    """Size and mode are the spec's; `ro` is obeyed."""
    options = ["size=64k", "mode=700", "ro"]
    for name, these in (("/small", options[:2]), ("/closed", options)):
        entry = {"destination": name, "type": "tmpfs", "source": "tmpfs", "options": these}
        container.spec["mounts"].append(entry)
    pid = container.begin("sleep", "3600000")
    assert tree(pid)["/closed"] == {"ro", *SAFE}
    [small] = [line for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if " /small " in line]
    assert small.endswith("size=64k,mode=700")
    container.end(signal.SIGKILL)


def test_options_of_a_writable_mount_of_a_read_only_one(container: Container, tmp_path: Path) -> None:
    """A mount inside a mount keeps its own mode, in the order of the spec."""
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    container.mount(tmp_path / "outer", "/data", "ro")
    container.mount(tmp_path / "inner", "/data/inner")
    assert container.run("write", "/data/inner/file", "text").status == 0
    assert container.run("write", "/data/file", "text").status == 1
    assert (tmp_path / "inner/file").exists()
    assert not (tmp_path / "outer/file").exists()


OUTSIDE = """
/etc/passwd ../etc/passwd /proc/self/mem /proc/self/environ /proc/1/root/etc/passwd /proc/self/fd/0
/sys/kernel /dev/mem /dev/null /dev/fd/0 ../../../../etc/passwd /dev/pts /run/../../etc/passwd
""".split()


def test_nothing_of_the_host_can_be_opened(container: Container) -> None:
    """The kernel's file systems, devices and the host's files are not there; links of the image lead to nothing."""
    (container.image / "passwd").symlink_to("/etc/passwd")
    (container.image / "memory").symlink_to("/proc/self/mem")
    (container.image / "up").symlink_to("../" * 9)
    places = [*OUTSIDE, "/passwd", "/memory", "/up/etc/passwd"]
    said = container.run("escape", *places).stdout.splitlines()
    assert len(said) == len(places)
    assert [line for line in said if line.endswith(": opened")] == []

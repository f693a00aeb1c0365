"""What the options of `ctr run` ask for holds for a Wasm task: user, file systems, namespaces, cgroup."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containerd.daemon import WASM, Daemon, without_log
from tests.containerd.images import Image
from tests.integration.observe import mounts, namespace, status
from tests.integration.tasks import APP, COMPONENT, kit_image, pid_of, run, running

pytestmark = [pytest.mark.root, pytest.mark.parametrize("containerd", ["2.1"], indirect=True)]

SLEEP = (APP, "sleep", "3600000")


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    """Guests in an image that names no user."""
    return containerd.load(kit_image(guest))


@pytest.fixture
def volume(containerd: Daemon) -> Iterator[Path]:
    """A directory of the host that everybody may write to, with a file."""
    directory = containerd.directory / "tmp/volume"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "file").write_text("of the host\n")
    yield directory
    shutil.rmtree(directory)


# The user


def test_user_of_the_image(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """It is the process's, with its group, and may what that user may."""
    image = containerd.load(kit_image(guest, name="localhost/user:1", user="65532:65532"))
    with running(containerd, image, *SLEEP) as task:
        found = status(task.pid)
        assert {name: found[name].split() for name in ("Uid", "Gid")} == dict.fromkeys(("Uid", "Gid"), ["65532"] * 4)
    assert run(containerd, image, APP, "write", "/data/open/file", "text").returncode == 0
    assert run(containerd, image, APP, "write", "/data/file", "text").stderr == "/data/file: Permission denied\n"


@pytest.mark.parametrize(("given", "uid", "gid"), [("0", 0, 0), ("1234", 1234, 0), ("1234:4321", 1234, 4321)])
def test_user_that_is_given(
    containerd: Daemon, guest: Callable[[str], Path], given: str, uid: int, gid: int, volume: Path
) -> None:
    """Instead of the image's; what it writes belongs to it."""
    image = containerd.load(kit_image(guest, name="localhost/user:1", user="65532:65532"))
    bind = f"type=bind,src={volume},dst=/volume,options=rbind:rw"
    done = run(containerd, image, APP, "write", "/volume/new", "text", options=["--user", given, "--mount", bind])
    assert (done.returncode, without_log(done.stderr)) == (0, "")
    assert ((volume / "new").stat().st_uid, (volume / "new").stat().st_gid) == (uid, gid)


# Files


@pytest.mark.parametrize("program", [APP, COMPONENT])
def test_working_directory(containerd: Daemon, guest: Callable[[str], Path], program: str) -> None:
    """The image's or the given one; relative paths begin there, absolute ones in the root."""
    image = containerd.load(kit_image(guest, name="localhost/cwd:1", directory="/data/open"))
    assert run(containerd, image, program, "write", "here", "text").returncode == 0
    assert run(containerd, image, program, "cwd").stdout.splitlines()[1:] == []
    assert run(containerd, image, program, "cwd", options=["--cwd", "/data"]).stdout.splitlines()[1:] == ["open"]
    assert run(containerd, image, program, "ls", "/data", options=["--cwd", "/data/open"]).stdout == "open\n"
    assert run(containerd, image, program, "cwd", options=["--cwd", "/made/anew"]).returncode == 0


def test_root_is_the_containers_own(containerd: Daemon, kit: Image) -> None:
    """It can be written to, which the image and the next container do not see; not so with --read-only."""
    assert run(containerd, kit, APP, "write", "/data/new", "text").returncode == 0
    assert run(containerd, kit, APP, "ls", "/data").stdout == "open\n"
    for place in ("/new", "/data/new", "/data/open/new", "/dev/shm/../new", APP):
        done = run(containerd, kit, APP, "write", place, "text", options=["--read-only"])
        assert (done.returncode, without_log(done.stderr)) == (1, f"{place}: I/O error\n"), place  # EROFS has no name
    assert run(containerd, kit, APP, "write", "/run/new", "text", options=["--read-only"]).returncode == 0


def test_mounts(containerd: Daemon, kit: Image, volume: Path) -> None:
    """A directory or a file of the host, read-only where it is asked for; a tmpfs; all in the guest's tree only."""
    read_only = ["--mount", f"type=bind,src={volume},dst=/volume,options=rbind:ro"]
    writable = ["--mount", f"type=bind,src={volume},dst=/volume,options=rbind:rw"]
    file = ["--mount", f"type=bind,src={volume}/file,dst=/etc/one,options=bind:ro"]
    temporary = ["--mount", "type=tmpfs,src=tmpfs,dst=/temporary,options=size=64k"]
    assert run(containerd, kit, APP, "read", "/volume/file", options=read_only).stdout == "of the host\n"
    assert run(containerd, kit, APP, "write", "/volume/new", "x", options=read_only).returncode == 1
    assert run(containerd, kit, APP, "write", "/volume/new", "x", options=writable).returncode == 0
    assert (volume / "new").read_text() == "x"
    assert run(containerd, kit, COMPONENT, "read", "/etc/one", options=file).stdout == "of the host\n"
    assert run(containerd, kit, APP, "write", "/etc/one", "x", options=file).returncode == 1
    assert run(containerd, kit, APP, "write", "/temporary/new", "x", options=temporary).returncode == 0
    with running(containerd, kit, *SLEEP, options=[*read_only, *temporary]) as task:
        tree = {place: options for place, options, _ in mounts(task.pid)}
        assert {"/", "/volume", "/temporary", "/run", "/dev/shm"} == tree.keys()
        assert "ro" in tree["/volume"]
        assert all({"nosuid", "nodev"} <= options for options in tree.values())
        inside = [place for place, _, _ in mounts("self") if str(volume) in place or "/temporary" in place]
        assert inside == []


def test_mount_of_nothing(containerd: Daemon, kit: Image) -> None:
    done = run(containerd, kit, options=["--mount", "type=bind,src=/nowhere,dst=/volume,options=rbind:ro"])
    [line] = done.stderr.splitlines()
    assert line.endswith("mount source /nowhere does not exist; create it or mount another directory")


def test_root_without_an_image(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """`--rootfs` names a directory of the host, which is the container's root as it is."""
    root = containerd.directory / "tmp/root"
    root.mkdir()
    shutil.copy(guest("kit_p1.wasm"), root / "app.wasm")
    command = ["run", "--rm", "--runtime", WASM, "--fifo-dir", f"{containerd.directory}/fifo", "--rootfs", str(root)]
    done = containerd.run(*command, containerd.new_id(), APP, "write", "/new", "text")
    assert (done.stdout, (root / "new").read_text()) == ("", "text")
    shutil.rmtree(root)


# Namespaces and the cgroup


def test_namespaces(containerd: Daemon, kit: Image) -> None:
    """All are the container's own; the network is the host's where that is asked for."""
    for options in ([], ["--net-host"]):
        with running(containerd, kit, *SLEEP, options=options) as task:
            kinds = ("ipc", "mnt", "net", "pid", "uts")
            shared = [kind for kind in kinds if namespace(task.pid, kind) == namespace("self", kind)]
            assert shared == (["net"] if options else [])
            assert status(task.pid)["NSpid"].split() == [str(task.pid), "1"]
    done = run(containerd, kit, APP, "read", "/etc/resolv.conf", options=["--net-host"])
    assert done.stdout == Path("/etc/resolv.conf").read_text()


def test_namespaces_of_another(containerd: Daemon, kit: Image) -> None:
    """Given by path, as a pod's are; the guest is not the first process then, and a signal ends it none the less."""
    with running(containerd, kit, *SLEEP) as first:
        kinds = {"network": "net", "pid": "pid", "uts": "uts", "ipc": "ipc"}
        paths = [f"{kind}:/proc/{first.pid}/ns/{name}" for kind, name in kinds.items()]
        options = [word for path in paths for word in ("--with-ns", path)]
        with running(containerd, kit, *SLEEP, options=options) as second:
            for kind in kinds.values():
                assert namespace(second.pid, kind) == namespace(first.pid, kind)
            assert namespace(second.pid, "mnt") != namespace(first.pid, "mnt")
            assert int(status(second.pid)["NSpid"].split()[1]) > 1
            assert second.kill("SIGTERM") == 143
    ended = run(containerd, kit, options=["--with-ns", "network:/proc/1/ns/nothing"])
    assert "the network namespace /proc/1/ns/nothing does not exist" in ended.stderr


def test_hostname(containerd: Daemon, kit: Image) -> None:
    """The given one, in a UTS namespace of its own."""
    with running(containerd, kit, *SLEEP, options=["--hostname", "a-wasm-box"]) as task:
        inside = ["nsenter", "--target", str(task.pid), "--uts", "uname", "-n"]
        assert subprocess.check_output(inside, text=True) == "a-wasm-box\n"
    assert os.uname().nodename != "a-wasm-box"


def test_cgroup(containerd: Daemon, kit: Image) -> None:
    """The given path in every hierarchy, gone afterwards; one below the namespace's name where none is given."""
    for options, path in (([], ""), (["--cgroup", f"/{containerd.namespace}/given"], "given")):
        name = containerd.new_id()
        with running(containerd, kit, *SLEEP, options=options, name=name) as task:
            memory = task.cgroup("memory")
            assert memory.name == (path or name)
            assert str(task.pid) in (memory / "cgroup.procs").read_text().split()
            lines = Path(f"/proc/{task.pid}/cgroup").read_text().splitlines()
            assert {line.split(":", 2)[2] for line in lines if line[0] != "0" and "name=" not in line} == {
                f"/{containerd.namespace}/{memory.name}"
            }
        assert not memory.exists()


def test_pid_file(containerd: Daemon, kit: Image) -> None:
    """ctr writes the pid on the host, which is that of the guest."""
    name, file = containerd.new_id(), containerd.directory / "tmp/pid"
    with running(containerd, kit, *SLEEP, options=["--pid-file", str(file)], name=name) as task:
        assert int(file.read_text()) == task.pid == pid_of(containerd, name)
    file.unlink()

"""Who a guest with a root file system is, and where: ids, permissions, namespaces, working directory."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.observe import children, descriptors, namespace, pidfds_of, status, threads, wait_ends
from tests.integration.rooted import Container
from tests.integration.support import read_soon
from wasm_shim.ttrpc.envelope import Code

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]

NO_CAPABILITIES = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
LOCKED = {"Seccomp": "2", "NoNewPrivs": "1"} | NO_CAPABILITIES
UID, GID, GROUPS = 12345, 23456, [7, 8]
SOMEBODY = {"uid": UID, "gid": GID, "additionalGids": GROUPS, "umask": 0o027}


# Who it is


def test_new_files_are_the_users(container: Container, tmp_path: Path) -> None:
    """Owner, group and permissions of what a guest makes are those of the spec's user and umask."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, UID, -1)
    container.mount(volume, "/data")
    container.process["user"] = SOMEBODY
    assert container.run("write", "/data/file", "text").status == 0
    assert container.run("mkdir", "/data/directory").status == 0
    for name, mode in (("file", 0o640), ("directory", 0o750)):
        found = (volume / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (UID, GID, mode)
    container.process["user"] = {"uid": 0, "gid": 0}
    assert container.run("write", "/roots", "text").status == 0
    assert (container.image / "roots").stat().st_mode & 0o777 == 0o644


def test_permissions_hold_for_the_user(container: Container) -> None:
    """What belongs to others is closed to it, and so it is to user 0, who has no capability to override that."""
    (container.image / "closed").write_text("secret", encoding="ascii")
    (container.image / "closed").chmod(0o600)
    (container.image / "groups").write_text("shared", encoding="ascii")
    (container.image / "groups").chmod(0o040)
    os.chown(container.image / "groups", 999, 8)
    container.process["user"] = SOMEBODY
    assert container.run("read", "/closed").status == 1
    assert container.run("read", "/groups").stdout == "shared"
    assert container.run("write", "/new", "text").status == 1
    container.process["user"] = {"uid": 0, "gid": 0}
    assert container.run("read", "/closed").stdout == "secret"
    assert container.run("read", "/groups").status == 1


@pytest.mark.parametrize("user", [SOMEBODY, {"uid": 0, "gid": 0}], ids=["somebody", "root"])
@pytest.mark.parametrize("words", [["spin"], ["block"]], ids=["spins", "waits"])
def test_every_thread_is_locked_in(container: Container, user: dict[str, object], words: list[str]) -> None:
    """Each thread has the ids, the seccomp filter, no_new_privs and no capability in any set."""
    container.process["user"] = user
    pid = container.begin(*words, stdin=str(container.fifo("stdin")))
    uid, gid = str(user["uid"]), str(user["gid"])
    groups = " ".join(map(str, GROUPS)) if user is SOMEBODY else ""
    wanted = LOCKED | {"Uid": "\t".join([uid] * 4), "Gid": "\t".join([gid] * 4), "Groups": groups}
    found = [status(pid, thread) for thread in threads(pid)]
    assert len(found) > 1
    for said in found:
        assert {key: said[key] for key in wanted} == wanted
    assert container.end(signal.SIGTERM).status == 143


def test_no_descriptor_of_others_is_open(container: Container) -> None:
    """Its stdio, its code and the directories that it may open are all that a guest has open."""
    pid = container.begin("sleep", "3600000")
    found = descriptors(pid)
    allowed = {"/", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", *(found[number] for number in range(3))}
    assert [what for what in found.values() if what not in allowed and not what.endswith(".cwasm")] == []
    container.end(signal.SIGKILL)


def test_user_reopens_stdio_of_root(container: Container) -> None:
    """A guest that is not root reads and writes FIFOs that only root may open, though it opens them again by name."""
    container.process["user"] = SOMEBODY
    stdin = container.fifo("stdin")
    container.create("cat", stdin=str(stdin))
    container.start()
    stdin.write_bytes(b"through\n")
    assert read_soon(container.stdout) == b"through\n"
    container.end(signal.SIGTERM)
    assert container.run("err") == (3, "", "to stderr\n")


def test_guest_of_another_user_ends_with_its_shim(container: Container) -> None:
    """The change of user does not undo that the kernel ends a guest with its pod shim."""
    container.process["user"] = SOMEBODY
    pid = container.begin("sleep", "3600000")
    pidfds = pidfds_of([pid, container.shim])
    os.kill(container.shim, signal.SIGKILL)
    wait_ends(pidfds)
    shutil.rmtree(container.pod.bundle)  # as nobody else does
    Path(container.pod.address).unlink()


# Namespaces


def in_namespaces(pid: int, *command: str) -> str:
    """What a command says in the network and host name of a process."""
    done = subprocess.run(["nsenter", "-t", str(pid), "-u", "-n", *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_namespaces_are_its_own(container: Container) -> None:
    """From Create on: process 1 of its own PID namespace, own mounts, IPC objects, host name and network."""
    pid = container.create("sleep", "3600000")
    for kind in ("mnt", "pid", "ipc", "uts", "net"):
        assert namespace(pid, kind) != namespace("self", kind) == namespace(container.shim, kind), kind
    assert namespace(container.shim, "pid_for_children") == namespace("self", "pid")
    assert status(pid)["NSpid"].split()[1:] == ["1"]
    assert in_namespaces(pid, "hostname") == "box"
    container.end(signal.SIGKILL)
    container.spec["linux"]["namespaces"] = [{"type": "mount"}]
    pid = container.create("sleep", "3600000")
    assert namespace(pid, "net") == namespace("self", "net")
    assert namespace(pid, "pid") != namespace("self", "pid")
    container.end(signal.SIGKILL)


@contextmanager
def holder() -> Iterator[int]:
    """A process in new PID, network, IPC and UTS namespaces, as a pod's pause container."""
    command = ["unshare", "-p", "-n", "-i", "-u", "--fork", "--kill-child", "sh", "-c", "echo ready; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            [inner] = children(process.pid)
            yield inner
        finally:
            process.kill()


def join(container: Container, pid: int, *kinds: str) -> None:
    """Have the container join namespaces of a process."""
    files = {"network": "net"}
    entries = [{"type": kind, "path": f"/proc/{pid}/ns/{files.get(kind, kind)}"} for kind in kinds]
    container.spec["linux"]["namespaces"] = [*entries, {"type": "mount"}]


def test_namespaces_are_joined(container: Container) -> None:
    """Those given by path are entered before Create answers; a host name is not set in one that is shared."""
    with holder() as pause:
        join(container, pause, "pid", "network", "ipc", "uts")
        pid = container.create("sleep", "3600000")
        for kind in ("pid", "net", "ipc", "uts"):
            assert namespace(pid, kind) == namespace(pause, kind), kind
        assert namespace(pid, "mnt") not in (namespace(pause, "mnt"), namespace("self", "mnt"))
        assert int(status(pid)["NSpid"].split()[1]) > 1
        assert in_namespaces(pid, "hostname") != "box"
        assert namespace(container.shim, "pid_for_children") == namespace("self", "pid")
        container.start()
        assert container.end(signal.SIGTERM).status == 143
        assert container.run("exit", "42").status == 42
        join(container, pause, "network", "ipc", "uts")  # as a pod's other containers do
        pid = container.create("sleep", "3600000")
        assert status(pid)["NSpid"].split()[1:] == ["1"]
        assert namespace(pid, "net") == namespace(pause, "net")
        container.end(signal.SIGKILL)


@pytest.mark.parametrize("kind", ["pid", "network", "ipc"])
def test_namespace_that_is_gone(container: Container, tmp_path: Path, kind: str) -> None:
    """A path that is not there, or is no namespace of that kind, is named in the refusal."""
    wrong = dict.fromkeys(("/proc/self/ns/uts", str(tmp_path), "/etc/passwd"), Code.INVALID_ARGUMENT)
    for path, code in {"/nowhere/ns": Code.NOT_FOUND, **wrong}.items():
        container.spec["linux"]["namespaces"] = [{"type": kind, "path": path}]
        refusal = container.refused("hello")
        assert refusal.code == code, refusal
        assert f"{kind} namespace {path}" in refusal.message


# The working directory


def test_working_directory(container: Container) -> None:
    """Relative paths begin there, and it is made where the image lacks it."""
    (container.image / "srv").mkdir()
    for directory in ("/srv", "/made/for/it"):
        container.process["cwd"] = directory
        assert container.run("write", "file", "text").status == 0
        assert (container.image / directory[1:] / "file").read_text(encoding="ascii") == "text"
        assert container.run("ls", ".").stdout == "file\n"
    container.spec["process"] |= {"cwd": "/made/anew", "user": SOMEBODY}
    assert container.run("ls", ".").status == 0


@pytest.mark.parametrize("user", [0, 12345])
def test_absolute_paths_beside_a_working_directory(container: Container, user: int) -> None:
    """They lead where they say, to volumes, too, though the C library of guests knows no working directory."""
    files = {"srv/file": "relative", "etc/file": "absolute", "srv/sub/file": "below", "closed/x": "x"}
    for name, text in files.items():
        (container.image / name).parent.mkdir(exist_ok=True)
        (container.image / name).write_text(text, encoding="ascii")
    (container.image / "closed").chmod(0o700)
    container.spec["process"] |= {"cwd": "/srv", "user": {"uid": user, "gid": user}}
    wanted = {"file": "relative", "./sub/file": "below", "/etc/file": "absolute", "/srv/file": "relative"}
    assert {path: container.run("read", path).stdout for path in wanted} == wanted
    assert container.run("read", "/closed/x").stdout == ("" if user else "x")
    assert container.run("ls", "/dev").stdout == "shm\n"
    assert container.run("write", "/dev/shm/new", "text").status == 0


def test_working_directory_that_cannot_be(container: Container) -> None:
    """A file is none, and a read-only image takes no new one."""
    container.process["cwd"] = "/app.wasm"
    assert container.refused("hello").code == Code.INVALID_ARGUMENT
    container.rootfs[0].options, container.spec["mounts"] = ["rbind", "ro"], []
    container.process["cwd"] = "/missing"
    message = container.refused("hello").message
    assert message.startswith("working directory /missing is not in the image and cannot be made: Read-only file")

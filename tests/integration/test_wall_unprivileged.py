"""The wall without root: a user namespace, or Landlock where the kernel allows none."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import User
from tests.integration.observe import (
    Chain,
    chain_of,
    descriptors,
    mounts,
    namespace,
    running,
    status,
    threads,
    wait_end,
    zygotes,
)
from tests.integration.support import DEADLINE, leftovers, wait_ready
from wasm_shim.kernel import landlock

Guest = Callable[[str], Path]

KITS = ["kit_p1.wasm", "kit_p2.wasm"]
NO_CAPABILITIES = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)

# Runs a command in a user namespace whose inhabitants get no further one: arguments are the user and the command.
# As root the namespace has everybody, else only this user, without privileges in it after exec.
WITHOUT_USER_NAMESPACES: Final = """
import os, sys
from wasm_shim.kernel import calls
user, command = int(sys.argv[1]), sys.argv[2:]
maps = {"uid_map": "0 0 65536"} | {"gid_map": "0 0 65536"}
if os.geteuid() != 0:
    maps = {"uid_map": f"{user} {user} 1", "setgroups": "deny", "gid_map": f"{os.getegid()} {os.getegid()} 1"}
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
ready, go = os.pipe()
itself = os.getpid()
if os.geteuid() == 0 and os.fork() == 0:  # only a process outside may map everybody
    os.close(go)
    os.read(ready, 1)
    for name, text in maps.items():
        write(f"/proc/{itself}/{name}", text)
    os._exit(0)
outside = os.geteuid() == 0
calls.unshare(calls.CLONE_NEWUSER)
os.close(go)
if outside:
    os.wait()
else:
    for name, text in maps.items():
        write(f"/proc/self/{name}", text)
write("/proc/sys/user/max_user_namespaces", "0")
if outside:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
os.execvp(command[0], command)
"""


def fenced(user: User, *words: str | Path) -> list[str]:
    """The command line for this user where no user namespace can be had."""
    return [sys.executable, "-c", WITHOUT_USER_NAMESPACES, str(user.uid), "wasm-shim", *map(str, words)]


@pytest.fixture
def lone_user(ordinary_user: User) -> User:
    """An ordinary user of a kernel with Landlock, for `fenced` commands."""
    if not landlock.version():
        pytest.skip("this kernel has no Landlock")
    done = run_fenced(ordinary_user, "version")
    if done.returncode != 0:
        pytest.skip(f"cannot make a user namespace without others: {done.stderr.splitlines()[-1]}")
    return ordinary_user


def run_fenced(user: User, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        fenced(user, *words), env=user.environment, cwd=user.environment["HOME"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


@contextmanager
def running_fenced(user: User, *words: str | Path) -> Iterator[Chain]:
    """A guest that has said "ready"."""
    with subprocess.Popen(
        fenced(user, "run", "--rm", *words), env=user.environment, cwd=user.environment["HOME"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as cli:  # fmt: skip
        try:
            wait_ready(cli)
            yield chain_of(user.environment, cli.pid)
        finally:
            cli.kill()


def own(user: User, path: Path, text: str = "") -> Path:
    """Make a file, or a directory where there is no text, that belongs to the user."""
    if text:
        path.write_text(text, encoding="ascii")
    else:
        path.mkdir()
    os.chown(path, user.uid, -1)
    return path


@pytest.fixture
def granted(ordinary_user: User) -> Path:
    """A directory of the user's with a file and a link that leads out."""
    directory = own(ordinary_user, Path(ordinary_user.environment["HOME"], "granted"))
    own(ordinary_user, directory / "inside", "granted")
    (directory / "link").symlink_to("../secret")
    own(ordinary_user, directory.parent / "secret", "not granted")
    return directory


def walled(chain: Chain, uid: int, *, bounded: bool) -> bool:
    """Whether every thread has the filter, no_new_privs, no capability and the user's id.

    Only who has had a capability can empty its bounding set, which no_new_privs makes meaningless.
    """
    wanted = {"Seccomp": "2", "NoNewPrivs": "1"} | NO_CAPABILITIES
    if not bounded:
        del wanted["CapBnd"]
    found = [said for said in (status(chain.guest, thread) for thread in threads(chain.guest)) if said]
    return len(found) > 1 and all(
        {name: said[name] for name in wanted} == wanted and said["Uid"].split() == [str(uid)] * 4 for said in found
    )


# With a user namespace


@pytest.fixture
def namespaced(ordinary_user: User) -> User:
    """An ordinary user who may make user namespaces."""
    said = ordinary_user.run(["wasm-shim", "version"], timeout=DEADLINE).stdout
    if "user namespace" not in said:
        pytest.skip(f"no user namespace for ordinary users here: {said.splitlines()[-1]}")
    return ordinary_user


@pytest.mark.parametrize("kit", KITS)
def test_user_namespace_walls_in(namespaced: User, guest: Guest, granted: Path, kit: str) -> None:
    """An ordinary user's guest has all of the wall in a user namespace: root, PIDs, filter, no capability."""
    words = ["-v", f"{granted}:/data:ro", str(guest(kit)), "sleep", "3600000"]
    with running(namespaced.environment, *words, **namespaced.popen_options()) as chain:
        assert walled(chain, namespaced.uid, bounded=True)
        assert status(chain.guest)["NSpid"].split()[1:] == ["1"]
        for kind in ("user", "mnt", "pid", "ipc", "uts"):
            assert namespace(chain.guest, kind) != namespace(chain.zygote, kind), kind
        assert [(place, "ro" in options) for place, options, _ in mounts(chain.guest)] == [("/", True), ("/0", True)]


@pytest.mark.parametrize("kit", KITS)
def test_user_namespace_grants(namespaced: User, guest: Guest, granted: Path, kit: str) -> None:
    """What is granted works, files by name too, and nothing else is there."""
    volumes = ["-v", f"{granted}:/data", "-v", f"{granted.parent}/secret:/one/name:ro"]

    def run(*words: str) -> str:
        command = ["wasm-shim", "run", "--rm", *volumes, str(guest(kit)), *words]
        return namespaced.run(command, timeout=DEADLINE, stdin=subprocess.DEVNULL).stdout

    assert run("read", "/data/inside") == "granted"
    assert run("read", "/one/name") == "not granted"
    run("write", "/data/new", "text")
    assert (granted / "new").read_text(encoding="ascii") == "text"
    assert (granted / "new").stat().st_uid == namespaced.uid
    tried = ["/data/link", "/data/../secret", "/etc/passwd", "/proc/self/mem", f"{granted}/inside"]
    assert "opened" not in run("escape", *tried)
    assert leftovers(namespaced.environment) == []


# With Landlock


def test_version_names_landlock(lone_user: User) -> None:
    """`version` tells which wall guests get: Landlock where no user namespace can be had."""
    assert run_fenced(lone_user, "version").stdout.endswith("guests are walled in by: Landlock\n")


@pytest.mark.parametrize("kit", KITS)
def test_landlock_locks_every_thread(lone_user: User, guest: Guest, granted: Path, kit: str) -> None:
    """Under Landlock, too, every thread has the filter and no capability, and nothing foreign is open."""
    with running_fenced(lone_user, "-v", f"{granted}:/data", guest(kit), "sleep", "3600000") as chain:
        assert walled(chain, lone_user.uid, bounded=False)
        assert namespace(chain.guest, "mnt") == namespace(chain.zygote, "mnt")
        found = descriptors(chain.guest)
        allowed = {*(found[number] for number in (0, 1, 2)), str(granted)}
        allowed |= {"anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
        assert [what for what in found.values() if what not in allowed and not what.endswith(".cwasm")] == []


@pytest.mark.parametrize("kit", KITS)
def test_landlock_grants(lone_user: User, guest: Guest, granted: Path, kit: str) -> None:
    """Granted directories work under Landlock, read-only ones only for reading, and nothing else is there."""

    def run(mode: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_fenced(lone_user, "run", "--rm", "-v", f"{granted}:/data:{mode}", guest(kit), *words)

    assert run("ro", "read", "/data/inside").stdout == "granted"
    for words in (["write", "/data/inside", "x"], ["mkdir", "/data/new"], ["unlink", "/data/inside"]):
        assert run("ro", *words).returncode == 1
    assert run("rw", "write", "/data/new", "text").returncode == 0
    assert (granted / "new").read_text(encoding="ascii") == "text"
    assert run("rw", "unlink", "/data/new").returncode == 0
    tried = ["/data/link", "/data/../secret", "/etc/passwd", "/proc/self/mem", "/", "/tmp", str(granted / "inside")]
    done = run("rw", "escape", "/data/inside", *tried)
    assert [line for line in done.stdout.splitlines() if line.endswith("opened")] == ["/data/inside: opened"]
    assert leftovers(lone_user.environment) == []


def test_landlock_refuses_file_mounts(lone_user: User, guest: Guest, granted: Path) -> None:
    """A single file cannot be granted without a mount namespace: the refusal says so and what to do."""
    done = run_fenced(lone_user, "run", "--rm", "-v", f"{granted}/inside:/one", guest("kit_p1.wasm"))
    refusal = f"wasm-shim: cannot mount the file {granted}/inside: this kernel lets you have no user namespace; "
    assert done.stderr == f"{refusal}mount its directory\n"
    assert done.returncode != 0
    assert leftovers(lone_user.environment) == []


@pytest.mark.parametrize(
    ("victim", "number"), [("cli", signal.SIGTERM), ("cli", signal.SIGKILL), ("shim", signal.SIGKILL)]
)
def test_landlock_guests_end_with_their_shim(lone_user: User, guest: Guest, victim: str, number: int) -> None:
    """Without a PID namespace, too, a spinning guest ends on SIGTERM, and when a process above it is killed."""
    with running_fenced(lone_user, guest("spin.wat")) as chain:
        os.kill(getattr(chain, victim), number)
        wait_end(chain.guest)


def test_walls_of_two_kinds_have_two_zygotes(lone_user: User, guest: Guest) -> None:
    """A zygote that was started inside a fence is not used outside of it."""
    with running_fenced(lone_user, guest("spin.wat")):
        done = lone_user.run(["wasm-shim", "run", "--rm", guest("hello.wat")], timeout=DEADLINE)
        assert done.stdout == "hello from wasm-shim\n"
        first, second = zygotes(lone_user.environment)
        assert namespace(first, "user") != namespace(second, "user")

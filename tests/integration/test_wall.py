"""The kernel's wall around a running guest and what a guest can see, as whoever runs the tests."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.observe import (
    children,
    descriptors,
    mounts,
    namespace,
    running,
    status,
    the_zygote,
    threads,
)
from tests.integration.support import DEADLINE, Environment, Hold, read_to_end, started, wasm_shim

Guest = Callable[[str], Path]

KITS = ["kit_p1.wasm", "kit_p2.wasm"]
BUSY = {"spins": ["spin"], "sleeps": ["sleep", "3600000"], "waits for stdin": ["block"]}
NO_CAPABILITIES = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
LOCKED = {"Seccomp": "2", "NoNewPrivs": "1"} | NO_CAPABILITIES


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest, guest: Guest) -> Path:
    """The kit as a WASI 0.1 and as a WASI 0.2 program."""
    return guest(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file, and with links that lead out of it."""
    (tmp_path / "inside").write_text("granted", encoding="ascii")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "relative").symlink_to("../" * 9 + "etc/passwd")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "memory").symlink_to("/proc/self/mem")
    (tmp_path / "descriptor").symlink_to("/proc/self/fd/0")
    return tmp_path


@pytest.fixture
def private_mounts(home: Environment) -> None:
    """Only where guests have a root of their own."""
    wall = wasm_shim(home, "version").stdout
    if "namespace" not in wall:
        pytest.skip(f"no namespaces here: {wall.splitlines()[-1]}")


def walls(guest: int) -> list[dict[str, str]]:
    """What of LOCKED the kernel says otherwise, of each thread."""
    found = (status(guest, thread) for thread in threads(guest))
    return [{key: said[key] for key in LOCKED if said[key] != LOCKED[key]} for said in found if said]


@pytest.mark.parametrize("words", BUSY.values(), ids=BUSY)
def test_every_thread_is_locked_in(home: Environment, kit: Path, words: list[str]) -> None:
    """Each thread of a guest has our seccomp filter, no_new_privs and no capability in any set."""
    with running(home, "-i", kit, *words, stdin=subprocess.PIPE) as chain:
        found = walls(chain.guest)
        assert len(found) > 1
        assert not any(found)


@pytest.mark.usefixtures("private_mounts")
def test_namespaces_are_its_own(home: Environment, kit: Path) -> None:
    """A guest is process 1 of a PID namespace of its own, and has its own mounts, IPC objects and host name."""
    with running(home, kit, "sleep", "3600000") as chain:
        assert status(chain.guest)["NSpid"].split()[1:] == ["1"]
        for kind in ("mnt", "pid", "ipc", "uts"):
            assert namespace(chain.guest, kind) != namespace("self", kind), kind
        assert namespace(chain.shim, "mnt") == namespace(chain.zygote, "mnt") == namespace("self", "mnt")


@pytest.mark.usefixtures("private_mounts")
def test_root_holds_the_mounts_only(home: Environment, kit: Path, tmp_path: Path) -> None:
    """The root is read-only and empty but for what was granted, which cannot run code or hold devices."""
    (tmp_path / "write").mkdir()
    (tmp_path / "read").mkdir()
    (tmp_path / "file").write_text("one file", encoding="ascii")
    granted = [f"{tmp_path}/write:/w", f"{tmp_path}/read:/deep/r:ro", f"{tmp_path}/file:/etc/name:ro"]
    words = [word for volume in granted for word in ("-v", volume)]
    with running(home, *words, kit, "sleep", "3600000") as chain:
        (point, options, source), *rest = mounts(chain.guest)
        assert (point, source) == ("/", "wasm-shim")
        assert options >= {"ro", "nosuid", "nodev", "noexec"}
        modes = {place: options & {"ro", "rw", "nosuid", "nodev"} for place, options, _ in rest}
        ro = {"ro", "nosuid", "nodev"}
        assert modes == {"/0": {"rw", "nosuid", "nodev"}, "/1": ro, "/2/name": ro}
        root = Path(f"/proc/{chain.guest}/root")
        assert {path.name for path in root.iterdir()} == {"0", "1", "2"}
        assert [path.name for path in (root / "2").iterdir()] == ["name"]


def foreign(guest: int) -> dict[int, str]:
    """The descriptors of a guest that are neither its stdio, its program, its directories nor its runtime's own."""
    found = descriptors(guest)
    runtime = {"anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
    allowed = runtime | {found[number] for number in (0, 1, 2)} | {f"/{number}" for number in range(3)}
    return {number: what for number, what in found.items() if what not in allowed and not what.endswith(".cwasm")}


def test_no_descriptor_of_others_is_open(home: Environment, kit: Path, tree: Path) -> None:
    """A guest has its stdio, its code and its directories open, and nothing of command line, shim or zygote."""
    secret = os.memfd_create("secret", 0)
    os.set_inheritable(secret, True)
    try:
        options = {"pass_fds": [secret], "stderr": subprocess.PIPE}
        with running(home, "-v", f"{tree}:/data", kit, "sleep", "3600000", **options) as chain:
            assert all(what.startswith("pipe:") for number, what in descriptors(chain.guest).items() if number < 3)
            assert foreign(chain.guest) == {}
            for pid in (chain.zygote, chain.shim):
                assert not [what for what in descriptors(pid).values() if "secret" in what]
    finally:
        os.close(secret)


def test_zygote_keeps_nothing_of_its_starter_open(home: Environment, guest: Guest) -> None:
    """A pipe that the caller left open across the first run ends when the caller and the command line have."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    wasm_shim(home, "run", "--rm", guest("hello.wat"), pass_fds=[writer])
    os.close(writer)
    assert the_zygote(home)
    assert read_to_end(reader) == b""
    os.close(reader)


def test_host_mounts_do_not_change(home: Environment, kit: Path, tree: Path) -> None:
    """Runs that mount, fail or trap leave the host's mount table as it was."""
    before = mounts("self")
    for words in (["hello"], ["trap"], ["ls", "/data"]):
        wasm_shim(home, "run", "--rm", "-v", f"{tree}:/data:ro", kit, *words)
    assert wasm_shim(home, "run", "-v", "/nowhere/at/all:/data", kit).returncode == 125
    assert mounts("self") == before


OUTSIDE = """
/etc/passwd ../etc/passwd ../../../etc/passwd /proc/self/mem /proc/self/environ /proc/1/root/etc/passwd
/proc/self/fd/0 /sys/kernel /dev/mem /dev/null /dev/fd/0 /run /tmp . / /0 /1 0 wasm-shim
""".split()

THROUGH = """
../../../etc/passwd ../inside-of-parent absolute relative up up/.. up/../etc/passwd memory descriptor
inside/../../etc/passwd ./.././../proc/self/mem //etc/passwd
""".split()


def test_nothing_is_visible_without_a_grant(home: Environment, kit: Path) -> None:
    """A guest without grants opens no path at all."""
    done = wasm_shim(home, "run", "--rm", kit, "escape", *OUTSIDE)
    assert len(done.stdout.splitlines()) == len(OUTSIDE)
    assert [line for line in done.stdout.splitlines() if line.endswith("opened")] == []


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_no_way_leads_out_of_a_granted_directory(home: Environment, kit: Path, tree: Path, mode: str) -> None:
    """Neither `..` nor a symbolic link of any kind reaches a file outside of a granted directory."""
    paths = [f"/data/{path}" for path in THROUGH] + [path for path in OUTSIDE if path not in (".", "/")]
    done = wasm_shim(home, "run", "--rm", "-v", f"{tree}:/data:{mode}", kit, "escape", "/data/inside", *paths)
    assert [line for line in done.stdout.splitlines() if line.endswith("opened")] == ["/data/inside: opened"]


def test_links_that_a_guest_makes_lead_nowhere(home: Environment, kit: Path, tree: Path) -> None:
    """A link out of its directory that a guest makes itself is refused, or cannot be followed by it."""
    for target in ("/etc/passwd", "../../../etc/passwd"):
        wasm_shim(home, "run", "--rm", "-v", f"{tree}:/data", kit, "symlink", target, "/data/made")
        done = wasm_shim(home, "run", "--rm", "-v", f"{tree}:/data", kit, "escape", "/data/made")
        assert "opened" not in done.stdout
        (tree / "made").unlink(missing_ok=True)


def test_read_only_grants_are_read_only(home: Environment, kit: Path, tree: Path) -> None:
    """Nothing can be written, made or removed in a directory or file that was granted with :ro."""
    for words in (["write", "/data/inside", "x"], ["mkdir", "/data/new"], ["unlink", "/data/inside"]):
        done = wasm_shim(home, "run", "--rm", "-v", f"{tree}:/data:ro", kit, *words)
        assert done.returncode == 1, done
    assert sorted(path.name for path in tree.iterdir()) == sorted(["inside", *THROUGH[2:5], "memory", "descriptor"])
    assert (tree / "inside").read_text(encoding="ascii") == "granted"


def test_caller_environment_is_invisible(home: Environment, kit: Path) -> None:
    """A guest has the variables that were given to it and no others."""
    done = wasm_shim({**home, "SECRET": "of the caller"}, "run", "--rm", "-e", "GIVEN=1", kit, "args")
    assert [line for line in done.stdout.splitlines() if line.startswith("env ")] == ["env GIVEN=1"]


def test_no_process_holds_the_caller_environment(home: Environment, kit: Path) -> None:
    """Nor do the zygote, the pod shim and the guest's process have the caller's variables in their memory's head."""
    with running({**home, "SECRET": "of the caller"}, kit, "sleep", "3600000") as chain:
        for pid in (chain.zygote, chain.shim, chain.guest):
            assert b"of the caller" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_random_bytes_differ(home: Environment, kit: Path) -> None:
    """Twenty guests one after the other, and ten at once, all draw different random bytes."""
    command = ["run", "--rm", str(kit), "random", "32"]
    drawn = [wasm_shim(home, *command).stdout for _ in range(20)]
    with ExitStack() as stack:
        together = [stack.enter_context(started(home, *command)) for _ in range(10)]
        drawn += [process.communicate(timeout=DEADLINE)[0].decode() for process in together]
    assert all(len(text) == 65 for text in drawn)
    assert len(set(drawn)) == 30


# The compiler


@pytest.fixture
def compiler(home: Environment, guest: Guest) -> Iterator[int]:
    """A compiler process that has done its work and waits at its last step."""
    with (
        Hold(home, "compiler.reported") as hold,
        started(hold.environment, "run", "--rm", guest("hello.wat"), stderr=subprocess.DEVNULL),
    ):
        yield hold.wait()


def test_compiler_is_confined(home: Environment, compiler: int) -> None:
    """The compiler works as nobody where it can, with a filter, no capability, limits, and four descriptors."""
    assert compiler in children(children(the_zygote(home))[0])
    for thread in threads(compiler):
        said = status(compiler, thread)
        assert (said["Seccomp"], said["NoNewPrivs"]) == ("2", "1")
        assert {name: said[name] for name in ("CapPrm", "CapEff", "CapAmb")} == dict.fromkeys(
            ("CapPrm", "CapEff", "CapAmb"), "0" * 16
        )
        assert said["Uid"].split() == [str(65534 if os.geteuid() == 0 else os.geteuid())] * 4
        assert os.geteuid() != 0 or said["Groups"] == ""
    limits = Path(f"/proc/{compiler}/limits").read_text(encoding="ascii")
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert rows["Max core file size"] == ["0", "0"]
    for name in ("Max cpu time", "Max address space", "Max file size"):
        assert "unlimited" not in rows[name]


def test_compiler_holds_no_descriptor_of_others(compiler: int) -> None:
    """Beside the program, its code, the report and the lock it has open only what the test holds it with."""
    found = descriptors(compiler)
    assert sorted(found)[:4] == [0, 1, 2, 3]
    rest = [what for number, what in found.items() if number > 3 and not what.startswith("anon_inode:")]
    assert len(rest) <= 1, found
    assert all(what.startswith("socket:") for what in rest), found

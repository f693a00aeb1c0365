"""No way out of a Wasm task: not for the guest, and not for native code in its place.

What the filter of system calls refuses is tried call by call in test_wall_calls.py; here, that it is loaded.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containerd.daemon import WASM, Daemon
from tests.containerd.images import Image
from tests.integration.observe import descriptors, mounts, namespace, status, threads
from tests.integration.tasks import APP, COMPONENT, kit_image, run, running

pytestmark = [pytest.mark.root, pytest.mark.parametrize("containerd", ["2.1"], indirect=True)]
both_kinds = pytest.mark.parametrize("program", [APP, COMPONENT])

SLEEP = (APP, "sleep", "3600000")
SECRET = "only the host may read this\n"
KERNELS = [
    "/proc", "/proc/self/mem", "/proc/1/root", "/proc/self/fd/0", "/sys", "/sys/fs/cgroup", "/dev/null", "/dev/mem",
    "/dev/zero", "/dev/pts/0", "/dev/kmsg", "/dev/fuse", "/dev/ptmx", "/dev/mqueue", "/dev/../proc/self/mem",
]  # fmt: skip
HOSTS = [
    "/etc/passwd", "/etc/hostname", "/etc/shadow", "/../etc/passwd", "../../../../../../etc/passwd", "/var", "/usr",
    "/run/containerd", "/bin/sh", "/data/../../etc/passwd", "//etc/passwd",
]  # fmt: skip


@pytest.fixture
def host(containerd: Daemon) -> Iterator[Path]:
    """A directory of the host with a file that no guest is given."""
    directory = containerd.directory / "tmp/host"
    (directory / "volume").mkdir(parents=True)
    (directory / "secret").write_text(SECRET)
    (directory / "volume/file").write_text("shared\n")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path], host: Path) -> Image:
    """An image, without a user and so root's, whose links lead everywhere."""
    links = {
        "links/root": "/", "links/proc": "/proc/self/root", "links/up": "../../../../../../..",
        "links/passwd": "/etc/passwd", "links/secret": f"{host}/secret", "links/fd": "/proc/self/fd",
    }  # fmt: skip
    return containerd.load(kit_image(guest, name="localhost/escapes:1", more=dict(links)))


def bind(source: Path, *, writable: bool = True) -> list[str]:
    """The options that show a directory of the host at /volume."""
    return ["--mount", f"type=bind,src={source},dst=/volume,options=rbind:{'rw' if writable else 'ro'}"]


def table(containerd: Daemon) -> list[str]:
    """The host's mounts, but for those of other tests' temporary directories."""
    base = f"{containerd.directory.parent}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith(base) or str(containerd.directory) in line]


# By the guest


@both_kinds
def test_paths_that_lead_out(containerd: Daemon, kit: Image, host: Path, program: str) -> None:
    """The kernel's files, the host's, another container's: none is there, by no name."""
    with running(containerd, kit, *SLEEP) as other:
        state = containerd.directory / "state/io.containerd.runtime.v2.task" / containerd.namespace / other.name
        others = [state / "rootfs/app.wasm", state / "config.json", containerd.directory, host / "secret"]
        paths = [*KERNELS, *HOSTS, *map(str, others)]
        done = run(containerd, kit, program, "escape", *paths)
        assert done.returncode == 0
        told = [line.rpartition(": ") for line in done.stdout.splitlines()]
        assert [path for path, _, _ in told] == paths
        assert [path for path, _, outcome in told if outcome == "opened"] == []


@both_kinds
def test_links_of_the_image(containerd: Daemon, kit: Image, program: str) -> None:
    """They end in the container's own root, or nowhere."""
    ways = "root/etc/passwd root/proc/self/mem proc proc/etc/passwd up/etc/passwd passwd secret fd/0"
    done = run(containerd, kit, program, "escape", *(f"/links/{way}" for way in ways.split()))
    assert done.returncode == 0
    assert "opened" not in done.stdout, done.stdout


@both_kinds
def test_links_in_a_volume(containerd: Daemon, kit: Image, host: Path, program: str) -> None:
    """Those that the host has there, and those that the guest makes itself, lead nowhere outside."""
    volume = host / "volume"
    (volume / "absolute").symlink_to(host / "secret")
    (volume / "relative").symlink_to("../secret")
    (volume / "proc").symlink_to("/proc/self/root")
    targets = ("../secret", "../../../../../../../etc/passwd", f"{host}/secret", "/proc/self/root")
    for number, target in enumerate(targets):
        run(containerd, kit, program, "symlink", target, f"/volume/own-{number}", options=bind(volume))
    ways = ["absolute", "relative", "proc/etc/passwd", "proc", "../secret", *(f"own-{number}" for number in range(4))]
    done = run(containerd, kit, program, "escape", *(f"/volume/{way}" for way in ways), options=bind(volume))
    assert done.returncode == 0
    assert "opened" not in done.stdout, done.stdout
    for way in ("absolute", "relative", "own-0"):
        run(containerd, kit, program, "write", f"/volume/{way}", "overwritten", options=bind(volume))
    assert (host / "secret").read_text() == SECRET


def test_hard_links(containerd: Daemon, kit: Image, host: Path) -> None:
    """They cross no mount, and so bring nothing into a volume or out of it."""
    volume, options = host / "volume", bind(host / "volume")
    for old, new in ((APP, "/volume/app.wasm"), ("/volume/file", "/data/file"), ("/volume/../secret", "/volume/new")):
        done = run(containerd, kit, APP, "link", old, new, options=options)
        assert (done.returncode, done.stdout) == (1, "")
    assert list(volume.iterdir()) == [volume / "file"]
    assert run(containerd, kit, APP, "link", "/volume/file", "/volume/two", options=options).returncode == 0


def test_writes_to_what_is_read_only(containerd: Daemon, kit: Image, host: Path) -> None:
    """Neither by writing, nor making, nor removing, nor linking; in volumes and in a read-only root."""
    options = ["--read-only", *bind(host / "volume", writable=False)]
    tries = [
        ["write", "/volume/file", "x"], ["append", "/volume/file", "x"], ["write", "/volume/new", "x"],
        ["mkdir", "/volume/new"], ["unlink", "/volume/file"], ["symlink", "file", "/volume/new"],
        ["link", "/volume/file", "/volume/new"], ["write", "/data/open/new", "x"], ["unlink", APP], ["mkdir", "/new"],
    ]  # fmt: skip
    for words in tries:
        assert run(containerd, kit, APP, *words, options=options).returncode == 1, words
    assert {path.name: path.read_text() for path in (host / "volume").iterdir()} == {"file": "shared\n"}


def test_mount_point_behind_a_link(containerd: Daemon, guest: Callable[[str], Path], host: Path) -> None:
    """A link in the image does not make us create a mount point on the host."""
    image = containerd.load(kit_image(guest, name="localhost/links:1", more={"way": f"../../../../../../..{host}"}))
    options = ["--mount", f"type=bind,src={host}/volume,dst=/way/made,options=rbind:rw"]
    run(containerd, image, APP, "hello", options=options)
    assert sorted(path.name for path in host.iterdir()) == ["secret", "volume"]
    assert list((host / "volume").iterdir()) == [host / "volume/file"]


@pytest.mark.parametrize("source", ["/", "/proc", "/sys", "/dev", "/dev/null", "/sys/fs/cgroup", "/proc/self/mem"])
def test_mounts_of_the_kernels_files(containerd: Daemon, kit: Image, source: str) -> None:
    """Asked for by whoever writes the spec, they are refused before anything runs, in one sentence."""
    for options in ("rbind:ro", "rbind:rw"):
        mount = ["--mount", f"type=bind,src={source},dst=/volume,options={options}"]
        done = run(containerd, kit, options=mount)
        [line] = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (1, "")
        assert " to a guest: " in line
        assert line.endswith("of /proc/self/mem is; mount what it needs only")


def test_privileged_is_no_privilege(containerd: Daemon, kit: Image) -> None:
    """`--privileged`, capabilities and devices change nothing for a guest."""
    options = ["--privileged", "--allow-new-privs", "--cap-add", "CAP_SYS_ADMIN", "--device", "/dev/zero"]
    done = run(containerd, kit, APP, "escape", *KERNELS, options=options)
    assert (done.returncode, "opened" in done.stdout) == (0, False)
    with running(containerd, kit, *SLEEP, options=options) as task:
        assert walls(task.pid) == []


# By native code in its place


def walls(pid: int) -> list[str]:
    """What is missing of the wall around each thread of a process."""
    capabilities = {f"Cap{name}": "0" * 16 for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    wanted = {"NoNewPrivs": "1", "Seccomp": "2", **capabilities}
    found = {thread: status(pid, thread) for thread in threads(pid)}
    return [
        f"{name} of thread {thread}: {has[name]}"
        for thread, has in found.items()
        for name, value in wanted.items()
        if has[name] != value
    ]


@both_kinds
def test_the_wall_as_the_kernel_tells_it(containerd: Daemon, kit: Image, program: str) -> None:
    """On every thread: filter, no new privileges, no capability; no file of the host is open or mounted."""
    with running(containerd, kit, program, "sleep", "3600000") as task:
        assert len(threads(task.pid)) > 1
        assert walls(task.pid) == []
        kinds = ("mnt", "pid", "net", "ipc", "uts")
        assert [kind for kind in kinds if namespace(task.pid, kind) == namespace("self", kind)] == []
        kernels = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue"}
        lines = Path(f"/proc/{task.pid}/mountinfo").read_text().splitlines()
        assert {line.partition(" - ")[2].split()[0] for line in lines} & kernels == set()
        assert all({"nosuid", "nodev"} <= options for _, options, _ in mounts(task.pid))
        paths = {what for what in descriptors(task.pid).values() if what.startswith("/")} - {"/"}
        own = {path for path in paths if path.startswith(f"{containerd.directory}/fifo/") or path.endswith(".cwasm")}
        assert paths - own == set()


# Joins the mount namespace, whose root becomes its own, and tries to open each path; still root, with all capabilities.
NATIVE = """
import errno, json, os, sys
from wasm_shim.kernel import calls
pid, paths = int(sys.argv[1]), json.loads(sys.argv[2])
with open(f"/proc/{pid}/ns/mnt", "rb") as namespace:
    calls.setns(namespace.fileno(), calls.CLONE_NEWNS)
outcomes = {}
for path in paths:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        outcomes[path] = "opened"
    except OSError as error:
        outcomes[path] = errno.errorcode[error.errno]
os.write(1, json.dumps([outcomes, sorted(os.listdir("/"))]).encode())
os._exit(0)
"""


def natively(pid: int, paths: list[str]) -> tuple[dict[str, str], list[str]]:
    """How the kernel answers native code in a guest's tree that opens these, and what the tree's root holds."""
    command = [sys.executable, "-c", NATIVE, str(pid), json.dumps(paths)]
    outcomes, names = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
    return outcomes, names


def test_native_code_finds_no_host(containerd: Daemon, kit: Image, host: Path) -> None:
    """Without the Wasm wall, as root: the tree has nothing but the image and the mounts."""
    with running(containerd, kit, *SLEEP, options=bind(host / "volume")) as task:
        links = ["/volume/../secret", "/links/proc", "/links/secret", "/links/up/etc"]
        paths = [*KERNELS, *HOSTS, f"{host}/secret", *links]
        outcomes, names = natively(task.pid, [*paths, "/volume/file"])
        assert outcomes.pop("/volume/file") == "opened"
        assert [path for path, outcome in outcomes.items() if outcome == "opened"] == []
        expected = {"app.wasm", "code.wat", "data", "dev", "hello.wat", "kit.wasm", "links", "run", "volume"}
        assert set(names) == expected


def test_device_nodes_and_setuid_files_of_the_image(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """Devices open for nobody, and who executes a setuid file stays who it was."""
    root = containerd.directory / "tmp/root"
    root.mkdir()
    shutil.copy(guest("kit_p1.wasm"), root / "app.wasm")
    devices = {"zero": (stat.S_IFCHR, 1, 5), "memory": (stat.S_IFCHR, 1, 1), "disk": (stat.S_IFBLK, 7, 0)}
    for name, (kind, major, minor) in devices.items():
        os.mknod(root / name, kind | 0o666, os.makedev(major, minor))
    shutil.copy(guest("kit_p1.wasm"), root / "setuid.wasm")
    (root / "setuid.wasm").chmod(0o6755)
    words = ["run", "--runtime", WASM, "--fifo-dir", f"{containerd.directory}/fifo", "--rootfs"]
    try:
        tried = [f"/{name}" for name in devices]
        done = containerd.run(*words, "--rm", str(root), containerd.new_id(), APP, "escape", *tried)
        assert "opened" not in done.stdout
        name = containerd.new_id()
        containerd.run(*words, "--detach", "--user", "1234", str(root), name, "/setuid.wasm", "sleep", "3600000")
        [pid] = [int(line.split()[1]) for line in containerd.run("task", "list").stdout.splitlines()[1:]]
        assert status(pid)["Uid"].split() == ["1234"] * 4
        outcomes, _ = natively(pid, tried)
        assert set(outcomes.values()) == {"EACCES"}  # nodev
        containerd.clear()
    finally:
        shutil.rmtree(root)


# The host


def test_the_hosts_mounts_stay_as_they_are(containerd: Daemon, kit: Image, host: Path) -> None:
    """Before, while and after a guest runs, byte for byte; also where one could not be made."""
    before = table(containerd)
    options = [*bind(host / "volume"), "--mount", "type=tmpfs,src=tmpfs,dst=/temporary"]
    with running(containerd, kit, *SLEEP, options=options):
        assert table(containerd) == before
    run(containerd, kit, options=["--mount", "type=bind,src=/proc,dst=/volume,options=rbind:ro"])
    assert table(containerd) == before

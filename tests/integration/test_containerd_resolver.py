"""The image resolver beside a real containerd: one for all containers, which a kill or a restart costs nothing."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.digest import Digest
from oci.pack_options import ArtifactLayout
from tests.containerd.artifacts import create, load, packed, start, unique
from tests.containerd.daemon import Daemon, without_log
from tests.containerd.images import Image
from tests.containerd.leftovers import resolvers, wait_gone, zygotes
from tests.integration.killing import cast, holding, kill
from tests.integration.observe import namespace
from tests.integration.tasks import run, words
from wasm_shim.errors import Unavailable
from wasm_shim.resolver.client import Containerd as Client
from wasm_shim.resolver.client import find_program, resolver_path

pytestmark = [pytest.mark.root, pytest.mark.parametrize("containerd", ["2.1"], indirect=True)]
Guest = Callable[[str], Path]
HELLO = (0, "hello from kit\n", "")


@pytest.fixture
def image(containerd: Daemon, guest: Guest) -> Image:
    """A program that is a layer, as ctr can run it; and no resolver yet."""
    for pid in resolvers(containerd.owner):
        kill(pid)
    program = guest("kit_p1.wasm")
    return load(containerd, packed("localhost/kit-layer:1", program, ArtifactLayout.RUNWASI, cmd=("hello",)))


def ran(containerd: Daemon, image: Image) -> tuple[int, str, str]:
    done = run(containerd, image)
    return done.returncode, done.stdout, without_log(done.stderr)


def test_one_for_all_containers(containerd: Daemon, image: Image) -> None:
    """It stays where containers come and go, and has none of their mounts."""
    assert [ran(containerd, image) for _ in range(2)] == [HELLO] * 2
    [pid] = resolvers(containerd.owner)
    [zygote] = zygotes(containerd.owner)
    assert namespace(pid, "mnt") == namespace(zygote, "mnt")


def test_killed_between_containers(containerd: Daemon, image: Image) -> None:
    assert ran(containerd, image) == HELLO
    kill(*resolvers(containerd.owner))
    assert ran(containerd, image) == HELLO
    assert len(resolvers(containerd.owner)) == 1


def test_killed_while_asked(containerd: Daemon, image: Image, tmp_path: Path) -> None:
    """The container that asked is created all the same."""
    with holding(containerd, tmp_path, "resolver.asked") as hold:
        with containerd.ctr(*words(containerd, image), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ctr:
            pid = hold.wait()
            assert resolvers(containerd.owner) == [pid]
            kill(pid)
            hold.release()
            out, err = ctr.communicate(timeout=60)
        assert (ctr.returncode, out, without_log(err)) == HELLO
    assert pid not in resolvers(containerd.owner)


@pytest.mark.parametrize(("victim", "says"), [("preparer", "was killed; create it again"), ("shim", "ttrpc: closed")])
def test_who_asks_is_killed(containerd: Daemon, image: Image, tmp_path: Path, victim: str, says: str) -> None:
    """The resolver goes on for others, and nothing of the container stays."""
    with holding(containerd, tmp_path, "resolver.asked") as hold:
        with containerd.ctr(*words(containerd, image), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ctr:
            pid = hold.wait()
            kill(cast(containerd)[victim])
            out, err = ctr.communicate(timeout=60)
        hold.release()
    assert (ctr.returncode, out) == (1, "")
    [line] = without_log(err).splitlines()
    assert says in line
    assert ran(containerd, image) == HELLO
    assert resolvers(containerd.owner) == [pid]


def test_after_a_restart_of_containerd(containerd: Daemon, image: Image) -> None:
    """The connection is made anew, and what an image holds is still known."""
    assert ran(containerd, image) == HELLO
    before = resolvers(containerd.owner)
    containerd.restart()
    assert ran(containerd, image) == HELLO
    assert resolvers(containerd.owner) == before


def test_a_crowd_on_a_cold_cache(containerd: Daemon, image: Image, guest: Guest, tmp_path: Path) -> None:
    """Twenty containers of a program that nobody has compiled: all run, with one resolver and one compiled program."""
    program = unique(guest("kit_p1.wasm"), tmp_path / "crowd.wasm", "of the crowd")
    crowd = load(containerd, packed("localhost/crowd:1", program, ArtifactLayout.RUNWASI, cmd=("hello",)))
    before = set(containerd.shim_root.rglob("*.cwasm"))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    clients = [containerd.ctr(*words(containerd, crowd), **pipes) for _ in range(20)]
    for client in clients:
        out, err = client.communicate(timeout=60)
        assert (client.returncode, out, without_log(err)) == HELLO
    assert len(resolvers(containerd.owner)) == 1
    assert len(set(containerd.shim_root.rglob("*.cwasm")) - before) == 1


def test_warm_cache_needs_no_content(containerd: Daemon, image: Image, guest: Guest, tmp_path: Path) -> None:
    """The layer's digest is enough: its bytes may even be gone."""
    program = unique(guest("kit_p1.wasm"), tmp_path / "warm.wasm", "of the warm")
    warm = packed("localhost/warm:1", program, ArtifactLayout.CNCF)
    load(containerd, warm)
    assert start(containerd, create(containerd, warm.name, "/warm.wasm", "hello")) == HELLO
    containerd.run("content", "remove", str(Digest.of(program.read_bytes())))
    assert start(containerd, create(containerd, warm.name, "/warm.wasm", "hello")) == HELLO


def test_leaves_when_idle(containerd: Daemon, image: Image) -> None:
    """After as many seconds as containerd's environment says."""
    with Daemon(containerd.release, environment={"WASM_SHIM_RESOLVER_IDLE": "0.1"}) as other:
        other.load(image)
        assert ran(other, image) == HELLO
        wait_gone(resolvers(other.owner), 30)
        assert resolvers(other.owner) == []
        assert list(other.shim_root.glob("resolver-*")) == []


def test_containerd_that_hangs(containerd: Daemon, image: Image) -> None:
    """It is named, in seconds, instead of the container's mounts."""
    assert ran(containerd, image) == HELLO
    address = containerd.address
    path = resolver_path(str(containerd.shim_root), address)
    os.kill(containerd.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match=f"containerd at {address} does not answer in time; look at its log"):
            find_program(Client(address, containerd.namespace, path, ""), "one", "/app.wasm")
    finally:
        os.kill(containerd.pid, signal.SIGCONT)

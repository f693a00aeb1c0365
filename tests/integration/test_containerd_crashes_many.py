"""Crashes on a real containerd that take several at once, or leave somebody hung: nothing is left of them."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containerd.daemon import Daemon
from tests.containerd.events import Events
from tests.containerd.leftovers import zygotes
from tests.integration.fleet import KIT, Fleet, fleet_image, sockets
from tests.integration.killing import cast, empty_cache, holding, kill, leftovers, story
from tests.integration.observe import children

pytestmark = pytest.mark.root

SLEEP = (KIT, "sleep", "3600000")
# containerd 1.6 keeps a pod shim without a task, and waits for a hung one without a limit.
CAREFUL_RELEASES = pytest.mark.parametrize("containerd", ["1.7", "2.1", "2.4"], indirect=True)
ALL_RELEASES = pytest.mark.parametrize("containerd", ["1.6", "1.7", "2.1", "2.4"], indirect=True)
MAIN_RELEASE = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)


@pytest.fixture
def fleet(containerd: Daemon, guest: Callable[[str], Path]) -> Fleet:
    """Containers of KIT, which is compiled; a zygote runs."""
    fleet = Fleet(containerd, fleet_image(guest))
    fleet.run()
    return fleet


def _check_that_it_goes_on(fleet: Fleet) -> None:
    assert leftovers(fleet.daemon) == []
    assert fleet.run().stdout.startswith("hello")
    assert leftovers(fleet.daemon) == []


@ALL_RELEASES
def test_everything_killed_at_once(containerd: Daemon, fleet: Fleet) -> None:
    """containerd, zygote, pod shims and guests: the next containerd tidies up, and `ctr` the rest."""
    ids = fleet.begin_all(5, *SLEEP)
    [zygote] = zygotes(containerd.owner)
    shims = children(zygote)
    guests = [pid for shim in shims for pid in children(shim)]
    assert (len(shims), len(guests)) == (5, 5)
    kill(containerd.pid, zygote, *shims, *guests)
    containerd.kill()
    containerd.start()
    assert fleet.list() == {}
    containerd.run("container", "delete", *ids)
    containerd.clear()
    _check_that_it_goes_on(fleet)


@MAIN_RELEASE
def test_a_pod_killed_with_its_containers(containerd: Daemon, fleet: Fleet) -> None:
    """All containers of a pod end with its shim, and each is told of once."""
    together = ["--annotation", "io.kubernetes.cri.sandbox-id=pod"]
    with Events(containerd) as events:
        ids = [fleet.begin(*SLEEP, options=together) for _ in range(3)]
        [socket] = sockets(containerd)
        kill(cast(containerd)["shim"])
        for id_ in ids:
            events.wait_for_topic(id_, "/tasks/delete")
            assert story(events, id_) == "create start exit 137 delete 137"
    assert not socket.exists()
    containerd.run("container", "delete", *ids)
    containerd.clear()
    _check_that_it_goes_on(fleet)


@MAIN_RELEASE
@pytest.mark.parametrize(
    ("victim", "told"),
    [
        ("zygote", "create start exit 0 delete 0"),
        ("shim", "create start exit 0 exit 137 delete 137"),  # the second one is containerd's
        ("containerd", "create start exit 0 delete 0"),
    ],
)
def test_kill_when_a_container_has_ended(containerd: Daemon, fleet: Fleet, victim: str, told: str) -> None:
    """Between the end of a container and its deletion."""
    with Events(containerd) as events:
        id_ = fleet.begin(KIT)
        events.wait_for_topic(id_, "/tasks/exit")
        kill(cast(containerd)[victim])
        if victim == "containerd":
            containerd.kill()
            containerd.start(events.follow)
        if victim == "shim":
            events.wait_for_topic(id_, "/tasks/delete")
        else:
            containerd.run("task", "delete", id_)
        containerd.run("container", "delete", id_)
        events.synchronise()
        assert story(events, id_) == told
    containerd.clear()
    _check_that_it_goes_on(fleet)


@CAREFUL_RELEASES
@pytest.mark.parametrize("step", ["preparer.mounted", "compiler.locked"])
def test_containerd_is_back_before_the_container_is_made(
    containerd: Daemon, fleet: Fleet, tmp_path: Path, step: str
) -> None:
    """It takes the pod shim for a leaked one, which leaves and takes along whoever is at work."""
    if step.startswith("compiler."):
        empty_cache(containerd)
    with (
        holding(containerd, tmp_path, step) as hold,
        containerd.ctr(*fleet.words("same", *SLEEP), stderr=subprocess.DEVNULL) as ctr,
    ):
        hold.wait()
        containerd.kill()
        assert ctr.wait(30) == 1
        containerd.start()
        assert fleet.list() == {}
        containerd.clear()
        assert leftovers(containerd) == []
    _check_that_it_goes_on(fleet)


@CAREFUL_RELEASES
def test_a_hung_shim_and_a_new_containerd(containerd: Daemon, fleet: Fleet) -> None:
    """containerd gives up on it after some seconds; its `delete` kills it, and the guest with it."""
    id_ = fleet.begin(*SLEEP)
    os.kill(cast(containerd)["shim"], signal.SIGSTOP)
    containerd.kill()
    containerd.start()
    assert fleet.list() == {}
    containerd.run("container", "delete", id_)
    containerd.clear()
    _check_that_it_goes_on(fleet)


@MAIN_RELEASE
def test_a_shim_that_hangs_for_a_while(containerd: Daemon, fleet: Fleet) -> None:
    """Calls end at their client's deadline; all that was asked is done as soon as the shim goes on."""
    id_ = fleet.begin(*SLEEP)
    shim = cast(containerd)["shim"]
    os.kill(shim, signal.SIGSTOP)
    for words in (["kill", "--signal", "SIGKILL"], ["delete"], ["delete", "--force"]):
        refused = containerd.run("--timeout", "300ms", "task", *words, id_, check=False)
        assert refused.returncode == 1
        assert "deadline exceeded" in refused.stderr
    os.kill(shim, signal.SIGCONT)
    containerd.run("task", "delete", "--force", id_, check=False)  # it may be gone by what was asked before
    containerd.run("container", "delete", id_)
    containerd.clear()
    _check_that_it_goes_on(fleet)


@MAIN_RELEASE
def test_a_hung_shim_that_is_killed(containerd: Daemon, fleet: Fleet) -> None:
    """Whoever waited for it hears of the end."""
    with Events(containerd) as events:
        id_ = fleet.begin(*SLEEP)
        shim = cast(containerd)["shim"]
        os.kill(shim, signal.SIGSTOP)
        with containerd.ctr("task", "delete", "--force", id_, stderr=subprocess.DEVNULL) as ctr:
            kill(shim)
            ctr.wait(30)
        events.wait_for_topic(id_, "/tasks/delete")
        assert story(events, id_) == "create start exit 137 delete 137"
    containerd.run("container", "delete", id_)
    containerd.clear()
    _check_that_it_goes_on(fleet)

"""Many at once on a real containerd, odd orders, two containerds, and places where a shim is hard to reach."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containerd import leftovers
from tests.containerd.daemon import RUNC, Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import Image
from tests.integration.fleet import (
    CODE,
    KIT,
    Fleet,
    Shim,
    fleet_image,
    in_parallel,
    open_pipe,
    settle,
    shims,
    sockets,
)
from tests.integration.observe import all_pids, command, descriptors
from tests.integration.support import DEADLINE, Environment
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code, RpcError

pytestmark = pytest.mark.root

LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
SANDBOX = ("--annotation", "io.kubernetes.cri.sandbox-id=pod")


@pytest.fixture
def fleet(containerd: Daemon, guest: Callable[[str], Path]) -> Fleet:
    """Containers on the session's containerd."""
    return Fleet(containerd, fleet_image(guest))


# Events


def test_events_of_short_lives(containerd: Daemon, fleet: Fleet) -> None:
    """Guests that end before Start is answered, many at a time: each one's events come once and in order."""
    ids = [containerd.new_id() for _ in range(60 if containerd.release.name == "2.1" else 20)]
    codes = {id_: 1 + number for number, id_ in enumerate(ids)}

    def run(id_: str) -> int:
        words = fleet.words(id_, KIT, "exit", str(codes[id_]), options=["--rm"])
        return containerd.run(*words, check=False).returncode

    with Events(containerd) as events:
        assert in_parallel(run, ids, 20) == list(codes.values())
        events.synchronise()
    assert {id_: events.of(id_) for id_ in ids} == dict.fromkeys(ids, LIFE)
    exits = {event.container: event.fields["exit_status"] for event in events.seen if event.topic == "/tasks/exit"}
    assert exits == codes


def test_events_of_created_and_killed(containerd: Daemon, fleet: Fleet) -> None:
    """A task that is killed before its start never starts; deleting one by force kills it."""
    with Events(containerd) as events:
        ids = [fleet.create(CODE) for _ in range(4)]
        for id_ in ids[:2]:
            containerd.run("task", "kill", "--signal", "SIGTERM", id_)
            assert events.wait_for_topic(id_, "/tasks/exit").fields["exit_status"] == 143
        fleet.delete(*ids, options=["--force"])
        events.synchronise()
    assert {id_: events.of(id_) for id_ in ids} == {id_: [LIFE[0], *LIFE[2:]] for id_ in ids}


# First starts


class Lockers:
    """Holds each compiler when it has the lock of its program, and counts those that have something to do."""

    def __init__(self, directory: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(DEADLINE)
        self._listener.bind(f"{directory}/lockers")
        self._listener.listen(64)
        self.environment = {"WASM_SHIM_HOLD": f"compiler.locked:{directory}/lockers"}

    def compiled(self, count: int, own: Daemon) -> int:
        """Let `count` of them go on, one after the other, when all of them have come; how many found no code."""
        missing = 0
        for number in range(count):
            held, _ = self._listener.accept()
            while number == 0 and _compilers(own) < count:
                os.sched_yield()
            missing += not programs(own)
            held.close()
        return missing

    def __enter__(self) -> "Lockers":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def _compilers(own: Daemon) -> int:
    commands = [command(pid) for pid in all_pids()]
    return sum(b"runtime.compiler" in words and str(own.directory).encode() in words for words in commands)


def programs(own: Daemon) -> list[tuple[Path, int, int]]:
    """The compiled programs: path, inode and time of the last change."""
    paths = sorted((own.shim_root / "programs").rglob("*.cwasm"))
    return [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


@pytest.mark.parametrize("options", [(), SANDBOX], ids=["alone", "pod"])
def test_twenty_first_starts(
    containerd: Daemon, guest: Callable[[str], Path], home: Environment, options: tuple[str, ...]
) -> None:
    """Without a zygote and with an empty cache: twenty successes, one zygote, one compilation."""
    with Lockers(home["HOME"]) as lockers, Daemon(containerd.release, environment=lockers.environment) as own:
        fleet = Fleet(own, fleet_image(guest))
        words = [fleet.words(own.new_id(), KIT, "hello", options=["--rm", *options]) for _ in range(20)]
        runs = [own.ctr(*line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for line in words]
        assert lockers.compiled(len(runs), own) == 1
        [made] = programs(own)
        said = [run.communicate(timeout=DEADLINE) for run in runs]
        assert {(run.returncode, out, without_log(err)) for run, (out, err) in zip(runs, said, strict=True)} == {
            (0, "hello from kit\n", "")
        }
        assert programs(own) == [made]
        assert len(leftovers.zygotes(own.owner)) == 1


def test_the_zygote_keeps_nothing(containerd: Daemon, fleet: Fleet) -> None:
    """After a hundred lives the zygote has no children, not even ended ones, and the descriptors that it had."""
    fleet.run()
    [zygote] = leftovers.zygotes(containerd.owner)
    before = descriptors(zygote)
    in_parallel(lambda _: fleet.run(), map(str, range(100 if containerd.release.name == "2.1" else 20)), 4)
    assert containerd.leftovers() == []
    assert descriptors(zygote) == before
    assert leftovers.zygotes(containerd.owner) == [zygote]
    assert Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii") == ""


# Odd orders


@pytest.mark.parametrize("state", ["created", "running", "exited", "deleted", "unknown"])
def test_odd_orders_as_with_runc(containerd: Daemon, fleet: Fleet, native: Image, state: str) -> None:
    """ctr fails with the verbs with which it fails under runc, and says the same of kill and delete."""
    ours, theirs = containerd.new_id("w"), containerd.new_id("r")
    said = _odd_orders(containerd, ours, state, fleet.words(ours, CODE))
    words = containerd.container(native, theirs, "/hello", "sleep", runtime=RUNC)
    assert said == _odd_orders(containerd, theirs, state, words)


def _odd_orders(containerd: Daemon, id_: str, state: str, words: list[str]) -> list[tuple[str, int, str]]:
    """What each verb leads to for a task in this state."""
    options = ["--detach", *(["--pid-file", "/missing/pid"] if state == "created" else [])]
    if state != "unknown":
        with open_pipe() as stdin:
            containerd.run(words[0], *options, *words[1:], stdin=stdin, check=state != "created")
    with Events(containerd) as events:
        if state in ("exited", "deleted"):
            containerd.run("task", "kill", "--signal", "SIGKILL", id_)
            events.wait_for_topic(id_, "/tasks/exit")
        if state == "deleted":
            containerd.run("task", "delete", id_)
        verbs = ["resume", "delete", "pause", "kill", "kill", "delete", "delete"]
        said = []
        for verb in verbs[:2] if state == "running" else verbs:
            done = containerd.run("task", verb, id_, check=False)
            sentence = without_log(done.stderr).strip().replace(id_, "ID").removesuffix(": not found")
            said.append((verb, done.returncode, sentence if verb in ("delete", "kill") else ""))
            if (verb, done.returncode) == ("kill", 0):
                events.wait_for_topic(id_, "/tasks/exit")
    return said


def test_odd_orders_at_the_shim(containerd: Daemon, fleet: Fleet) -> None:
    """Wait before Start is answered at the end; codes for what is unknown or has ended; of two deletions one."""
    id_ = fleet.create(CODE)
    with Shim(fleet.address(id_)) as shim:
        for method, request in (
            ("Kill", messages.KillRequest(id="other", signal=9)),
            ("Wait", messages.WaitRequest(id="other")),
            ("Delete", messages.DeleteRequest(id="other")),
            ("Pids", messages.PidsRequest(id="other")),
        ):
            assert shim.refused(method, request)[0] == Code.NOT_FOUND
        wait = shim.begin("Wait", messages.WaitRequest(id=id_))
        shim.call("Start", messages.StartRequest(id=id_))
        assert shim.refused("Start", messages.StartRequest(id=id_))[0] == Code.FAILED_PRECONDITION
        assert shim.refused("Delete", messages.DeleteRequest(id=id_))[0] == Code.FAILED_PRECONDITION
        fleet.end(id_, 42)
        assert messages.WaitResponse.decode(wait()).exit_status == 42
        refusal = shim.refused("Kill", messages.KillRequest(id=id_, signal=9))
        assert refusal == (Code.NOT_FOUND, "process already finished")
        deletions = [shim.begin("Delete", messages.DeleteRequest(id=id_)) for _ in range(2)]
        assert messages.DeleteResponse.decode(deletions[0]()).exit_status == 42
        with pytest.raises(RpcError) as caught:
            deletions[1]()
        assert caught.value.code == Code.NOT_FOUND
        shim.call("Shutdown", messages.ShutdownRequest(id=id_))  # containerd has not heard of the deletion
    settle(containerd)


# Two containerds, other names, other places


def test_two_containerds_with_one_root(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """The same id in the same namespace, the same zygote and programs: each has its own shim and task."""
    other = Daemon(containerd.release)
    other.shim_root, other.namespace = containerd.shim_root, containerd.namespace
    with other:
        ours, theirs = (Fleet(daemon, fleet_image(guest)) for daemon in (containerd, other))
        ours.begin(CODE, id_="same")
        assert "cgroup" in _refusal(theirs, "same")  # ctr derives it from the two names, and one cgroup is not for two
        other.run("container", "delete", "same")
        theirs.begin(CODE, id_="same", options=["--cgroup", f"/{other.owner.namespace}/same"])
        before = ours.list()
        assert before["same"].pid != theirs.list()["same"].pid
        assert len(set(shims(containerd))) == 2
        assert len(leftovers.zygotes(containerd.owner)) == 1
        theirs.delete("same", options=["--force"])
        assert (ours.list(), theirs.list()) == (before, {})
        ours.end("same", 42)
        ours.delete("same", options=["--force"])


def test_under_another_name(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """A symbolic link of another name serves as a runtime, by its path and by its name, also after a restart."""
    link = containerd.programs / "containerd-shim-other-v1"
    link.symlink_to(containerd.programs / "containerd-shim-wasm-v1")
    try:
        for runtime in (str(link), "io.containerd.other.v1"):
            fleet = Fleet(containerd, fleet_image(guest), runtime)
            fleet.run()
            id_ = fleet.begin(CODE)
            before = fleet.list()
            containerd.restart()
            assert fleet.list() == before
            containerd.run("task", "delete", "--force", id_)
        containerd.clear()
    finally:
        link.unlink()


@pytest.mark.parametrize("size", [107, 108])
def test_the_longest_socket_path(containerd: Daemon, guest: Callable[[str], Path], size: int) -> None:
    """The path of a shim's socket may have 107 bytes, and one byte more is told by ctr in one line."""
    own = Daemon(containerd.release)
    rest = len(f"{own.directory}//s/") + 64
    own.shim_root = own.directory / ("r" * (size - rest))
    own.owner = own.owner._replace(shim_root=own.shim_root)
    with own:
        fleet = Fleet(own, fleet_image(guest))
        if size == 107:
            fleet.begin(CODE)
            [path] = sockets(own)
            assert len(str(path)) == 107
        else:
            said = _refusal(fleet)
            assert "has 108 bytes, and the kernel takes 107; set WASM_SHIM_ROOT to a directory of at most 40" in said


def test_no_grpc_yet(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """The other transport is refused by name."""
    with Daemon(containerd.release, environment={"WASM_SHIM_TRANSPORT": "grpc"}) as own:
        assert "WASM_SHIM_TRANSPORT names a transport that is not served yet" in _refusal(
            Fleet(own, fleet_image(guest))
        )


def _refusal(fleet: Fleet, id_: str = "refused") -> str:
    """The one line with which a run fails, leaving nothing but its container."""
    done = fleet.daemon.run(*fleet.words(id_, KIT, "hello"), check=False)
    said = without_log(done.stderr)
    assert (done.returncode, done.stdout, said.count("\n")) == (1, "", 1), said
    assert "Traceback" not in said
    assert fleet.list() == {}
    settle(fleet.daemon)
    return said

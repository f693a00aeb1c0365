"""A pod shim's Task service, called by hand over its socket, as containerd would."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.observe import settle, status, the_zygote, wait_ends
from tests.integration.pod import OLDER_SERVICE, Pod, Waiting
from tests.integration.support import Environment, leftovers, read_soon, read_to_end, wait_for, wasm_shim
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.version import VERSION

Guest = Callable[[str], Path]
MakePod = Callable[..., Pod]


@pytest.fixture
def make_pod(home: Environment, guest: Guest) -> Iterator[MakePod]:
    """Makes the pod of a test; nothing of it may be left."""
    assert wasm_shim(home, "run", "--rm", guest("kit_p1.wasm")).returncode == 0
    pods: list[Pod] = []

    def make(*words: str) -> Pod:
        pods.append(Pod(home, guest("kit_p1.wasm"), *words))
        return pods[0]

    yield make
    for pod in pods:
        pod.close()
    settle(home)
    assert leftovers(home) == []


@pytest.fixture
def several(home: Environment) -> None:
    """Only where a pod shim can have more than one guest in its life."""
    if "user namespace" in wasm_shim(home, "version").stdout:
        pytest.skip("a pod shim that needs a user namespace for its guest enters it for good, and has one guest")


def waited(waiting: Waiting) -> int:
    """The exit status in the answer to Wait."""
    response = messages.WaitResponse.decode(waiting.result())
    assert response.exited_at
    return response.exit_status


ONE = messages.WaitRequest(id="one")
FINISHED = (Code.NOT_FOUND, "process already finished")


def test_a_life(home: Environment, make_pod: MakePod) -> None:
    """Create, Start, Wait, Delete, Shutdown: pid, states and exit status are right, and the shim leaves at the end."""
    pod = make_pod("exit", "42")
    pid = pod.created()
    assert (pod.state().status, pod.state().pid, pod.state().id) == (messages.Status.CREATED, pid, "one")
    assert pod.state().bundle == str(pod.bundle)
    connected = messages.ConnectResponse.decode(pod.call("Connect", messages.ConnectRequest(id="one")))
    assert (connected.task_pid, connected.version) == (pid, VERSION)
    assert status(pid)["PPid"] == str(connected.shim_pid)
    assert status(connected.shim_pid)["PPid"] == str(the_zygote(home))
    assert messages.StartResponse.decode(pod.call("Start", messages.StartRequest(id="one"))).pid == pid
    assert waited(pod.begin("Wait", ONE)) == 42
    assert (pod.state().status, pod.state().exit_status, pod.state().pid) == (messages.Status.STOPPED, 42, pid)
    deleted = messages.DeleteResponse.decode(pod.call("Delete", messages.DeleteRequest(id="one")))
    assert (deleted.exit_status, deleted.pid) == (42, pid)
    shim = os.pidfd_open(connected.shim_pid)
    pod.call("Shutdown", messages.ShutdownRequest(id="one"))
    wait_ends([shim])
    (pod.bundle / "config.json").unlink()  # with Delete answered, the directory is the client's to remove
    (pod.bundle / "state.json").unlink()
    pod.bundle.rmdir()


def test_both_versions_of_the_service(make_pod: MakePod) -> None:
    """Task v2 and v3 are served on the same socket, and a task made by one is known to the other."""
    pod = make_pod("sleep", "3600000")
    pod.created()
    assert pod.call("State", messages.StateRequest(id="one"), OLDER_SERVICE) == pod.state().encode()


def test_wait_before_start_and_several_waiters(make_pod: MakePod) -> None:
    """Everyone who waits is answered, over whichever connection, also who asked before Start or after the end."""
    pod = make_pod("exit", "7")
    pod.created()
    early = [pod.begin("Wait", ONE), pod.begin("Wait", ONE), pod.begin("Wait", ONE, client=pod.connect())]
    pod.state()
    assert [waiting.answer for waiting in early] == [None] * 3
    pod.call("Start", messages.StartRequest(id="one"))
    assert [waited(waiting) for waiting in early] == [7] * 3
    assert waited(pod.begin("Wait", ONE)) == 7


@pytest.mark.usefixtures("several")
def test_duplicates(make_pod: MakePod) -> None:
    """A second Create of an id and a second Start are refused; an id that was deleted is free again."""
    pod = make_pod("sleep", "3600000")
    first = pod.created()
    assert pod.refused("Create", pod.create())[0] == Code.ALREADY_EXISTS
    pod.call("Start", messages.StartRequest(id="one"))
    assert pod.refused("Start", messages.StartRequest(id="one"))[0] == Code.FAILED_PRECONDITION
    pod.call("Kill", messages.KillRequest(id="one", signal=9))
    assert waited(pod.begin("Wait", ONE)) == 137
    assert pod.refused("Start", messages.StartRequest(id="one"))[0] == Code.FAILED_PRECONDITION
    pod.call("Delete", messages.DeleteRequest(id="one"))
    assert pod.created() != first


@pytest.mark.parametrize("number", [1, 2, 9, 10, 15])
def test_kill(make_pod: MakePod, number: int) -> None:
    """A signal ends a running task with 128 + n; then Kill says that it has finished, and Pids still names it."""
    pod = make_pod("spin")
    pid = pod.created()
    pod.call("Start", messages.StartRequest(id="one"))
    pids = messages.PidsResponse.decode(pod.call("Pids", messages.PidsRequest(id="one")))
    assert [process.pid for process in pids.processes] == [pid]
    pod.call("Kill", messages.KillRequest(id="one", signal=number))
    assert waited(pod.begin("Wait", ONE)) == 128 + number
    assert pod.refused("Kill", messages.KillRequest(id="one", signal=number)) == FINISHED
    assert messages.PidsResponse.decode(pod.call("Pids", messages.PidsRequest(id="one"))) == pids


def test_signals_that_do_nothing(make_pod: MakePod) -> None:
    """Signal 0 and harmless ones leave a task running; a number that is no signal is refused."""
    pod = make_pod("spin")
    pod.created()
    pod.call("Start", messages.StartRequest(id="one"))
    for number in (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT):
        pod.call("Kill", messages.KillRequest(id="one", signal=number))
    assert pod.refused("Kill", messages.KillRequest(id="one", signal=1000))[0] == Code.INVALID_ARGUMENT
    assert pod.state().status == messages.Status.RUNNING


@pytest.mark.usefixtures("several")
def test_delete(make_pod: MakePod) -> None:
    """Delete of a running task is refused; that of a created one kills it first."""
    pod = make_pod("spin")
    pod.created()
    pod.call("Start", messages.StartRequest(id="one"))
    assert pod.refused("Delete", messages.DeleteRequest(id="one"))[0] == Code.FAILED_PRECONDITION
    pid = os.pidfd_open(pod.created(id="two"))
    deleted = messages.DeleteResponse.decode(pod.call("Delete", messages.DeleteRequest(id="two")))
    assert deleted.exit_status == 137
    wait_ends([pid])
    assert pod.refused("State", messages.StateRequest(id="two"))[0] == Code.NOT_FOUND


def test_shutdown_waits_for_the_last_task(make_pod: MakePod) -> None:
    """Shutdown does nothing while there is a task."""
    pod = make_pod("spin")
    pod.created()
    pod.call("Shutdown", messages.ShutdownRequest(id="one"))
    assert pod.state().status == messages.Status.CREATED


@pytest.mark.usefixtures("several")
def test_the_owner_takes_everything_along(make_pod: MakePod) -> None:
    """When the client that asked for the shim hangs up, all its guests end, whoever else is connected."""
    pod = make_pod("spin")
    pidfds = [os.pidfd_open(pod.created(id=name)) for name in ("one", "two")]
    pod.call("Start", messages.StartRequest(id="one"))
    pod.owner.close()
    wait_ends(pidfds)


@pytest.mark.parametrize("method", ["Start", "State", "Wait", "Kill", "Pids", "Delete", "CloseIO", "ResizePty"])
def test_unknown_ids(make_pod: MakePod, method: str) -> None:
    """What is asked of a task that is not there is answered with NotFound; of an exec process, too."""
    pod = make_pod("spin")
    request = messages.KillRequest(id="nobody")  # the id is field 1 everywhere
    assert pod.refused(method, request) == (Code.NOT_FOUND, "no task nobody; create it first")
    if method != "Pids":
        exec_ = messages.StartRequest(id="one", exec_id="second").encode()
        assert pod.refused(method, exec_)[0] == Code.NOT_FOUND


def test_unknown_task_connects_to_nothing(make_pod: MakePod) -> None:
    """Connect, which a client asks first, tells the shim's pid and no other."""
    answer = messages.ConnectResponse.decode(make_pod("spin").call("Connect", messages.ConnectRequest(id="nobody")))
    assert (answer.task_pid, answer.shim_pid > 1) == (0, True)


@pytest.mark.parametrize("method", ["Exec", "Checkpoint", "Nonsense", ""])
def test_unknown_methods(make_pod: MakePod, method: str) -> None:
    """What is not served yet, or never, says so; so does another service."""
    pod = make_pod("spin")
    assert pod.refused(method, b"")[0] == Code.UNIMPLEMENTED
    assert pod.refused("State", b"", "containerd.task.v9.Task")[0] == Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    "method", "Create Start State Wait Kill Pids Delete CloseIO Connect Pause Resume Update Stats".split()
)
@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x07", b"\x00\x00"])
def test_malformed_requests(make_pod: MakePod, method: str, payload: bytes) -> None:
    """A payload that is no message is the caller's fault, and the shim lives."""
    pod = make_pod("spin")
    assert pod.refused(method, payload)[0] == Code.INVALID_ARGUMENT
    assert pod.created() > 1


def test_bad_creations(make_pod: MakePod, tmp_path: Path) -> None:
    """Create refuses what cannot be made, with the reason, and the id stays free."""
    pod = make_pod("spin")
    (tmp_path / "config.json").write_text("{", encoding="ascii")
    bad: list[dict[str, Any]] = [{"id": ""}, {"options": None}]
    bad += [{"bundle": "relative"}, {"bundle": "/nowhere"}, {"bundle": str(tmp_path)}]
    bad += [{"stdout": "/nowhere"}, {"stdin": "/etc/passwd"}, {"stderr": str(tmp_path)}]
    bad += [{"options": AnyMessage(type_url=messages.RunOptions.TYPE_URL, value=b"\xff")}]
    wanted = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED}
    for fields in bad:
        code, message = pod.refused("Create", pod.create(**fields))
        assert code in wanted, (fields, message)
    assert pod.created() > 1


# Stdio


def test_named_stdin_stays_open_until_closeio(make_pod: MakePod, tmp_path: Path) -> None:
    """A client of a named FIFO may come and go; the guest's input ends with CloseIO and the last client."""
    fifos = {name: str(tmp_path / name) for name in ("stdin", "stdout")}
    for path in fifos.values():
        os.mkfifo(path)
    pod = make_pod("cat")
    pod.created(**fifos)
    reader = os.open(fifos["stdout"], os.O_RDONLY | os.O_NONBLOCK)
    pod.call("Start", messages.StartRequest(id="one"))
    for words in (b"first\n", b"second\n"):
        Path(fifos["stdin"]).write_bytes(words)
        assert wait_for(reader, words) == words
    assert pod.state().status == messages.Status.RUNNING
    pod.call("CloseIO", messages.CloseIORequest(id="one", stdin=True))
    assert waited(pod.begin("Wait", ONE)) == 0
    pod.call("CloseIO", messages.CloseIORequest(id="one", stdin=True))
    os.close(reader)


def test_output_survives_its_reader(make_pod: MakePod, tmp_path: Path) -> None:
    """A reader of a named FIFO that goes away and returns breaks nothing, and misses nothing in between."""
    path = str(tmp_path / "stdout")
    os.mkfifo(path)
    pod = make_pod("out", "1000")
    pod.created(stdout=path)
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    pod.call("Start", messages.StartRequest(id="one"))
    assert waited(pod.begin("Wait", ONE)) == 0
    assert read_soon(reader) + read_to_end(reader) == bytes(number % 251 for number in range(1000))
    os.close(reader)

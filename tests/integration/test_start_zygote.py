"""`containerd-shim-wasm-v1 start` and its zygote: killed, stale or away; and the script that asks it."""

import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import SCRIPT, Commands, kill
from tests.integration.observe import descriptors, pidfds_of, status, wait_ends
from tests.integration.support import DEADLINE, Environment, Hold, read_to_end
from tests.integration.test_processes_imports import HOOK, Log
from wasm_shim import launch, runtime
from wasm_shim.shim.bootstrap import BootstrapParams

PACKAGES = Path(runtime.__file__).parents[2]


@pytest.fixture
def shim(home: Environment) -> Commands:
    """The commands."""
    return Commands(home)


def test_after_the_zygote_was_killed(shim: Commands) -> None:
    """A new zygote is started; shims of the old one go on, and are found again."""
    before = shim.start()
    [pid] = shim.shims()
    kill(shim.zygote())
    assert shim.start("two") != before
    assert shim.start() == before
    assert status(pid)
    kill(pid)


def test_zygote_killed_while_asked(shim: Commands) -> None:
    """A zygote that is killed before it forks costs the caller nothing but time."""
    shim.start("warm")
    zygote = shim.zygote()
    for pid in shim.shims():
        kill(pid)
    os.kill(zygote, signal.SIGSTOP)
    with subprocess.Popen(shim.words("start", "one"), **shim.options("one")) as process:
        wait_asking(process.pid)
        kill(zygote)
        assert process.communicate(timeout=DEADLINE)[0].startswith(b"unix:///")


def test_zygote_without_descriptors(shim: Commands) -> None:
    """A zygote that can open nothing more waits, without using up a processor, and serves who waits for it later."""
    shim.start("warm")
    zygote = shim.zygote()
    before = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (len(descriptors(zygote)), before[1]))
    with subprocess.Popen(shim.words("start", "one"), **shim.options("one")) as process:
        try:
            wait_asking(process.pid)
            used = processor_time(zygote)
            assert process.stdout
            assert not select.select([process.stdout], [], [], 0.5)[0]
            assert processor_time(zygote) - used < 0.25
        finally:
            resource.prlimit(zygote, resource.RLIMIT_NOFILE, before)
        assert process.communicate(timeout=DEADLINE)[0].startswith(b"unix:///")


def processor_time(pid: int) -> float:
    """Seconds that a process has run."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_interrupted_while_it_asks(shim: Commands) -> None:
    """Interrupting it shows no traceback."""
    shim.start("warm")
    zygote = shim.zygote()
    os.kill(zygote, signal.SIGSTOP)
    with subprocess.Popen(shim.words("start", "one"), **shim.options("one")) as process:
        wait_asking(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=DEADLINE)[0] == b""
        assert process.returncode == 130
    os.kill(zygote, signal.SIGCONT)


def wait_asking(pid: int) -> None:
    """Wait until the process waits for an answer from its socket."""
    pidfd = os.pidfd_open(pid)
    for _ in range(3000):
        call = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()
        if call[0] == "45":  # recvfrom
            break
        assert not select.select([pidfd], [], [], 0.01)[0], "it has ended"
    os.close(pidfd)


def test_shim_killed_before_it_answers(shim: Commands) -> None:
    """A shim that is killed when it has its socket is a sentence, and leaves neither socket nor lock."""
    shim.start("warm")
    with Hold(shim.environment, "shim.listening") as hold:
        shim.environment = hold.environment
        with subprocess.Popen(shim.words("start", "one"), **shim.options("one")) as process:
            pid = hold.wait()
            assert len(shim.sockets()) == 2
            kill(pid)
            said = process.communicate(timeout=DEADLINE)[0]
            assert process.returncode == 1
    assert said.startswith(b"the pod shim was killed while it started")
    assert len(shim.sockets()) == 1
    del shim.environment["WASM_SHIM_HOLD"]
    assert shim.start()


def test_client_killed_before_the_answer(shim: Commands) -> None:
    """Where nobody takes the answer, there is no shim and no socket."""
    shim.start("warm")
    [warm] = shim.shims()
    with Hold(shim.environment, "shim.listening") as hold:
        shim.environment = hold.environment
        with subprocess.Popen(shim.words("start", "one"), **shim.options("one")) as process:
            pidfds = pidfds_of([hold.wait()])
            process.kill()
            process.wait()
            hold.release()
            wait_ends(pidfds)
    assert shim.shims() == [warm]
    assert len(shim.sockets()) == 1


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """An installation that a test may change."""
    for name in ("oci", "wasm_shim"):
        shutil.copytree(PACKAGES / name, tmp_path / name)
    return tmp_path


def test_stale_zygote_gives_way(shim: Commands, copied: Path) -> None:
    """When the packages are replaced under a zygote, the next start gets a new one; the old shims go on."""
    code = f"import sys; sys.path.insert(0, {str(copied)!r}); from wasm_shim.shim.start import main; main()"
    shim.root.mkdir(mode=0o700)
    ask = [sys.executable, "-c", code, f"{shim.root}/zygote-0123456789abcdef.sock", "ask"]
    starts = []
    for id_ in ("one", "two", "three"):
        if id_ == "two":
            version = copied / "wasm_shim/version.py"
            text = version.read_bytes()
            version.unlink()
            version.write_bytes(text)
        words = [*ask, *shim.words("start", id_)[1:]]
        starts.append(subprocess.run(words, check=True, timeout=DEADLINE, **shim.options(id_)).stdout)
    assert len({*starts}) == len(shim.shims()) == 3
    parents = [status(pid)["PPid"] for pid in shim.shims()]
    assert sorted(map(parents.count, {*parents})) == [1, 2]


# The script


def imported(*words: str | Path, **options: Any) -> set[str]:
    """The modules that Python imports for a script."""
    done = subprocess.run([sys.executable, "-ISX", "importtime", *words], capture_output=True, check=True, **options)
    lines = done.stderr.decode().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def test_the_script_imports_nearly_nothing(shim: Commands, tmp_path: Path) -> None:
    """With a zygote, a start and a delete load `_socket` and nothing else that an empty script does not."""
    shim.start()
    (tmp_path / "empty").touch()
    least = imported(tmp_path / "empty")
    for action in ("start", "delete"):
        more = imported(*shim.words(action, "one"), cwd=shim.bundle("one"), env=shim.environment) - least
        assert more <= {"_socket"}, action


def test_version_and_info(shim: Commands) -> None:
    """`-v` says versions, `-info` a RuntimeInfo; neither needs a zygote or reads what it is given."""
    said = subprocess.run([SCRIPT, "-v"], check=True, **shim.options("one")).stdout.decode()
    assert said.startswith("containerd-shim-wasm-v1:\n  Version:")
    info = subprocess.run([SCRIPT, "-info"], check=True, **shim.options("one")).stdout
    assert b"io.containerd.wasm.v1" in info
    assert not shim.root.exists()


def test_an_answer_that_nobody_reads(shim: Commands) -> None:
    """A closed pipe as output is no traceback."""
    for _ in range(2):
        reader, writer = os.pipe()
        os.close(reader)
        options = shim.options("one") | {"stdout": writer, "stderr": subprocess.PIPE}
        done = subprocess.run(shim.words("start", "one"), check=False, timeout=DEADLINE, **options)
        os.close(writer)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


# Imports


def test_commands_import_nothing_after_the_fork(
    shim: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start with each form of the answer, delete with a shim and without, and refusals: all is loaded before."""
    shim.start()
    path = str(next(shim.root.glob("zygote-*.sock")))
    kill(shim.zygote(), *shim.shims())
    Path(path).unlink()
    log = hooked_zygote(path, tmp_path, monkeypatch)
    containerd = tmp_path / "containerd"
    containerd.write_text("#!/bin/sh\necho containerd a 2.1\n", encoding="ascii")
    containerd.chmod(0o755)
    params = BootstrapParams(instance_id="two", namespace="test").encode()
    assert shim.start("one", binary=containerd).startswith(b"{")
    assert shim.start("two", input=params).startswith(b"\x08\x03")
    shim.bundle("three", annotations={"io.kubernetes.cri.sandbox-id": "one"}, linux={"cgroupsPath": "/not/there"})
    for id_ in ("three", "one", "two", "none"):
        shim.delete(id_)
    (shim.bundle("bad") / "address").mkdir()
    shim.refusal("start", "bad")
    shim.refusal("start", "a/b")
    assert log.modules
    assert log.imports == set()


def hooked_zygote(path: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Start a zygote that notes imports after a fork, as tests of the command line do."""
    (directory / "log").touch()
    (directory / "wasm_shim_hooked.py").write_text(HOOK.format(log=str(directory / "log")), encoding="utf-8")
    monkeypatch.syspath_prepend(directory)
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener, Path(os.devnull).open("r+b") as null:
        listener.bind(path)
        listener.listen()
        descriptors = (null.fileno(), null.fileno(), writer, listener.fileno())
        launch.start("wasm_shim_hooked", [path], descriptors, {}, new_session=True)
    os.close(writer)
    assert read_to_end(reader) == b""
    os.close(reader)
    return Log(directory / "log")

"""A Wasm task on a real containerd is one like any other: codes, errors, signals, programs, and nothing is left."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containerd.daemon import Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import Content, Image
from tests.integration.tasks import APP, COMPONENT, kit_image, run, running

pytestmark = pytest.mark.root
one_release = pytest.mark.parametrize("containerd", ["2.1"], indirect=True)

LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


@pytest.fixture
def kit(containerd: Daemon, guest: Callable[[str], Path]) -> Image:
    """Guests, and files that are none."""
    bad: dict[str, Content] = {
        "truncated.wasm": guest("kit_p1.wasm").read_bytes()[:5000],
        "import.wat": guest("unknown_import.wat"),
        "interface.wat": guest("unknown_interface.wat"),
        "text.wasm": b"hello",
        "elf": b"\x7fELF\x02\x01\x01",
        "script": b"#!/bin/sh\n",
    }
    return containerd.load(kit_image(guest, name="localhost/good-and-bad:1", more=bad, environment=["FROM=image"]))


# Exit codes


def test_exit_codes(containerd: Daemon, kit: Image) -> None:
    """Those of the guest, exactly: to the client, in the events and at delete, of a module and of a component."""
    with Events(containerd) as events:
        for code in (0, 1, 42, 200, 255):
            for words in ([APP, "exit", str(code)], ["/code.wat", str(code)]):
                name = containerd.new_id()
                done = containerd.run(*containerd.container(kit, name, *words, options=["--rm"]), check=False)
                assert (done.returncode, done.stdout, without_log(done.stderr)) == (code, "", "")
                for topic in ("/tasks/exit", "/tasks/delete"):
                    assert events.wait_for_topic(name, topic).fields.get("exit_status", 0) == code
                assert events.of(name) == LIFE


def test_code_of_a_detached_task(containerd: Daemon, kit: Image) -> None:
    """It is kept until somebody deletes the task, who is told."""
    name = containerd.new_id()
    with Events(containerd) as events:
        containerd.run(*containerd.container(kit, name, APP, "exit", "42", options=["--detach"]))
        events.wait_for_topic(name, "/tasks/exit")
        assert containerd.run("task", "list").stdout.split()[-1] == "STOPPED"
        assert "exit code 42" in containerd.run("task", "delete", name).stderr
        assert events.wait_for_topic(name, "/tasks/delete").fields["exit_status"] == 42
    containerd.run("container", "delete", name)


@pytest.mark.parametrize("program", [APP, COMPONENT])
def test_trap(containerd: Daemon, kit: Image, program: str) -> None:
    """134, and who called whom on stderr."""
    done = run(containerd, kit, program, "trap")
    assert (done.returncode, done.stdout) == (134, "")
    inner, middle, outer = (done.stderr.index(f"trap_{which}") for which in ("inner", "middle", "outer"))
    assert inner < middle < outer
    assert "wasm trap: wasm `unreachable` instruction executed" in done.stderr


# What cannot run


REFUSED = {
    "/truncated.wasm": ("cannot run /truncated.wasm: truncated: the code section", "invalid argument"),
    "/text.wasm": ("cannot run /text.wasm: not Wasm but something unknown", "invalid argument"),
    "/import.wat": ("it imports env.launch, which no host interface provides; build it", "failed precondition"),
    "/interface.wat": ("it imports example:missing/thing@1.0.0 (its use-it), which no host", "failed precondition"),
    "/none.wasm": ("no program /none.wasm in the image; it has /app.wasm, /code.wat, /hello.wat; name", "not found"),
    "/elf": ("/elf is a Linux program and no WebAssembly; run it with the runtime runc", "invalid argument"),
    "/script": ("/script is a Linux program and no WebAssembly; run it with the runtime runc", "invalid argument"),
    "/data": ("/data in the image is no regular file; name a .wasm or .wat file", "invalid argument"),
}


def test_refused_programs(containerd: Daemon, kit: Image) -> None:
    """One line names the reason, with the status that 1.6 and 1.7 print; no task is left, and nothing of it."""
    for program, (sentence, status) in REFUSED.items():
        done = run(containerd, kit, program)
        [line] = without_log(done.stderr).splitlines()
        assert line.startswith("ctr: failed to create shim task: ")
        assert sentence in line
        assert line.endswith(f": {status}") or containerd.release.name[0] == "2"
        assert (done.returncode, done.stdout) == (1, "")
    assert containerd.run("task", "list", "--quiet").stdout == ""
    assert containerd.run("container", "list", "--quiet").stdout == ""
    assert containerd.leftovers() == []


def test_refused_program_leaves_the_container(containerd: Daemon, kit: Image) -> None:
    """Without --rm the container stays, without a task, and can be deleted or started anew."""
    name = containerd.new_id()
    assert containerd.run(*containerd.container(kit, name, "/elf", options=["--detach"]), check=False).returncode == 1
    assert containerd.run("container", "list", "--quiet").stdout == f"{name}\n"
    assert "is a Linux program" in containerd.run("task", "start", "--detach", name, check=False).stderr
    assert containerd.leftovers() == []
    containerd.run("container", "delete", name)


# Signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT", "SIGUSR1"])
def test_signals(containerd: Daemon, kit: Image, name: str) -> None:
    """Each ends the guest, which is process 1 of its namespace and has no handler: 128 and its number."""
    with Events(containerd) as events, running(containerd, kit, APP, "spin") as task:
        assert task.kill(name) == 128 + signal.Signals[name]
        ended = events.wait_for_topic(task.name, "/tasks/exit").fields
        assert (ended["pid"], ended["exit_status"]) == (task.pid, 128 + signal.Signals[name])


@one_release
@pytest.mark.parametrize("words", [["sleep", "3600000"], ["block"]], ids=["sleeps", "waits for input"])
@pytest.mark.parametrize("program", [APP, COMPONENT])
def test_signal_ends_a_guest_that_waits(containerd: Daemon, kit: Image, program: str, words: list[str]) -> None:
    with running(containerd, kit, program, *words) as task:
        assert task.kill("SIGTERM") == 128 + signal.SIGTERM


@one_release
def test_signals_that_end_nothing(containerd: Daemon, kit: Image) -> None:
    """What is ignored by default is by a guest, too; a signal for one that has ended says so."""
    name = containerd.new_id()
    with running(containerd, kit, APP, "sleep", "3600000", name=name) as task:
        for harmless in ("SIGCHLD", "SIGWINCH", "SIGURG", "SIGCONT"):
            containerd.run("task", "kill", "--signal", harmless, name)
        assert task.kill("SIGHUP") == 128 + signal.SIGHUP
    late = containerd.new_id()
    with Events(containerd) as events:
        containerd.run(*containerd.container(kit, late, options=["--detach"]))
        events.wait_for_topic(late, "/tasks/exit")
    assert "process already finished" in containerd.run("task", "kill", late, check=False).stderr
    assert "not found" in containerd.run("task", "kill", "nobody", check=False).stderr


# Programs


def test_programs(containerd: Daemon, kit: Image) -> None:
    """Modules, components and text, with exactly the arguments and the environment that were given."""
    said = {COMPONENT: "hello from kit\n", "/hello.wat": "hello from wasm-shim\n", APP: "hello from kit\n"}
    for program, text in said.items():
        done = run(containerd, kit, program)
        assert (done.returncode, done.stdout, without_log(done.stderr)) == (0, text, "")
    for program in (APP, COMPONENT):
        words = [program, "args", "two words", "", "--rm", "ünï"]
        # ctr adds a PATH where the image has none: its own, not ours.
        lines = run(containerd, kit, *words, options=["--env", "B=2 3", "--env", "EMPTY="]).stdout.splitlines()
        assert lines[:6] == [f"arg {word}" for word in words]
        assert [line for line in lines[6:] if not line.startswith("env PATH=")] == [
            "env FROM=image", "env B=2 3", "env EMPTY=",
        ]  # fmt: skip


@one_release
def test_compiled_once(containerd: Daemon, guest: Callable[[str], Path]) -> None:
    """The second run of a program, from another image and under another name, takes what the first has compiled."""
    program = guest("hello.wat").read_bytes() + b"(; of this test ;)"

    def compiled() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in containerd.shim_root.rglob("*.cwasm")}

    seen = [compiled()]
    for file in ("first.wat", "second.wasm"):
        image = kit_image(guest, name=f"localhost/compiled-{file}:1", more={file: program})
        assert run(containerd, containerd.load(image), f"/{file}").stdout == "hello from wasm-shim\n"
        seen.append(compiled())
    assert len(seen[1]) == len(seen[0]) + 1
    assert seen[2] == seen[1]

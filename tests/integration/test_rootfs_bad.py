"""Containers with a root file system that cannot be: programs that are none, damaged bundles, killed helpers."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.observe import pidfds_of, wait_ends
from tests.integration.rooted import APP, Container, rooted
from tests.integration.support import Environment, Hold
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code, RpcError

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]


# The program


def test_program_that_is_not_there(container: Container) -> None:
    """NotFound, with what the image offers."""
    for name in ("/none.wasm", "none", "bin/none", f"{APP}/none", "/none/app.wasm"):
        container.process["args"] = [name]
        assert container.refused() == (Code.NOT_FOUND, f"no program {name} in the image; it has /app.wasm; name that")
    for name in ("b.wat", "c.wasm", "d.wasm"):
        (container.image / name).touch()
    assert container.refused().message.endswith("it has /app.wasm, /b.wat, /c.wasm; name that")
    for path in container.image.glob("*.wa*"):
        path.unlink()
    assert container.refused().message == "no program /none/app.wasm in the image; name a .wasm or .wat file of it"


CONTENTS: dict[str, tuple[bytes, str]] = {
    "ELF": (b"\x7fELF\x02\x01\x01", "/bad is a Linux program and no WebAssembly; run it with the runtime runc"),
    "script": (b"#!/bin/sh\necho hello\n", "/bad is a Linux program and no WebAssembly; run it with the runtime runc"),
    "empty": (b"", "cannot run /bad: "),
    "text": (b"hello\n", "cannot run /bad: "),
    "truncated": (b"\0asm\x01\0\0\0\x01\x7f", "cannot run /bad: "),
    "magic only": (b"\0asm", "cannot run /bad: "),
    "bytes": (bytes(range(256)), "cannot run /bad: "),
    "no command": (b"(module)", ""),
}


@pytest.mark.parametrize(("content", "sentence"), CONTENTS.values(), ids=CONTENTS)
def test_file_that_is_no_program(container: Container, content: bytes, sentence: str) -> None:
    """It is refused with the reason in one sentence; the same container with its program runs."""
    (container.image / "bad").write_bytes(content)
    container.process["args"] = ["/bad"]
    refusal = container.refused()
    assert refusal.code == Code.INVALID_ARGUMENT
    assert refusal.message.startswith(sentence)
    assert container.run("hello").status == 0


def test_damaged_programs(container: Container, guest: Guest) -> None:
    """One that is cut off, and one that needs what nobody offers, are refused with the reason."""
    whole = guest("kit_p1.wasm").read_bytes()
    (container.image / "cut.wasm").write_bytes(whole[: len(whole) // 2])
    container.process["args"] = ["/cut.wasm"]
    assert container.refused().code == Code.INVALID_ARGUMENT
    shutil.copy(guest("unknown_import.wat"), container.image)
    container.process["args"] = ["unknown_import.wat"]
    refusal = container.refused()
    assert refusal.code == Code.FAILED_PRECONDITION
    assert "env" in refusal.message
    assert "launch" in refusal.message


def test_what_is_no_file(container: Container) -> None:
    """A directory, a FIFO, a device and a link that has no end are refused, and waiting for none of them."""
    (container.image / "directory").mkdir()
    os.mkfifo(container.image / "fifo")
    os.mknod(container.image / "device", 0o20666, os.makedev(1, 5))
    (container.image / "loop").symlink_to("loop")
    reasons = {"directory": "is no regular file", "fifo": "is no regular file", "device": "cannot open /device in the"}
    for name, reason in {**reasons, "loop": "cannot open /loop in the image: "}.items():
        container.process["args"] = [f"/{name}"]
        refusal = container.refused()
        assert refusal.code == Code.INVALID_ARGUMENT
        assert reason in refusal.message


# The bundle


BUNDLES: dict[str, tuple[dict[str, Any], int, str]] = {
    "user namespace": (
        {"linux": {"namespaces": [{"type": "user"}]}},
        Code.UNIMPLEMENTED,
        "wasm-shim serves no user namespaces; remove hostUsers: false from the pod",
    ),
    "hooks": (
        {"hooks": {"createRuntime": [{"path": "/bin/true"}]}},
        Code.UNIMPLEMENTED,
        "hooks.createRuntime in config.json: wasm-shim runs no hooks; remove them",
    ),
    "mount type": (
        {"mounts": [{"destination": "/x", "type": "nfs", "source": "server:/"}]},
        Code.INVALID_ARGUMENT,
        "mount /x in config.json has type nfs; only bind mounts are served",
    ),
    "root": ({"root": {"path": 1}}, Code.INVALID_ARGUMENT, "path is missing in config.json, or is no text; write the"),
    "limit": (
        {"linux": {"cgroupsPath": "/../x"}},
        Code.INVALID_ARGUMENT,
        "linux.cgroupsPath is '/../x'; ",
    ),
    "tmpfs": (
        {"mounts": [{"destination": "/x", "type": "tmpfs", "options": ["nonsense=1"]}]},
        Code.FAILED_PRECONDITION,
        "cannot mount /x in the container: ",
    ),
}


@pytest.mark.parametrize(("part", "code", "sentence"), BUNDLES.values(), ids=BUNDLES)
def test_bad_bundles(container: Container, part: dict[str, Any], code: int, sentence: str) -> None:
    """What the spec asks and we cannot give is refused with its name."""
    container.spec |= part
    refusal = container.refused("hello")
    assert refusal.code == code, refusal
    assert refusal.message.startswith(sentence)


def test_odd_arguments(container: Container) -> None:
    """Arguments that WASI cannot take are refused; bytes that are no UTF-8 cannot come by JSON."""
    container.process["args"] = []
    assert container.refused().code == Code.INVALID_ARGUMENT
    container.process["args"] = [""]
    assert container.refused().code == Code.NOT_FOUND
    container.process["args"] = [APP, "args", "ünïcode", ""]
    assert container.run().stdout.splitlines()[2:4] == ["arg ünïcode", "arg "]


# Killed on the way


HELD = {
    "preparer.forked": "the process that prepares the container was killed; create it again",
    "preparer.mounted": "the process that prepares the container was killed; create it again",
    "guest.forked": "the guest's process was killed before its wall stood; try again",
}


@pytest.mark.parametrize("step", HELD)
def test_killed_while_it_is_made(home: Environment, guest: Guest, tmp_path: Path, step: str) -> None:
    """Whoever works on a new container may hang: the shim serves others meanwhile; killed, it leaves nothing."""
    with (
        Hold(home, step) as hold,
        rooted(home, guest("kit_p1.wasm"), tmp_path, hold=hold.environment["WASM_SHIM_HOLD"]) as container,
    ):
        waiting = container.pod.begin("Create", container.request("hello"))
        pid = hold.wait()
        assert container.pod.refused("State", messages.StateRequest(id="two"))[0] == Code.NOT_FOUND
        connected = messages.ConnectResponse.decode(container.pod.call("Connect", messages.ConnectRequest(id="one")))
        assert connected.shim_pid == container.shim
        assert waiting.answer is None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RpcError) as caught:
            waiting.result()
        assert caught.value.message == HELD[step]
        assert container.left() == []
        hold.release()
        assert container.run("hello").stdout == "hello from kit\n"


@pytest.mark.parametrize("step", HELD)
def test_nothing_outlives_the_shim(home: Environment, guest: Guest, tmp_path: Path, step: str) -> None:
    """The kernel ends whoever works on a new container together with the pod shim."""
    with (
        Hold(home, step) as hold,
        rooted(home, guest("kit_p1.wasm"), tmp_path, hold=hold.environment["WASM_SHIM_HOLD"]) as container,
    ):
        container.pod.begin("Create", container.request("hello"))
        pidfds = pidfds_of([hold.wait(), container.shim])
        os.kill(container.shim, signal.SIGKILL)
        hold.release()
        wait_ends(pidfds)
        shutil.rmtree(container.pod.bundle)  # as nobody else does
        Path(container.pod.address).unlink()

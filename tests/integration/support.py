"""What the tests of the command line share: start it, wait for what it says, and see what it leaves behind."""

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import children, descendants, zygote_pids

Environment = dict[str, str]

# Seconds that any single step may take before a test fails; a virtual machine needs more.
DEADLINE = float(os.environ.get("WASM_SHIM_TEST_DEADLINE", 30))


def need_private_mounts() -> None:
    """Skip the test where even root may not mount, as in a container without privileges."""
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


# Running


def wasm_shim(environment: Environment, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end and capture its text; `options` are those of subprocess.run."""
    defaults = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": DEADLINE}
    if {"stdout", "stderr"} & options.keys():
        del defaults["capture_output"]
    if "input" in options:
        del defaults["stdin"]
    return subprocess.run(["wasm-shim", *map(str, words)], **defaults | {"env": environment} | options)


@contextmanager
def started(environment: Environment, *words: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command line running in the background, its stdout a pipe; killed at the end if it still runs."""
    defaults: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "env": environment}
    with subprocess.Popen(["wasm-shim", *map(str, words)], **defaults | options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def on_terminal(
    environment: Environment, *words: str | Path, **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command line in a session of its own on a new terminal, and the descriptor of the terminal's other side.

    `options` may put one of its three descriptors elsewhere.
    """
    master, slave = os.openpty()
    streams = {"stdin": slave, "stdout": slave, "stderr": slave} | options
    try:
        with started(environment, *words, preexec_fn=lambda: _take_terminal(slave), **streams) as process:
            os.close(slave)
            yield process, master
    finally:
        os.close(master)


def _take_terminal(slave: int) -> None:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def wait_for(descriptor: int, words: bytes) -> bytes:
    """Read until these words have come, and return everything that was read."""
    said = b""
    while words not in said:
        part = read_soon(descriptor)
        assert part, f"ended without {words!r}, after {said!r}"
        said += part
    return said


def read_soon(descriptor: int) -> bytes:
    """The next bytes, or none at the end; a terminal whose other side has closed ends, too."""
    wait_readable(descriptor)
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def wait_readable(descriptor: int) -> None:
    """Wait until there is something to read, or the process of a pidfd has ended."""
    assert select.select([descriptor], [], [], DEADLINE)[0], "nothing came"


def read_to_end(descriptor: int) -> bytes:
    """All that comes until the end."""
    return b"".join(iter(lambda: read_soon(descriptor), b""))


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    """Wait until the guest has said "ready"."""
    assert process.stdout
    wait_for(process.stdout.fileno(), b"ready\n")


class Hold:
    """A process that stops at a step (see wasm_shim.steps) until it is released."""

    def __init__(self, environment: Environment, step: str) -> None:
        """Start the command line with `environment` of this object, not with the one given."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(DEADLINE)
        address = f"{environment['HOME']}/hold"
        self._listener.bind(address)
        self._listener.listen()
        self._held: socket.socket | None = None
        self.environment = {**environment, "WASM_SHIM_HOLD": f"{step}:{address}"}

    def wait(self) -> int:
        """Wait until a process has come to the step, and return its pid."""
        self._held, _ = self._listener.accept()
        self._held.recv(64)  # the step's name; unread bytes would turn our close into an error there
        credentials = self._held.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("iII", credentials)[0]
        return pid

    def release(self) -> None:
        """Let that process go on, and all that come later."""
        self._listener.close()
        if self._held:
            self._held.close()

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# What is left


def guest_pid(environment: Environment) -> int:
    """The only guest that runs: what the only pod shim has beside its nursery."""
    [pid] = [pid for zygote in zygote_pids(environment) for shim in children(zygote) for pid in children(shim)]
    return pid


def wait_idle(environment: Environment) -> None:
    """Wait until the zygote has no pod shim and no guest any more."""
    family = {child for zygote in zygote_pids(environment) for child in descendants(zygote)}
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            wait_readable(pidfd)
            os.close(pidfd)


def leftovers(environment: Environment) -> list[str]:
    """What should not be there once nothing runs: all but the zygote's two files and the cache with its lock."""
    wait_idle(environment)
    runtime, cache = Path(environment["XDG_RUNTIME_DIR"]), Path(environment["XDG_CACHE_HOME"])
    kept = {*runtime.glob("wasm-shim/zygote-*.sock"), *runtime.glob("wasm-shim/zygote-*.sock.lock")}
    kept |= set(cache.glob("wasm-shim/programs/*/lock"))
    for code in compiled_programs(environment):
        if (description := code.with_suffix(".json")).is_file():
            kept |= {code, description}
    roots = [runtime, cache, Path(environment["XDG_STATE_HOME"]), Path(environment["TMPDIR"])]
    return sorted(str(path) for root in roots for path in _files(root) if path not in kept)


def compiled_programs(environment: Environment) -> set[Path]:
    """The precompiled code in the cache."""
    return set(Path(environment["XDG_CACHE_HOME"]).rglob("*.cwasm"))


def containers(environment: Environment) -> list[Path]:
    """The directories of the recorded containers."""
    return list(Path(environment["XDG_STATE_HOME"]).glob("wasm-shim/containers/*"))


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if not path.is_dir() or path.parent.name == "containers")


# What was said


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr with which the command line refused, without its beginning."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"not one line: {done.stderr!r}"
    assert lines[0].startswith("wasm-shim: "), lines[0]
    assert "Traceback" not in lines[0]
    return lines[0].removeprefix("wasm-shim: ")


def refused(environment: Environment, code: int, *words: str | Path, **options: Any) -> str:
    """Run what must be refused, leaving nothing, with this exit code; the one line that says why."""
    done = wasm_shim(environment, *words, **options)
    said = refusal(done)
    assert (done.returncode, done.stdout) == (code, ""), said
    assert leftovers(environment) == []
    return said

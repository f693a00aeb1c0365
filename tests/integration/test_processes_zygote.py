"""The zygote as a server: how many there are, when it leaves, and what strangers and garbage do to it."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import User
from tests.integration.observe import descriptors, running, settle, the_zygote, wait_ends, zygotes
from tests.integration.support import DEADLINE, Environment, leftovers, started, wait_readable, wait_ready, wasm_shim
from wasm_shim import runtime
from wasm_shim.spawn import LIMIT, SpawnRequest, encode_request

Guest = Callable[[str], Path]


def sockets(home: Environment) -> list[Path]:
    """The zygotes' sockets."""
    return sorted(Path(home["XDG_RUNTIME_DIR"]).glob("wasm-shim/zygote-*.sock"))


def connect(home: Environment) -> socket.socket:
    """A connection to the only zygote."""
    [path] = sockets(home)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(path))
    return connection


@pytest.fixture
def warm(home: Environment, guest: Guest) -> Environment:
    """A home with a zygote."""
    assert wasm_shim(home, "run", "--rm", guest("hello.wat")).returncode == 0
    settle(home)
    return home


# Coming and going


def test_leaves_when_idle(home: Environment, guest: Guest) -> None:
    """A zygote that has had no child for WASM_SHIM_ZYGOTE_IDLE seconds leaves, and takes its socket and lock along."""
    hasty = {**home, "WASM_SHIM_ZYGOTE_IDLE": "0.1"}
    with started(hasty, "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000") as cli:
        wait_ready(cli)
        pidfd = os.pidfd_open(the_zygote(home))
        cli.send_signal(signal.SIGTERM)
        assert cli.wait(DEADLINE) == 143
    wait_ends([pidfd])
    assert leftovers(home) == []
    assert list(Path(home["XDG_RUNTIME_DIR"]).glob("wasm-shim/*")) == []


def test_stays_while_a_container_runs(home: Environment, guest: Guest) -> None:
    """A zygote does not leave before the last container has ended, however short its patience."""
    hasty = {**home, "WASM_SHIM_ZYGOTE_IDLE": "0.01"}
    with running(hasty, guest("kit_p1.wasm"), "sleep", "3600000") as chain:
        for _ in range(5):
            assert wasm_shim(hasty, "run", "--rm", guest("hello.wat")).returncode == 0
        assert the_zygote(home) == chain.zygote


def test_runs_while_it_leaves(home: Environment, guest: Guest) -> None:
    """Runs that meet a zygote on its way out get another one."""
    hasty = {**home, "WASM_SHIM_ZYGOTE_IDLE": "0.001"}
    for _ in range(30):
        done = wasm_shim(hasty, "run", "--rm", guest("hello.wat"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello from wasm-shim\n", "")


def test_first_runs_at_once_start_one(home: Environment, guest: Guest) -> None:
    """Starters that come at the same time wait for each other: there is one zygote."""
    with ExitStack() as stack:
        clis = [stack.enter_context(started(home, "run", "--rm", guest("hello.wat"))) for _ in range(10)]
        said = [cli.communicate(timeout=DEADLINE)[0] for cli in clis]
    assert said == [b"hello from wasm-shim\n"] * 10
    assert len(zygotes(home)) == len(sockets(home)) == 1


def test_of_another_installation_is_another(warm: Environment, guest: Guest, tmp_path: Path) -> None:
    """A second installation has its own zygote, and both work side by side."""
    packages = Path(runtime.__file__).parents[2]
    for name in ("oci", "wasm_shim"):
        shutil.copytree(packages / name, tmp_path / name)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from wasm_shim.cli.app import main; main()"
    command = [sys.executable, "-c", code, "run", "--rm", str(guest("hello.wat"))]
    done = subprocess.run(command, env=warm, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "hello from wasm-shim\n"
    assert len(zygotes(warm)) == len(sockets(warm)) == 2


def test_of_another_version_is_another(warm: Environment, guest: Guest, tmp_path: Path) -> None:
    """An upgrade in place, which replaces the package's files, starts a new zygote beside the old one."""
    packages = Path(runtime.__file__).parents[2]
    for name in ("oci", "wasm_shim"):
        shutil.copytree(packages / name, tmp_path / name)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from wasm_shim.cli.app import main; main()"
    command = [sys.executable, "-c", code, "run", "--rm", str(guest("hello.wat"))]
    for text in ('VERSION = "1.0"\n', 'VERSION = "1.1"\n'):
        (tmp_path / "wasm_shim/version.py").write_text(text, encoding="ascii")
        shutil.rmtree(tmp_path / "wasm_shim/__pycache__", ignore_errors=True)
        subprocess.run(command, env=warm, capture_output=True, timeout=DEADLINE, check=True)
    assert len(sockets(warm)) == 3


def test_socket_without_zygote_is_replaced(warm: Environment, guest: Guest) -> None:
    """The socket of a zygote that was killed does not stop the next one."""
    zygote = the_zygote(warm)
    pidfd = os.pidfd_open(zygote)
    os.kill(zygote, signal.SIGKILL)
    wait_ends([pidfd])
    assert len(sockets(warm)) == 1
    assert wasm_shim(warm, "run", "--rm", guest("hello.wat")).returncode == 0
    assert the_zygote(warm) != zygote


# Strangers


STRANGER: Final = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    connection.sendall(bytes.fromhex(sys.argv[2]))
except BrokenPipeError:  # refused unheard
    pass
print(connection.recv(4096).decode())
"""


@pytest.mark.root
def test_another_user_is_refused(warm: Environment, guest: Guest, ordinary_user: User) -> None:
    """Who is neither the zygote's user nor root gets no process, even where the directories let him through."""
    [path] = sockets(warm)
    for place in (path.parents[2], path.parents[1], path.parent):
        place.chmod(0o711)
    path.chmod(0o777)
    request = encode_request(SpawnRequest(f"{path.parent}/x", "/no/x", remove=False, programs="/no", hold=""))
    command = [sys.executable, "-c", STRANGER, str(path), request.hex()]
    done = subprocess.run(
        command, user=ordinary_user.uid, group=ordinary_user.uid, extra_groups=[], env={}, cwd="/",
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"-user {ordinary_user.uid} may not use the processes of user 0"), done
    path.parent.chmod(0o700)
    assert wasm_shim(warm, "run", "--rm", guest("hello.wat")).returncode == 0


# Garbage


GARBAGE: Final = {
    "nothing": b"",
    "a newline": b"\n",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a length of 0": struct.pack(">I", 0),
    "the greatest length": b"\xff" * 4,
    "one byte too many": struct.pack(">I", LIMIT + 1),
    "a field too long": struct.pack(">II", 8, 100) + b"abcd",
    "half a field's length": struct.pack(">I", 2) + b"\0\0",
    "too few fields": struct.pack(">II", 4, 0),
    "too many fields": struct.pack(">I", 400) + bytes(400),
    "no UTF-8": encode_request(SpawnRequest("/\udcff/\udcff", "/\udcfe", remove=True, programs="/\udc80", hold="")),
    "NULs": encode_request(SpawnRequest("/no/a\0b", "/\0", remove=True, programs="/\0", hold="\0")),
    "relative paths": encode_request(SpawnRequest("no/where", "no/x", remove=True, programs="no", hold="")),
    "empty paths": encode_request(SpawnRequest("", "", remove=True, programs="", hold="")),
    "impossible paths": encode_request(SpawnRequest("/no/where", "/no/x", remove=True, programs="/no", hold="")),
    "a long path": encode_request(SpawnRequest("/" + "x" * 4000, "/x/y", remove=True, programs="/x", hold="")),
    "two requests": 2 * encode_request(SpawnRequest("/no/where", "/no/x", remove=True, programs="/no", hold="")),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(warm: Environment, guest: Guest, sent: bytes) -> None:
    """A request that is none is answered with one sentence, or by hanging up, and costs the zygote nothing."""
    zygote = the_zygote(warm)
    before = descriptors(zygote)
    with connect(warm) as connection, Path(os.devnull).open("rb") as null:
        socket.send_fds(connection, [sent or b"\0"], [null.fileno()])
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert not answer or (answer.startswith(b"-") and answer.count(b"\n") == 1), answer
    assert wasm_shim(warm, "run", "--rm", guest("hello.wat")).returncode == 0
    settle(warm)
    assert the_zygote(warm) == zygote
    assert descriptors(zygote) == before
    assert leftovers(warm) == []


def test_a_client_that_goes_costs_nothing(warm: Environment, guest: Guest) -> None:
    """Clients that hang up before, within and after their request leave the zygote as it was."""
    zygote = the_zygote(warm)
    before = descriptors(zygote)
    address = str(sockets(warm)[0].with_name("0" * 12))
    request = encode_request(SpawnRequest(address, f"/no/{'0' * 64}", remove=True, programs="/no", hold=""))
    for size in (0, 1, 4, 5, len(request) - 1, len(request)):
        with connect(warm) as connection:
            connection.sendall(request[:size])
    assert wasm_shim(warm, "run", "--rm", guest("hello.wat")).returncode == 0
    settle(warm)
    assert descriptors(zygote) == before
    assert leftovers(warm) == []


def test_slow_clients_are_served_later(warm: Environment, guest: Guest) -> None:
    """Clients that send half a request and wait hold others up for a moment only."""
    zygote = the_zygote(warm)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(warm)) for _ in range(3)]
        for connection in slow:
            connection.sendall(struct.pack(">I", 100) + b"half")
        assert wasm_shim(warm, "run", "--rm", guest("hello.wat")).returncode == 0
        for connection in slow:
            wait_readable(connection.fileno())
            assert connection.recv(4096)[:1] in (b"", b"-")
    assert the_zygote(warm) == zygote

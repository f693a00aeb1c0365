"""The image resolver's process: started once, found again, replaced when killed; it answers its own user only, and
leaves when nobody asks. No containerd listens here, which is an answer, too.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ORDINARY_UID
from tests.integration.observe import all_pids, command, wait_end
from tests.integration.support import DEADLINE, Environment, Hold
from wasm_shim.errors import Internal, Unavailable
from wasm_shim.resolver.client import Containerd, find_program, read_program, resolver_path
from wasm_shim.resolver.messages import Question
from wasm_shim.steps import VARIABLE, hold_at


@pytest.fixture
def containerd(home: Environment) -> Iterator[Containerd]:
    """Where no containerd listens."""
    root = home["XDG_RUNTIME_DIR"]
    address = f"{root}/containerd.sock"
    it = Containerd(address, "here", resolver_path(root, address), "")
    yield it
    for pid in resolvers(it):
        os.kill(pid, signal.SIGKILL)
        end(pid)


def end(pid: int) -> None:
    """Wait for the end of a resolver, whose parent we are."""
    wait_end(pid)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def resolvers(containerd: Containerd) -> list[int]:
    return [pid for pid in all_pids() if containerd.resolver.encode() in command(pid)]


def ask(containerd: Containerd) -> str:
    """What is said of containerd, which cannot be reached."""
    with pytest.raises(Unavailable) as caught:
        find_program(containerd, "one", "/app.wasm")
    return str(caught.value)


def sentence(containerd: Containerd) -> str:
    where = f"containerd at {containerd.address} cannot be reached; look whether it runs"
    return f"cannot look for /app.wasm in the image: {where}"


def test_no_containerd(containerd: Containerd) -> None:
    """One line, at once; and so every time."""
    assert [ask(containerd), ask(containerd)] == [sentence(containerd)] * 2
    assert len(resolvers(containerd)) == 1
    with pytest.raises(Unavailable, match="cannot be reached"):
        read_program(containerd, "one", "/app.wasm", "0" * 64)


def test_no_address(containerd: Containerd) -> None:
    """Nobody is started to ask a containerd that is unknown."""
    assert ask(containerd._replace(address="")).endswith("has not said where it listens; start the shim with -address")
    assert resolvers(containerd) == []


def test_many_start_one(containerd: Containerd) -> None:
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, [containerd] * 20)) == {sentence(containerd)}
    assert len(resolvers(containerd)) == 1


def test_leaves_when_idle(containerd: Containerd) -> None:
    """And takes its socket and its lock along."""
    directory = Path(containerd.resolver).parent
    ask(containerd._replace(idle="0.2"))
    for pid in resolvers(containerd):
        end(pid)
    assert list(directory.glob("resolver-*")) == []
    assert ask(containerd) == sentence(containerd)


def test_bad_idle_time(containerd: Containerd) -> None:
    with pytest.raises(Internal, match="did not start: WASM_SHIM_RESOLVER_IDLE is no number; set it to seconds"):
        find_program(containerd._replace(idle="soon"), "one", "/app.wasm")
    assert not Path(containerd.resolver).exists()


def test_killed(containerd: Containerd) -> None:
    """The next question starts another in the place of the dead socket."""
    ask(containerd)
    [pid] = resolvers(containerd)
    os.kill(pid, signal.SIGKILL)
    end(pid)
    assert ask(containerd) == sentence(containerd)
    assert len(resolvers(containerd)) == 1


def test_killed_while_asked(containerd: Containerd, home: Environment) -> None:
    """Whoever asked is answered by its successor."""
    with Hold(home, "resolver.asked") as hold, ThreadPoolExecutor(1) as pool:
        hold_at(hold.environment[VARIABLE])
        try:
            asked = pool.submit(ask, containerd)
            pid = hold.wait()
            os.kill(pid, signal.SIGKILL)
            end(pid)
            hold.release()
            assert asked.result(DEADLINE) == sentence(containerd)
        finally:
            hold_at("")
    assert pid not in resolvers(containerd)


@pytest.mark.parametrize("said", [b"", b"\0" * 1000, b"[1, 2]", b"[[[[[[[[", b"null", b'["a", "b", "c", 4]'])
def test_nonsense(containerd: Containerd, said: bytes) -> None:
    """No answer, and no harm to others."""
    ask(containerd)
    before = resolvers(containerd)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(containerd.resolver)
        peer.settimeout(DEADLINE)
        peer.send(said)
        assert peer.recv(100) == b""
    assert ask(containerd) == sentence(containerd)
    assert resolvers(containerd) == before


def test_peers_that_say_nothing(containerd: Containerd) -> None:
    """They keep nobody else waiting."""
    ask(containerd)
    peers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(10)]
    for peer in peers:
        peer.connect(containerd.resolver)
    assert ask(containerd) == sentence(containerd)
    for peer in peers:
        peer.close()


ASK = """import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
    peer.connect(sys.argv[1])
    try:
        peer.send(sys.argv[2].encode())
        sys.stdout.write(peer.recv(100).decode())
    except ConnectionError:
        sys.stdout.write("nothing")
"""


@pytest.mark.root
def test_another_user(containerd: Containerd) -> None:
    """Even where the directory lets it in, it gets no answer."""
    ask(containerd)
    for directory in (Path(containerd.resolver), *list(Path(containerd.resolver).parents)[:2]):
        directory.chmod(0o777)
    question = Question("here", "one", "/app.wasm").to_bytes().decode()
    words = [sys.executable, "-I", "-c", ASK, containerd.resolver, question]
    ours = subprocess.run(words, capture_output=True, timeout=DEADLINE, text=True, check=True)
    assert ours.stdout.startswith('{"error"')
    other: dict[str, Any] = {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
    theirs = subprocess.run(words, capture_output=True, timeout=DEADLINE, text=True, check=True, **other)
    assert theirs.stdout in ("", "nothing")

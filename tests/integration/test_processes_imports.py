"""What the zygote, its pod shims and their guests import, and when.

A zygote is started here as `zygote.client` starts it, with an audit hook in front of its code, which every process
that it forks inherits. It notes the modules that are loaded when the zygote begins to fork, and at each fork by Python,
and every import from then on. So this shows the real processes, and not what an import in another process would load.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.observe import settle, wait_end, zygotes
from tests.integration.support import Environment, read_to_end, started, wait_ready, wasm_shim
from wasm_shim import launch
from wasm_shim.zygote import client

Guest = Callable[[str], Path]

HEAVY: Final = {"asyncio", "dataclasses", "google", "grpc", "typer", "click", "rich", "wasmtime", "logging", "ssl"}

# A module beside the zygote's. The file is opened by name, since every forked process closes its descriptors; a guest
# behind its wall can open nothing any more and says it on standard error.
HOOK: Final = '''
import json, os, sys
def note(kind, what):
    line = json.dumps([kind, what, os.getpid()]).encode() + b"\\n"
    try:
        file = os.open({log!r}, os.O_WRONLY | os.O_APPEND)
    except OSError:
        os.write(2, b"imported behind the wall: " + line)
        return
    os.write(file, line)
    os.close(file)
def hook(event, arguments):
    if event == "os.fork" and serving:
        note("fork", sorted(sys.modules))
    elif event == "import" and serving:
        note("import", arguments[0])
serving = False
def main():
    global serving
    from wasm_shim.zygote import server
    sys.addaudithook(hook)
    run = server.Zygote.run
    def serve(zygote):
        global serving
        serving = True
        note("fork", sorted(sys.modules))
        run(zygote)
    server.Zygote.run = serve
    server.main()
'''


class Log:
    """What the hook noted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _entries(self) -> list[tuple[str, list[str] | str]]:
        return [(kind, what) for kind, what, _ in map(json.loads, self._path.read_text(encoding="utf-8").splitlines())]

    @property
    def modules(self) -> list[set[str]]:
        """The modules that were loaded at each fork."""
        return [set(what) for kind, what in self._entries() if kind == "fork"]

    @property
    def imports(self) -> set[str]:
        """What was imported after the zygote's first fork, by whomever."""
        return {str(what) for kind, what in self._entries() if kind == "import"}


@pytest.fixture
def log(home: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """The log of the zygote that serves the home."""
    (tmp_path / "log").touch(mode=0o666)
    (tmp_path / "wasm_shim_hooked.py").write_text(HOOK.format(log=str(tmp_path / "log")), encoding="utf-8")
    directory = Path(home["XDG_RUNTIME_DIR"], "wasm-shim")
    directory.mkdir(mode=0o700)
    path = f"{directory}/zygote-{client._identity()}.sock"
    monkeypatch.syspath_prepend(tmp_path)
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener, Path(os.devnull).open("r+b") as null:
        listener.bind(path)
        listener.listen()
        inherited = (null.fileno(), null.fileno(), writer, listener.fileno())
        pid = launch.start("wasm_shim_hooked", [path], inherited, {}, new_session=True)
    os.close(writer)
    assert read_to_end(reader) == b""
    os.close(reader)
    assert zygotes(home) == [pid]
    yield Log(tmp_path / "log")
    os.kill(pid, 9)
    wait_end(pid)
    os.waitpid(pid, 0)


def test_the_zygote_loads_little(home: Environment, guest: Guest, log: Log) -> None:
    """Neither the zygote at the fork of a pod shim, nor the shim at the fork of a guest, has loaded a big package."""
    assert wasm_shim(home, "run", "--rm", guest("kit_p2.wasm")).returncode == 0
    assert len(log.modules) >= 2
    for modules in log.modules:
        assert "wasm_shim.shim.server" in modules
        assert sorted(name for name in modules if name.split(".")[0] in HEAVY) == []


RUNS: Final = {
    "a program that is compiled": ["kit_p1.wasm"],
    "a component": ["kit_p2.wasm"],
    "arguments and a directory": ["-e", "A=ä", "-v", "/usr:/usr:ro", "-w", "/usr", "kit_p1.wasm", "cwd"],
    "a trap": ["kit_p1.wasm", "trap"],
    "a trap of a component": ["kit_p2.wasm", "trap"],
    "a stack that is used up": ["kit_p1.wasm", "recurse"],
    "an exit code": ["kit_p1.wasm", "exit", "200"],
    "stdin": ["-i", "kit_p1.wasm", "cat"],
    "a terminal": ["-t", "kit_p1.wasm", "tty"],
    "a call": ["--invoke", "add(1, 2)", "addition.wat"],
    "a call of a component": ["--invoke", "add(1, 2)", "addition.wasm"],
    "a call with floats": ["--invoke", "nothing()", "numbers.wat"],
    "a call that traps": ["--invoke", "fail()", "numbers.wat"],
    "a call with too few words": ["--invoke", "add(1)", "addition.wat"],
    "a call of nothing": ["--invoke", "nowhere()", "addition.wat"],
    "a call that is none": ["--invoke", "add(", "addition.wat"],
    "an unknown import": ["unknown_import.wat"],
    "an unknown interface": ["unknown_interface.wat"],
    "a library": ["addition.wat"],
    "another program than its own": ["--entrypoint", "/other", "kit_p1.wasm"],
    "a working directory that is not there": ["-w", "/nowhere", "kit_p1.wasm"],
    "two mounts at one place": ["-v", "/usr:/a", "-v", "/etc:/a", "kit_p1.wasm"],
}


def test_nothing_is_imported_after_a_fork(home: Environment, guest: Guest, log: Log) -> None:
    """Pod shims and guests run, fail, trap and end with the modules that the zygote had at its first fork."""
    late = {}
    known: set[str] = set()
    for title, words in RUNS.items():
        found = [str(guest(word)) if word.endswith((".wasm", ".wat")) else word for word in words]
        done = wasm_shim(home, "run", "--rm", *found, input="words\n")
        settle(home)
        behind = [line for line in (done.stdout + done.stderr).splitlines() if "imported behind the wall" in line]
        if behind or log.imports - known:
            late[title] = [*behind, *sorted(log.imports - known)]
            known |= log.imports
    assert late == {}


def test_nothing_is_imported_to_end(home: Environment, guest: Guest, log: Log) -> None:
    """Nor do a signal, a killed command line and a killed guest make a pod shim import anything."""
    assert wasm_shim(home, "compile", guest("kit_p1.wasm")).returncode == 0
    for number in (2, 15, 9):
        with started(home, "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000") as cli:
            wait_ready(cli)
            cli.send_signal(number)
            cli.wait(30)
        settle(home)
    assert log.imports == set()

"""Where a guest's stdio goes by the names that containerd's clients give: FIFOs, files, a terminal."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.observe import descriptors
from tests.integration.rooted import Container
from tests.integration.support import read_to_end, wait_for
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code

pytestmark = pytest.mark.root

Guest = Callable[[str], Path]
MIB = 1 << 20


def pattern(size: int) -> bytes:
    """What the guest's `out` writes."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("scheme", ["", "fifo://"])
def test_fifos(container: Container, scheme: str) -> None:
    """With a scheme and without one; input ends when client and CloseIO have let go of it."""
    stdin, stdout = container.fifo("stdin"), container.fifo("stdout")
    container.create("cat", stdin=f"{scheme}{stdin}", stdout=f"{scheme}{stdout}")
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)
    container.start()
    stdin.write_bytes(b"words\n")
    assert wait_for(reader, b"words\n") == b"words\n"
    container.pod.call("CloseIO", messages.CloseIORequest(id="one", stdin=True))
    assert container.end().status == 0
    assert read_to_end(reader) == b""
    os.close(reader)


def test_files_are_made_and_appended_to(container: Container, tmp_path: Path) -> None:
    """A file gets its directory, keeps what it has, and holds everything before the end is told."""
    out, err = tmp_path / "new/deep/out", tmp_path / "new/err"
    names = {"stdout": f"file://{out}", "stderr": f"file://{err}"}
    assert container.run("hello", **names).status == 0
    assert container.run("noeol", **names).status == 0
    assert out.read_text(encoding="ascii") == "hello from kit\nno newline"
    assert err.read_text(encoding="ascii") == "err no newline"
    assert not out.stat().st_mode & 0o137


def test_one_file_for_both(container: Container, tmp_path: Path) -> None:
    """Output and errors go to one file, neither over the other."""
    name = f"file://{tmp_path}/both"
    assert container.run("noeol", stdout=name, stderr=name).status == 0
    assert (tmp_path / "both").read_text(encoding="ascii") in ("no newlineerr no newline", "err no newlineno newline")


def test_plain_path_of_a_file(container: Container, tmp_path: Path) -> None:
    """A file that is there is appended to by its plain path, too; one that is not is none of ours to make."""
    path = tmp_path / "log"
    path.write_text("before\n", encoding="ascii")
    assert container.run("hello", stdout=str(path)).status == 0
    assert path.read_text(encoding="ascii") == "before\nhello from kit\n"
    assert container.refused("hello", stdout=str(tmp_path / "none")).code == Code.PERMISSION_DENIED
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("user", [0, 12345])
def test_much_output_is_whole_at_the_end(container: Container, tmp_path: Path, user: int) -> None:
    """Ten MiB are in the file when Wait answers, whoever the guest is."""
    path = tmp_path / "out"
    container.process["user"] = {"uid": user, "gid": user}
    container.create("out", str(10 * MIB), stdout=f"file://{path}")
    container.start()
    waiting = container.pod.begin("Wait", messages.WaitRequest(id="one"))
    assert messages.WaitResponse.decode(waiting.result()).exit_status == 0
    assert path.read_bytes() == pattern(10 * MIB)
    container.end()


def test_killed_while_it_writes(container: Container, tmp_path: Path) -> None:
    """What a guest wrote before it was killed is in the file, in order and without a gap."""
    path = tmp_path / "out"
    os.mkfifo(tmp_path / "gate")
    container.create("out", str(1 << 40), stdout=f"file://{path}")
    container.start()
    while not path.exists() or path.stat().st_size < MIB:
        assert container.pod.call("State", messages.StateRequest(id="one"))
    assert container.end(signal.SIGKILL).status == 137
    written = path.read_bytes()
    assert written == pattern(len(written))


@pytest.mark.parametrize("words", [["out", str(MIB)], ["hello"]], ids=["much", "little"])
def test_full_disk_holds_nobody(container: Container, words: list[str]) -> None:
    """Where a file takes no more, the guest's writes fail; it is not held in one for ever."""
    ended = container.run(*words, stdout="file:///dev/full")
    assert ended.status in ((5, 1) if words[0] == "out" else (0, 1))


@pytest.mark.parametrize("user", [0, 12345])
def test_terminal(container: Container, tmp_path: Path, user: int) -> None:
    """With FIFOs or a file: the guest has a terminal on all three, and its output passes through."""
    container.spec["process"] |= {"terminal": True, "user": {"uid": user, "gid": user}}
    stdin = container.fifo("stdin")
    container.create("tty", terminal=True, stdin=str(stdin), stderr="")
    container.start()
    assert wait_for(container.stdout, b"\n") == b"1 1 1\r\n"
    assert container.end().status == 0
    path = tmp_path / "typescript"
    assert container.run("out", "100000", terminal=True, stdout=f"file://{path}", stderr="").status == 0
    assert path.read_bytes() == pattern(100000).replace(b"\n", b"\r\n")


def test_terminal_takes_input(container: Container) -> None:
    """A line that is typed is echoed and read; the interrupt key ends the guest."""
    container.process["terminal"] = True
    stdin = container.fifo("stdin")
    container.create("cat", terminal=True, stdin=str(stdin), stderr="")
    container.start()
    writer = os.open(stdin, os.O_WRONLY)
    os.write(writer, b"line\n")
    assert wait_for(container.stdout, b"line\r\nline\r\n") == b"line\r\nline\r\n"
    os.write(writer, b"\x03")
    os.close(writer)
    assert container.end().status == 130


def test_nothing_is_connected(container: Container) -> None:
    """Empty names: input ends at once, output goes nowhere."""
    assert container.run("cat", stdout="", stderr="", stdin="").status == 0
    assert container.run("err", stdout="", stderr="").status == 3


REFUSED = {
    "binary": ("binary:///usr/bin/logger", Code.UNIMPLEMENTED, "wasm-shim knows fifo:// and file://; use one of them"),
    "another scheme": ("npipe://x/y", Code.UNIMPLEMENTED, "wasm-shim knows fifo:// and file://"),
    "relative file": ("file://relative", Code.INVALID_ARGUMENT, "it needs an absolute path"),
    "a directory": ("file:///tmp", Code.PERMISSION_DENIED, "cannot open /tmp as stdout: Is a directory"),
    "no such FIFO": ("fifo:///nowhere", Code.PERMISSION_DENIED, "cannot open /nowhere as stdout: No such file"),
    "below a file": ("file:///etc/passwd/x", Code.PERMISSION_DENIED, "cannot open /etc/passwd/x as stdout"),
    "a device": ("/dev/zero", Code.INVALID_ARGUMENT, "it is no pipe and no FIFO"),
}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(("name", "code", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_names(container: Container, stream: str, name: str, code: int, sentence: str) -> None:
    """What cannot be used is refused in one sentence that names the stream, and nothing stays open."""
    refusal = container.refused("hello", **{stream: name})
    assert refusal.code == code, refusal
    assert sentence.replace("stdout", stream) in refusal.message


def test_input_from_a_file_is_refused(container: Container, tmp_path: Path) -> None:
    """A guest opens its input by name, and a file would have to be copied: not served."""
    (tmp_path / "input").write_text("text", encoding="ascii")
    for name in (f"file://{tmp_path}/input", str(tmp_path / "input")):
        assert container.refused("cat", stdin=name).code in (Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED)


def test_shim_keeps_output_open_for_readers(container: Container) -> None:
    """A reader that goes away breaks nothing; the shim itself holds the FIFO, the guest has nothing else of it."""
    container.begin("sleep", "3600000")
    held = [what for what in descriptors(container.shim).values() if what.endswith("-stdout")]
    assert len(held) > 1
    os.close(container.stdout)
    container.stdout = -1
    assert container.end(signal.SIGTERM).status == 143

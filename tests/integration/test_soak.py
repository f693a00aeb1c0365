"""Many containers, at once and one after the other: all run, and nothing of them stays."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.integration.observe import descriptors, settle, the_zygote, traced
from tests.integration.support import DEADLINE, Environment, compiled_programs, leftovers, wasm_shim

Guest = Callable[[str], Path]

NOISE: Final = 128  # KiB that the zygote's memory may differ by: a few pages of its heap, and what it shares with whom
PATIENCE: Final = 10 * DEADLINE


@pytest.fixture
def warm(home: Environment, guest: Guest) -> Environment:
    """A home with a zygote that has served, and with compiled guests."""
    for name in ("kit_p1.wasm", "kit_p2.wasm"):
        for _ in range(10):
            assert wasm_shim(home, "run", "--rm", guest(name)).returncode == 0
    settle(home)
    return home


def memory(pid: int) -> int:
    """The KiB that a process has written to and shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return values["Anonymous"]


@contextmanager
def nothing_stays(home: Environment) -> Iterator[None]:
    """Afterwards the zygote is the same, with the same descriptors and memory, and there is nothing else."""
    zygote = the_zygote(home)
    open_before, memory_before = descriptors(zygote), memory(zygote)
    yield
    settle(home)
    assert the_zygote(home) == zygote
    assert descriptors(zygote) == open_before
    assert memory(zygote) - memory_before < NOISE
    assert leftovers(home) == []


def run_in_a_row(home: Environment, program: Path, count: int) -> None:
    """Each run says what it was told to say."""
    for number in range(count):
        done = wasm_shim(home, "run", "--rm", program, "args", str(number))
        assert (done.returncode, done.stderr) == (0, ""), f"run {number}"
        assert done.stdout == f"arg /{program.name}\narg args\narg {number}\n"


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("kit", ["kit_p1.wasm", "kit_p2.wasm"])
def test_200_at_once(warm: Environment, guest: Guest, tmp_path: Path, kit: str) -> None:
    """Two hundred command lines that start at the same time all get what their guest says and how it ends."""
    with nothing_stays(warm):
        code = "1" if kit == "kit_p2.wasm" else "42"
        clis = []
        for number in range(200):
            with (tmp_path / str(number)).open("wb") as said:
                words = ["random", "32"] if number % 2 else ["exit", code]
                command = ["wasm-shim", "run", "--rm", "--name", f"n{number}", str(guest(kit)), *words]
                clis.append(
                    subprocess.Popen(command, env=warm, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
                )
        codes = [cli.wait(PATIENCE) for cli in clis]
        said_all = [(tmp_path / str(number)).read_text(encoding="utf-8") for number in range(200)]
        assert codes == [int(code), 0] * 100, [text for text in said_all if "wasm-shim:" in text]
        assert [text for text in said_all[::2] if text] == []
        assert len(set(said_all[1::2])) == 100
        assert {len(text) for text in said_all[1::2]} == {65}


@pytest.mark.timeout(PATIENCE)
def test_200_in_a_row(warm: Environment, guest: Guest) -> None:
    """Two hundred runs one after the other leave nothing behind."""
    with nothing_stays(warm):
        run_in_a_row(warm, guest("kit_p1.wasm"), 200)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_2000_in_a_row(warm: Environment, guest: Guest) -> None:
    """Two thousand runs one after the other leave nothing behind, and the zygote does not grow."""
    with nothing_stays(warm):
        run_in_a_row(warm, guest("kit_p1.wasm"), 1000)
        run_in_a_row(warm, guest("kit_p2.wasm"), 1000)


@pytest.mark.timeout(PATIENCE)
def test_failures_leave_nothing(warm: Environment, guest: Guest, tmp_path: Path) -> None:
    """Nor do many runs that fail in all the ways in which a run can fail."""
    (tmp_path / "broken.wasm").write_bytes(b"\0asm\1\0\0\0\1")
    kit = guest("kit_p1.wasm")
    failures: list[tuple[int, list[str | Path]]] = [
        (134, [kit, "trap"]),
        (126, [tmp_path / "broken.wasm"]),
        (126, [guest("unknown_import.wat")]),
        (127, [tmp_path / "nowhere.wasm"]),
        (125, ["-v", "/nowhere/at/all:/data", kit]),
        (127, ["--entrypoint", "/other", kit]),
        (134, ["--invoke", "fail()", guest("numbers.wat")]),
    ]
    for code, words in failures:  # the first time, some of it is compiled
        assert wasm_shim(warm, "run", "--rm", *words).returncode == code, words
    settle(warm)
    with nothing_stays(warm):
        for _ in range(10):
            for code, words in failures:
                assert wasm_shim(warm, "run", "--rm", *words).returncode == code


@pytest.mark.timeout(PATIENCE)
def test_first_starts_at_once_compile_once(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """Twenty first starts of one program wait for one compiler and use its work.

    A compiler that has something to compile confines itself first: the others never load a filter.
    """
    wasm_shim(home, "run", "--rm", guest("hello.wat"))
    settle(home)
    before = compiled_programs(home)
    with traced(home, tmp_path / "log", "execve,seccomp"):
        clis = [
            subprocess.Popen(
                ["wasm-shim", "run", "--rm", guest("kit_p2.wasm")],
                env=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for _ in range(20)
        ]  # fmt: skip
        said = [cli.communicate(timeout=PATIENCE)[0] for cli in clis]
    assert said == [b"hello from kit\n"] * 20
    calls = [line.split(maxsplit=1) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    compilers = {pid for pid, call in calls if "runtime.compiler" in call}
    assert len([pid for pid, call in calls if call.startswith("seccomp(") and pid in compilers]) == 1
    assert len(compiled_programs(home) - before) == 1
    assert leftovers(home) == []

"""The processes behind a running container: whose children they are, what they share, how many threads they have."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.integration.observe import (
    children,
    nurseries,
    running,
    settle,
    status,
    the_zygote,
    threads,
    traced,
    wait_end,
)
from tests.integration.support import DEADLINE, Environment, leftovers, started, wait_ready, wasm_shim

Guest = Callable[[str], Path]


@pytest.mark.parametrize("kit", ["kit_p1.wasm", "kit_p2.wasm"])
def test_chain_of_parents(home: Environment, guest: Guest, kit: str) -> None:
    """A guest is a child of its pod shim, which is a child of the zygote, which outlives who started it."""
    wasm_shim(home, "run", "--rm", guest("hello.wat"))
    with running(home, guest(kit), "sleep", "3600000") as chain:
        assert status(chain.guest)["PPid"] == str(chain.shim)
        assert status(chain.shim)["PPid"] == str(chain.zygote)
        assert int(status(chain.zygote)["PPid"]) in _ancestors(os.getpid())
        [nursery] = nurseries(chain.shim)
        assert os.getsid(chain.guest) == os.getsid(nursery) == nursery  # a pod's own
        assert len({os.getsid(pid) for pid in chain}) == 4


def test_pods_outlive_the_zygote(home: Environment, guest: Guest) -> None:
    """When the zygote is killed its pod shims go on, with an ancestor as their parent, and still stop their guests."""
    with started(home, "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000") as cli:
        wait_ready(cli)
        zygote = the_zygote(home)
        [shim] = children(zygote)
        [process] = children(shim)
        os.kill(zygote, signal.SIGKILL)
        wait_end(zygote)
        assert int(status(shim)["PPid"]) in _ancestors(os.getpid())
        assert status(process)["PPid"] == str(shim)
        second = wasm_shim(home, "run", "--rm", guest("hello.wat"))
        assert second.stdout == "hello from wasm-shim\n"
        cli.send_signal(signal.SIGTERM)
        assert cli.wait(DEADLINE) == 143
    settle(home)
    assert leftovers(home) == []


def _ancestors(pid: int) -> set[int]:
    found = {pid}
    while pid := int(status(pid)["PPid"]):
        found.add(pid)
    return found


def test_every_container_has_a_shim_of_its_own(home: Environment, guest: Guest) -> None:
    """Containers that run at once have one pod shim and one guest each, and one zygote."""
    with (
        started(home, "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000") as first,
        started(home, "run", "--rm", guest("kit_p1.wasm"), "sleep", "3600000") as second,
    ):
        wait_ready(first)
        wait_ready(second)
        shims = children(the_zygote(home))
        assert len(shims) == 2
        assert [len(children(shim)) for shim in shims] == [1, 1]


# Sharing


def _mappings(pid: int, name: str) -> list[dict[str, str]]:
    """What smaps says of each mapping of a file; "range" and "mode" and "inode" are of its first line."""
    found: list[dict[str, str]] = []
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            place, mode, _, _, inode, *path = line.split(maxsplit=5)
            found.append({"range": place, "mode": mode, "inode": inode, "path": path[0] if path else ""})
        else:
            key, _, value = line.partition(":")
            found[-1][key] = value.split()[0]
    return [mapping for mapping in found if mapping["path"].endswith(name)]


def test_the_library_is_shared(home: Environment, guest: Guest) -> None:
    """Zygote, pod shim and guest map the same libwasmtime at the same place, and none has a copy of its code."""
    with running(home, guest("kit_p2.wasm"), "sleep", "3600000") as chain:
        texts = []
        for pid in (chain.zygote, chain.shim, chain.guest):
            [text] = [part for part in _mappings(pid, "libwasmtime.so") if "x" in part["mode"]]
            assert text["Anonymous"] == "0"  # a page that was written to would be
            texts.append((text["range"], text["inode"]))
        assert len(set(texts)) == 1


def test_the_program_is_shared(home: Environment, guest: Guest) -> None:
    """Two guests of one program map the same precompiled file, and neither copies its code."""
    words = ["run", "--rm", str(guest("kit_p1.wasm")), "sleep", "3600000"]
    with started(home, *words) as first, started(home, *words) as second:
        wait_ready(first)
        wait_ready(second)
        guests = [process for shim in children(the_zygote(home)) for process in children(shim)]
        codes = [part for pid in guests for part in _mappings(pid, ".cwasm") if "x" in part["mode"]]
        assert len(codes) == 2
        assert len({part["inode"] for part in codes}) == 1
        assert {part["Anonymous"] for part in codes} == {"0"}


def test_zygote_and_shim_have_one_thread(home: Environment, guest: Guest) -> None:
    """Also after they have compiled, run and ended guests: a fork of more threads would hang."""
    wasm_shim(home, "run", "--rm", guest("kit_p2.wasm"), "trap")
    with running(home, guest("kit_p2.wasm"), "sleep", "3600000") as chain:
        assert [len(threads(pid)) for pid in (chain.zygote, chain.shim)] == [1, 1]


# What a warm run does


def _executed(home: Environment, program: Path, log: Path) -> list[str]:
    """What the zygote and all that it forks execute during one run."""
    with traced(home, log, "execve,execveat"):
        assert wasm_shim(home, "run", "--rm", program).returncode == 0
    return [line for line in log.read_text(encoding="utf-8").splitlines() if "exec" in line]


def test_a_warm_run_compiles_nothing(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """The first run of a program executes one compiler, the second run nothing at all."""
    wasm_shim(home, "run", "--rm", guest("hello.wat"))
    first = _executed(home, guest("kit_p1.wasm"), tmp_path / "first")
    assert len(first) == 1
    assert "wasm_shim.runtime.compiler" in first[0]
    assert _executed(home, guest("kit_p1.wasm"), tmp_path / "second") == []


def test_a_warm_command_line_starts_no_process(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """The command line of a warm run neither executes nor forks anything."""
    wasm_shim(home, "run", "--rm", guest("hello.wat"))
    log = tmp_path / "log"
    trace = ["strace", "-f", "-q", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o", str(log)]
    try:
        done = subprocess.run(
            [*trace, "wasm-shim", "run", "--rm", guest("hello.wat")],
            env=home, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs strace")
    if done.stdout != "hello from wasm-shim\n":
        pytest.skip(f"strace cannot trace: {done.stderr.strip()}")
    calls = [line for line in log.read_text(encoding="utf-8").splitlines() if re.search(r"\b(exec|fork|clone)", line)]
    assert len([line for line in calls if not line.endswith(" = -1 ENOENT (No such file or directory)")]) == 1


TELLING_MODULES: Final = """
import sys
before = set(sys.modules)
from wasm_shim.cli.app import main
try:
    main()
finally:
    sys.stderr.write(" ".join(set(sys.modules) - before))
"""


def test_a_warm_run_imports_little(home: Environment, guest: Guest) -> None:
    """What `run` needs when all is warm holds none of the big packages, and nothing that compiles."""
    wasm_shim(home, "run", "--rm", guest("hello.wat"))
    done = subprocess.run(
        [sys.executable, "-c", TELLING_MODULES, "run", "--rm", guest("hello.wat")],
        env=home, capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    imported = set(done.stderr.split())
    assert "wasm_shim.cli.run" in imported
    heavy = {"typer", "click", "rich", "oras", "wasmtime", "asyncio", "dataclasses", "grpc", "google", "logging", "ssl"}
    ours = {"wasm_shim.runtime.describe", "wasm_shim.runtime.binding", "oci"}
    assert {name for name in imported if name.split(".")[0] in heavy or name in ours} == set()

"""What the benchmark of transfers measures: command lines that push an artifact and pull it, ours and others'."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import oci
from tests.registry import programs
from tests.registry.tools import Tool

FILE: Final = "program.wasm"  # in the payload's directory, where it is a program
LAYOUT: Final = "layout"  # in the payload's directory: an OCI layout with one name
NAME: Final = "v1"

# A process as small as Python can be: what is started from a larger one counts that one's memory as its own.
_MEASURE: Final = """
import os, sys, time
null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
begin = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, used = os.wait4(pid, 0)
took = time.perf_counter() - begin
print(status, took * 1e3, (used.ru_utime + used.ru_stime) * 1e3, used.ru_maxrss / 1024)
"""
_COPY: Final = """
import sys
from oci.copy import copy
from oci.layout import Layout
from oci.reference import Reference
from oci.registry.store import Registry

verb, reference, path = sys.argv[1:]
name = Reference.parse(reference)
with Registry(name) as registry:
    if verb == "push":
        copy(Layout(path), "v1", registry, name.name)
    else:
        copy(registry, name.name, Layout.create(path), "v1")
"""


class Used(NamedTuple):
    """What a process took from its start to its end; its children are counted in."""

    wall: float  # milliseconds
    cpu: float  # milliseconds, of the process and the kernel for it
    memory: float  # MiB at most at one time


class Mover(NamedTuple):
    """A program that pushes and pulls; in its words stand `{reference}` and `{out}`, the directory to pull into."""

    name: str
    program: Path
    environment: Mapping[str, str]
    push: Sequence[str]
    pull: Sequence[str]

    def run(self, verb: str, directory: Path, reference: str, out: Path) -> Used:
        """Push what is in the directory, or pull. Raises RuntimeError where it fails."""
        words = self.push if verb == "push" else self.pull
        filled = [word.replace("{reference}", reference).replace("{out}", str(out)) for word in words]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MEASURE, str(self.program), *filled],
            cwd=directory,
            env={**self.environment, "XDG_DATA_HOME": str(out)},  # where our command line has its store
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        status, *used = done.stdout.split() or ["1"]
        if int(status):
            raise RuntimeError(f"{self.name}: it cannot {verb}: {done.stderr.strip()[-400:]}")
        return Used(*map(float, used))


def ours(home: Mapping[str, str], *, by_file: bool) -> Mover:
    """The command line with a program's file; else the library's copy of a layout, in a process of its own."""
    if by_file:
        program = Path(shutil.which("wasm-shim", path=home["PATH"]) or "wasm-shim")
        return Mover("wasm-shim", program, home, ["push", FILE, "{reference}"], ["pull", "{reference}"])
    words = ["-c", _COPY]
    environment = {**home, "PYTHONPATH": str(Path(oci.__file__).parents[1])}
    push, pull = [*words, "push", "{reference}", LAYOUT], [*words, "pull", "{reference}", "{out}"]
    return Mover("wasm-shim's oci.copy", Path(sys.executable), environment, push, pull)


def theirs(name: str, build: Path, home: Path, *, by_file: bool) -> Mover:
    """One of programs.PEERS. Raises PeerMissing."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    tool = Tool(name, programs.find(name, build), home)
    try:
        tool.run("--help")
    except (AssertionError, OSError) as error:
        raise programs.PeerMissing(f"{name}: it does not run here: {error}") from error
    push, pull = {
        "oras": _oras(by_file=by_file),
        "crane": (
            ["push", "--insecure", LAYOUT, "{reference}"],
            ["pull", "--insecure", "--format", "oci", "{reference}", "{out}"],
        ),
        "skopeo": (
            ["--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{LAYOUT}:{NAME}", "docker://{reference}"],
            ["--insecure-policy", "copy", "--src-tls-verify=false", "docker://{reference}", "oci:{out}:x"],
        ),
    }[name]
    return Mover(name, programs.program(tool.root, name), {**os.environ, **tool.environment}, push, pull)


def _oras(*, by_file: bool) -> tuple[list[str], list[str]]:
    if by_file:
        return (
            ["push", "--plain-http", "{reference}", f"{FILE}:application/wasm"],
            ["pull", "--plain-http", "--output", "{out}", "{reference}"],
        )
    return (
        ["copy", "--to-plain-http", "--from-oci-layout", f"{LAYOUT}:{NAME}", "{reference}"],
        ["copy", "--from-plain-http", "{reference}", "--to-oci-layout", "{out}:x"],
    )

"""Build the guests that the tests run: python tests/guests/build.py [--no-slow] [OUT_DIR].

Only what changed is built again. A guest appears under its name when it is complete, and two builds at once wait for
each other, so that a build may be interrupted at any time. Caches and npm packages go to .build in the repository.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path(__file__).resolve().parent
CACHE = SOURCES.parents[1] / ".build"
DEFAULT_OUT = CACHE / "guests"
NPM = CACHE / "npm"

NPM_FILES = ("package.json", "package-lock.json", "component.mjs")
ZIG_FLAGS = ("-std=gnu23", "-O2")
ZIG_PROGRAM = ("-target", "wasm32-wasi")
ZIG_LIBRARY = ("-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry")


class ToolMissing(Exception):
    """A tool that a guest is made with is not there."""


class BuildFailed(Exception):
    """A tool refused what it was given."""


@dataclass(frozen=True)
class Guest:
    """One file to build: from which sources, with which tools, and how."""

    name: str
    sources: tuple[str, ...]
    make: Callable[[Workshop, Guest], Path]
    tools: tuple[str, ...] = ()
    slow: bool = False

    @property
    def digest(self) -> str:
        """A hash of everything in the repository that the guest is made from."""
        digest = hashlib.sha256()
        for name in ("build.py", *(NPM_FILES if "npm" in self.tools else ()), *self.sources):
            digest.update(hashlib.sha256((SOURCES / name).read_bytes()).digest())
        return digest.hexdigest()


class Workshop:
    """The tools, and the directory that guests are made in before they are moved to where they belong."""

    def __init__(self, out: Path, lock: int) -> None:
        self.out = out
        self._lock = lock
        self.staging = out / ".staging"
        self._environ = {
            "HOME": str(CACHE),
            **os.environ,
            "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"),
            "ZIG_LOCAL_CACHE_DIR": str(CACHE / "zig"),
            "npm_config_cache": str(CACHE / "npm-cache"),
            "npm_config_fetch_retry_mintimeout": "1000",
            "npm_config_update_notifier": "false",
        }

    def version(self, tool: str) -> str:
        """The version of a tool, by the name that Guest.tools uses."""
        return self._zig_version if tool == "zig" else self._node_version

    def compile(self, source: str, flags: tuple[str, ...]) -> Path:
        """Compile a C source to a core module that keeps the names of its functions."""
        linked, module = (self.staging / source).with_suffix(".wasm"), self.staging / "module.wasm"
        zig = (sys.executable, "-m", "ziglang", "cc")
        self._run(*zig, *flags, *ZIG_FLAGS, "-o", str(linked), str(SOURCES / source))
        module.write_bytes(without_debug_sections(linked.read_bytes()))
        return module

    def component(self, kind: str, *files: Path) -> Path:
        """Make a component with component.mjs."""
        if self._npm_problem:
            raise ToolMissing(self._npm_problem)
        component = self.staging / "component.wasm"
        self._run("node", str(NPM / "component.mjs"), kind, *map(str, files), str(component))
        return component

    @cached_property
    def _zig_version(self) -> str:
        try:
            return metadata.version("ziglang")
        except metadata.PackageNotFoundError as error:
            raise ToolMissing("the Python package ziglang is not installed") from error

    @cached_property
    def _node_version(self) -> str:
        for program in ("node", "npm"):
            if not shutil.which(program):
                raise ToolMissing(f"{program} is not installed")
        return self._run("node", "--version").strip()

    @cached_property
    def _npm_problem(self) -> str:
        """Why the npm packages cannot be used, if so; installs them when they are not those wanted."""
        stamp = NPM / ".stamp"
        wanted = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest() + self._node_version
        NPM.mkdir(parents=True, exist_ok=True)
        for name in NPM_FILES:
            shutil.copyfile(SOURCES / name, NPM / name)
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            try:
                self._run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(NPM))
            except BuildFailed as error:
                return f"the npm packages cannot be installed: {textwrap.shorten(str(error), 300)}"
            stamp.write_text(wanted)
        return ""

    def _run(self, *command: str) -> str:
        """Run a tool, which keeps the lock when this process is killed, and return what it wrote."""
        done = subprocess.run(
            command,
            cwd=self.staging,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=(self._lock,),
        )
        if done.returncode:
            raise BuildFailed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout


def without_debug_sections(wasm: bytes) -> bytes:
    """Leave out the DWARF sections, which come with the C library and are most of a small module."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (wasm[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if wasm[at - 1] < 0x80:
                return value, at

    kept, at = bytearray(wasm[:8]), 8
    while at < len(wasm):
        size, content = number(at + 1)
        name_size, name = number(content)
        is_custom = wasm[at] == 0
        if not (is_custom and wasm[name : name + name_size].startswith(b".debug_")):
            kept += wasm[at : content + size]
        at = content + size
    return bytes(kept)


def text(workshop: Workshop, guest: Guest) -> Path:
    """WebAssembly text is used as it is."""
    return Path(shutil.copy(SOURCES / guest.name, workshop.staging))


def c_program(workshop: Workshop, guest: Guest) -> Path:
    """A C program for WASI 0.1."""
    return workshop.compile(guest.sources[0], ZIG_PROGRAM)


def command_of_kit(workshop: Workshop, _: Guest) -> Path:
    """The WASI 0.1 program kit as a WASI 0.2 command."""
    return workshop.component("command", workshop.out / "kit_p1.wasm")


def c_library(workshop: Workshop, guest: Guest) -> Path:
    """C functions that follow the canonical ABI, as a component."""
    source, wit = guest.sources
    return workshop.component("library", workshop.compile(source, ZIG_LIBRARY), SOURCES / wit)


def javascript(workshop: Workshop, guest: Guest) -> Path:
    """JavaScript together with an engine that runs it, as a component."""
    return workshop.component("javascript", *(SOURCES / name for name in guest.sources))


GUESTS = (
    *(Guest(path.name, (path.name,), text) for path in sorted(SOURCES.glob("*.wat"))),
    Guest("kit_p1.wasm", ("kit.c",), c_program, ("zig",)),
    Guest("kit_p2.wasm", ("kit.c",), command_of_kit, ("zig", "npm")),
    Guest("addition.wasm", ("addition.c", "addition.wit"), c_library, ("zig", "npm")),
    Guest("fraction.wasm", ("fraction.c", "fraction.wit"), c_library, ("zig", "npm")),
    Guest("scalars.wasm", ("scalars.c", "scalars.wit"), c_library, ("zig", "npm")),
    Guest("greeter.wasm", ("greeter.js", "greeter.wit"), javascript, ("npm",), slow=True),
)


@contextmanager
def _opened(out: Path) -> Iterator[Workshop]:
    """A workshop that nobody else uses meanwhile."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "guests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        workshop = Workshop(out.absolute(), lock.fileno())
        shutil.rmtree(workshop.staging, ignore_errors=True)
        workshop.staging.mkdir(parents=True)
        try:
            yield workshop
        finally:
            shutil.rmtree(workshop.staging, ignore_errors=True)


def _build_guest(workshop: Workshop, guest: Guest, *, slow: bool) -> bool:
    """Build a guest if it has to be, and say whether it was; raise ToolMissing when it cannot be."""
    target, stamp = workshop.out / guest.name, workshop.out / ".stamps" / guest.name
    recorded = stamp.read_text() if stamp.exists() and target.exists() else ""
    try:
        wanted = " ".join((guest.digest, *map(workshop.version, guest.tools)))
    except ToolMissing:
        if recorded.startswith(guest.digest):
            return False
        raise
    if recorded == wanted:
        return False
    if guest.slow and not slow:
        raise ToolMissing("it is slow to build, and was not asked for")
    stamp.unlink(missing_ok=True)
    guest.make(workshop, guest).replace(target)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(wanted)
    return True


def build(out: Path, *, slow: bool = True, built: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Build all guests into a directory and return those left out, each with the reason."""
    missing = {}
    with _opened(out) as workshop:
        for guest in GUESTS:
            try:
                if _build_guest(workshop, guest, slow=slow):
                    built(guest.name)
            except ToolMissing as reason:
                (workshop.out / guest.name).unlink(missing_ok=True)
                missing[guest.name] = str(reason)
    return missing


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run as a command; the exit code is 1 when a guest is missing."""
    parser = argparse.ArgumentParser(description="Build the guests that the tests run.")
    parser.add_argument("--no-slow", action="store_false", dest="slow", help="leave out what takes long to build")
    parser.add_argument("out", metavar="OUT_DIR", nargs="?", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    missing = build(options.out, slow=options.slow, built=_say)
    for name, reason in missing.items():
        sys.stderr.write(f"{name}: {reason}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

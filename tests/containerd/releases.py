"""Releases of containerd, with runc: fetched once, kept below the build directory, never installed.

Three come from Debian's archive, by apt with a private state, so that neither the machine's packages nor its lists
change; the newest is built through Go, where there is a `go` command. Sessions at the same time wait for each other.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.containerd.sources import NoArchive, write_sources

PROGRAMS = ("containerd", "ctr", "containerd-shim-runc-v2")
_SUITES = {"1.6": "bookworm", "1.7": "trixie", "2.1": "sid"}
_MINIMUM = {"1.6": (1, 6, 20), "1.7": (1, 7, 0), "2.1": (2, 1, 0), "2.4": (2, 4, 0)}
_RUNC_SUITE = "bookworm"  # a newer one needs a newer C library than Debian 12 has
_MODULE = "github.com/containerd/containerd/v2"
_MODULE_VERSION = "v2.4.2"
RELEASES = ("1.6", "1.7", "2.1", "2.4")


class PeerMissing(Exception):
    """A peer cannot run here; the message says why."""


class Release(NamedTuple):
    """The programs of one release."""

    name: str  # one of RELEASES
    programs: Path  # the directory of PROGRAMS
    runc: Path
    version: str  # what came, for a report: "containerd 2.1.9, runc 1.1.5"


def fetch(name: str, build: Path) -> Release:
    """The release of this name (of RELEASES), made below `build` unless it is there; raises PeerMissing."""
    if os.geteuid() != 0:
        raise PeerMissing(f"containerd {name}: needs root")
    debian = _debian_packages(_RUNC_SUITE, build / "peers")
    runc = debian / "usr/sbin/runc"
    if name in _SUITES:
        programs = _debian_packages(_SUITES[name], build / "peers") / "usr/bin"
    else:
        programs = _built_through_go(build / "peers")
    number = _version(programs / "containerd")
    if number < _MINIMUM[name]:
        raise PeerMissing(f"containerd {name}: what came is {_dotted(number)}, older than {_dotted(_MINIMUM[name])}")
    return Release(name, programs, runc, f"containerd {_dotted(number)}, runc {_dotted(_version(runc))}")


def _version(program: Path) -> tuple[int, ...]:
    try:
        said = subprocess.check_output([program, "--version"], text=True, stderr=subprocess.STDOUT, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise PeerMissing(f"{program.name} does not run here: {error}") from error
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if not found:
        raise PeerMissing(f"{program.name} does not say its version: {said.strip()}")
    return tuple(map(int, found.groups()))


def _dotted(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))


def _made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The directory `target`; where it is missing, what `make` puts into an empty directory becomes it, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as name:
                made = Path(name, target.name)
                made.mkdir()
                make(made)
                made.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Debian


def _debian_packages(suite: str, peers: Path) -> Path:
    """The suite's containerd, unpacked, and runc beside it in the suite whose runc is used."""
    packages = ["containerd", "runc"] if suite == _RUNC_SUITE else ["containerd"]
    return unpacked(suite, packages, peers / suite)


def unpacked(suite: str, packages: list[str], target: Path) -> Path:
    """The directory `target` with the files of these packages, fetched unless it is there; raises PeerMissing."""
    return _made_once(target, lambda made: _unpack(suite, packages, made))


def _unpack(suite: str, packages: list[str], target: Path) -> None:
    what = f"{packages[0]} of Debian {suite}"
    missing = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        raise PeerMissing(f"{what}: no {missing[0]} to fetch it with")
    with tempfile.TemporaryDirectory(prefix="apt-") as name:
        work = Path(name)
        for directory in ("lists/partial", "cache/archives/partial", "sources", "packages"):
            (work / directory).mkdir(parents=True)
        try:
            write_sources(suite, work / "sources")
        except NoArchive as error:
            raise PeerMissing(f"{what}: {error}") from error
        _apt(work, "update")
        said = _apt(work, "download", *packages)
        found = sorted((work / "packages").glob("*.deb"))
        if len(found) < len(packages):
            raise PeerMissing(f"{what}: apt-get cannot download it: {said}")
        for package in found:
            subprocess.run(["dpkg-deb", "-x", package, target], check=True, timeout=120)


def _apt(work: Path, *words: str) -> str:
    """Run apt-get with its state in `work`; its last words, which matter where nothing came."""
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{work}/sources",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": f"{work}/lists",
        "Dir::Cache": f"{work}/cache",
        "APT::Sandbox::User": "root",  # _apt cannot read a directory of root's
        "Acquire::Languages": "none",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), *words]
    try:
        done = subprocess.run(
            command, cwd=work / "packages", capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "it took longer than 300 seconds"
    return " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"


# Go


def _built_through_go(peers: Path) -> Path:
    return _made_once(peers / _MODULE_VERSION, _build)


def _build(target: Path) -> None:
    """Build the programs; takes minutes. Go's caches are kept until it has succeeded, so that a retry is short."""
    if not shutil.which("go"):
        raise PeerMissing(f"containerd {_MODULE_VERSION}: no go command to build it with")
    caches = target.parents[1] / "go"
    environment = {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod -modcacherw",
        "GOMODCACHE": f"{caches}/modules",
        "GOCACHE": f"{caches}/objects",
        "GOWORK": "off",
    }
    with tempfile.TemporaryDirectory() as work:
        # Not `go get`: it would look at every module that some dependency of a dependency once named.
        Path(work, "go.mod").write_text(f"module peers\n\ngo 1.26\n\nrequire {_MODULE} {_MODULE_VERSION}\n")
        _go(["build", "-o", f"{target}/", *(f"{_MODULE}/cmd/{name}" for name in PROGRAMS)], work, environment)
    shutil.rmtree(caches)


def _go(words: list[str], directory: str, environment: dict[str, str]) -> None:
    command = ["go", *words]
    try:
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=800)
    except subprocess.TimeoutExpired as error:
        raise PeerMissing(f"containerd {_MODULE_VERSION}: go {words[0]} took longer than {error.timeout} s") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise PeerMissing(f"containerd {_MODULE_VERSION}: go {words[0]} failed: {said}")

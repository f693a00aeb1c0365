"""What all tests share: built guests, a private home per test, an ordinary user, and which tests run."""

import contextlib
import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import configuration, settings

from tests.containerd.fixtures import containerd, containerd_release, containerds, native  # noqa: F401 - for pytest
from tests.guests.build import build
from tests.registry.fixtures import (  # noqa: F401 - for pytest
    bad_registry,
    bad_server,
    own_authority,
    own_certificate,
    password_registry,
    plain_registry,
    registry_program,
    tls_registry,
    token_registry,
    tool,
)
from tests.report import write_skips
from wasm_shim.container.control import NURSERY_NAME

ROOT = Path(__file__).resolve().parent.parent
GUEST_SOURCES = ROOT / "tests" / "guests"
BUILD = ROOT / ".build"
ORDINARY_UID = 54321  # nobody's: no entry in the user database, as in a pod with runAsUser

configuration.set_hypothesis_home_dir(BUILD / "hypothesis")
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")


# Which tests run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --all."""
    parser.addoption("--all", action="store_true", help="run the tests marked heavy, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave heavy tests out unless asked for, and skip what needs root without it."""
    heavy = [] if config.getoption("--all") else [item for item in items if item.get_closest_marker("heavy")]
    if heavy:
        config.hook.pytest_deselected(items=heavy)
        items[:] = [item for item in items if not item.get_closest_marker("heavy")]
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was skipped and why."""
    write_skips(terminalreporter, all_wanted=config.getoption("--all"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Free what the tracebacks of failed tests hold; else its warnings follow pytest's closing line."""
    if session.testsfailed:
        for name in ("last_exc", "last_traceback", "last_value"):
            vars(sys).pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


# Guests


class BuiltGuests(NamedTuple):
    """Where the built guests are, and why one is missing."""

    directory: Path
    missing: dict[str, str]


@pytest.fixture(scope="session")
def built_guests() -> BuiltGuests:
    """The guests, built once; what did not change since the last run is not built again."""
    directory = BUILD / "guests"
    directory.mkdir(parents=True, exist_ok=True)
    return BuiltGuests(directory, build(directory))


@pytest.fixture(scope="session")
def guests(built_guests: BuiltGuests) -> Path:
    """The directory of the built guests."""
    return built_guests.directory


@pytest.fixture(scope="session")
def guest(built_guests: BuiltGuests) -> Callable[[str], Path]:
    """The file of a guest by name, as in `guest("hello.wat")`; skips the test where it could not be built."""

    def find(name: str) -> Path:
        if name in built_guests.missing:
            pytest.skip(f"guest {name}: {built_guests.missing[name]}")
        for directory in (GUEST_SOURCES, built_guests.directory):
            if (directory / name).is_file():
                return directory / name
        pytest.fail(f"there is no guest {name}; see {GUEST_SOURCES}")

    return find


# Homes


@pytest.fixture
def home() -> Iterator[dict[str, str]]:
    """The environment of a program that has a home of its own; for `subprocess.run(…, env=home)`."""
    with private_home(os.geteuid()) as environment:
        yield environment


class User(NamedTuple):
    """Somebody without privileges, with a home."""

    uid: int
    environment: dict[str, str]

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user and capture its text; `options` are those of subprocess.run."""
        return subprocess.run(command, **self.popen_options() | {"capture_output": True, "text": True} | options)

    def popen_options(self) -> dict[str, Any]:
        """What makes subprocess.Popen start a program as this user, in its home."""
        options = {"env": self.environment, "cwd": self.environment["HOME"]}
        if os.geteuid() == self.uid:
            return options
        return options | {"user": self.uid, "group": self.uid, "extra_groups": []}


@pytest.fixture
def ordinary_user() -> Iterator[User]:
    """An ordinary user: another one where the tests run as root, else the one who runs them."""
    uid = os.geteuid() or ORDINARY_UID
    with private_home(uid) as environment:
        user = User(uid, environment)
        try:
            user.run([sys.executable, "-c", "import wasm_shim"], check=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"user {uid} cannot run {sys.executable} with what is installed there")
        yield user


@contextmanager
def private_home(uid: int) -> Iterator[dict[str, str]]:
    """A directory of this user's with XDG directories in it; short, for the paths of sockets."""
    base = tempfile.gettempdir()
    home = Path(tempfile.mkdtemp(prefix="wasm-", dir=base if len(base) <= 30 else "/tmp"))
    environment = _environment(home)
    for directory in (home, *(home / name for name in ("cache", "data", "run", "state", "tmp"))):
        directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, uid, uid if uid != os.geteuid() else -1)
    try:
        yield environment
    finally:
        stop_processes(environment)
        shutil.rmtree(home)


def _environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
    }


def stop_processes(environment: dict[str, str]) -> None:
    """Stop the zygote and what it started in the home of this environment, before the home is removed."""
    for pid in zygote_pids(environment):
        family = [pid, *descendants(pid)]
        waiting = []
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                waiting.append(os.pidfd_open(member))
        for member in waiting:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(member, signal.SIGKILL)
        for member in waiting:
            select.select([member], [], [])
            os.close(member)


def zygote_pids(environment: dict[str, str]) -> list[int]:
    """The zygotes that serve the home of this environment, and orphans of one that was killed."""
    sockets = f"{environment['XDG_RUNTIME_DIR']}/wasm-shim/zygote-"
    parents = _parents()
    family = {pid for pid in parents if sockets.encode() in _read(f"/proc/{pid}/cmdline")}
    return [pid for pid in family if parents[pid] not in family]  # what it forked looks like it


def children(pid: int) -> list[int]:
    """The pids of a process's children, but for a pod shim's nursery, which it has from its beginning to its end."""
    return [child for child in _born_of(pid) if not _is_nursery(child)]


def nurseries(pid: int) -> list[int]:
    """The pids of a pod shim's nurseries: one, unless it was killed."""
    return [child for child in _born_of(pid) if _is_nursery(child)]


def _born_of(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def _is_nursery(pid: int) -> bool:
    return _read(f"/proc/{pid}/comm").strip() == NURSERY_NAME.encode()


def descendants(pid: int) -> list[int]:
    """The pids of a process's children, their children and so on."""
    parents = _parents()
    found = [child for child, parent in parents.items() if parent == pid]
    for child in found:
        found += [other for other, parent in parents.items() if parent == child]
    return found


def _parents() -> dict[int, int]:
    """Every process's parent."""
    stats = {pid: _read(f"/proc/{pid}/stat") for pid in _pids()}
    return {pid: int(stat.rpartition(b")")[2].split()[1]) for pid, stat in stats.items() if stat}


def _pids() -> list[int]:
    return [int(name) for path in Path("/proc").iterdir() if (name := path.name).isdigit()]


def _read(path: str) -> bytes:
    """A file of a process, empty when the process has gone."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""

"""The command line's containers on disk: made, found, ended, and tidied up after the dead."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.errors import AlreadyExists, NotFound, PermissionDenied
from wasm_shim.paths import Paths
from wasm_shim.records import Record, all_records, create_record, find_record, record_of, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = b'{"process": {}}'


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Directories that do not exist yet."""
    return Paths(str(tmp_path / "state"), str(tmp_path / "cache"), str(tmp_path / "run"))


def made(paths: Paths, name: str = "", *, remove: bool = False) -> Record:
    """A container that ended in good order."""
    record, lock = create_record(paths, CONFIG, {"name": name} if name else {}, remove=remove)
    record.finish(remove=remove)
    os.close(lock)
    return record


def names_in(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


def tree(paths: Paths) -> list[str]:
    """All files below the directories of state and sockets."""
    files = [path for root in (paths.state, paths.runtime) for path in Path(root).rglob("*") if not path.is_dir()]
    return sorted(path.name for path in files) + [record.id for record in all_records(paths)]


MAKE = """
import os, sys
from wasm_shim.paths import Paths
from wasm_shim.records import create_record
state, runtime, name, remove = sys.argv[1:]
record, lock = create_record(Paths(state, "", runtime), b"{}", {"name": name}, remove=bool(remove))
if os.fork():
    sys.stdout.write(record.id + chr(10))
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)
os.close(1)
sys.stdin.read()
"""


@contextmanager
def owner(paths: Paths, name: str = "", *, remove: bool) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has made a container and forked, as the command line and the pod shim do; with the id."""
    words = [sys.executable, "-W", "ignore", "-c", MAKE, paths.state, paths.runtime, name, "1" if remove else ""]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process, process.stdout.readline().strip()
        process.stdin.close()  # both of them end


def test_a_container_has_a_bundle_a_name_and_a_lock(paths: Paths) -> None:
    """Everything about a new container is on disk, for us alone."""
    record, lock = create_record(paths, CONFIG, {"name": "web", "program": "/p"}, remove=True)
    assert len(record.id) == 64
    assert record.short_id == record.id[:12]
    assert Path(record.directory, "config.json").read_bytes() == CONFIG
    assert record.state() == {"name": "web", "program": "/p"}
    assert record.alive()
    assert find_record(paths, "web") == record
    assert record_of(record.socket, record.directory)[1:] == record[1:]
    assert record_of(record.socket, record.directory).directory == record.directory
    modes = {path.stat().st_mode & 0o077 for path in Path(paths.state).rglob("*") if path.is_dir()}
    assert modes == {0}
    os.close(lock)


@pytest.mark.parametrize("name", ["", "web"])
def test_finish_removes_all_and_is_idempotent(paths: Paths, name: str) -> None:
    """After an end with `remove` nothing is left, however often it is said."""
    record, lock = create_record(paths, CONFIG, {"name": name}, remove=True)
    Path(record.socket).touch()
    for _ in range(2):
        record.finish(remove=True)
    os.close(lock)
    assert tree(paths) == []
    assert not record.alive()
    assert record.state() == {}


def test_finish_may_keep_the_container(paths: Paths) -> None:
    """Without `remove` state and name stay, socket and lock do not."""
    record = made(paths, "web")
    assert not record.alive()
    assert names_in(paths.runtime) == []
    assert find_record(paths, "web") == record
    record.finish(remove=True)
    assert tree(paths) == []


def test_state_is_merged(paths: Paths) -> None:
    """What is written is added to what is there; when the container is gone, nothing happens."""
    record = made(paths)
    record.write_state(exit_status=3)
    record.write_state(exited_at=1.5, exit_status=4)
    assert record.state() == {"exit_status": 4, "exited_at": 1.5}
    record.finish(remove=True)
    record.write_state(exit_status=5)
    assert tree(paths) == []


@pytest.mark.parametrize("content", ["", "{", "\0"])
def test_damaged_state_is_empty(paths: Paths, content: str) -> None:
    """A state that cannot be read counts as none."""
    record = made(paths)
    Path(record.directory, "state.json").write_text(content)
    assert record.state() == {}
    record.write_state(exit_status=1)
    assert record.state() == {"exit_status": 1}


# Names


def test_rejects_a_name_in_use(paths: Paths) -> None:
    """A name belongs to one container; the second one leaves nothing behind, and learns whom to remove."""
    first = made(paths, "web")
    before = tree(paths)
    with pytest.raises(AlreadyExists, match=f"the name web is in use by container {first.short_id};.*wasm-shim rm web"):
        create_record(paths, CONFIG, {"name": "web"}, remove=False)
    assert tree(paths) == before


def test_stale_name_is_taken_over(paths: Paths) -> None:
    """A name whose container is gone can be taken, and the next one finds the new owner."""
    first = made(paths, "web")
    for path in Path(first.directory).iterdir():
        path.unlink()
    Path(first.directory).rmdir()
    second = made(paths, "web")
    assert find_record(paths, "web") == second
    first.finish(remove=True)
    assert find_record(paths, "web") == second


@pytest.mark.parametrize("stale", [False, True])
def test_one_of_many_gets_the_name(paths: Paths, stale: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Of many who want a name at once, also one that is left over, exactly one gets it."""
    made(paths)
    if stale:
        Path(paths.names, "web").write_text("0" * 64)

    def attempt(_: int) -> Record | None:
        try:
            record, lock = create_record(paths, CONFIG, {"name": "web"}, remove=False)
        except AlreadyExists:
            return None
        os.close(lock)
        return record

    with ThreadPoolExecutor(16) as pool:
        winners = [record for record in pool.map(attempt, range(48)) if record]
    assert len(winners) == 1
    assert find_record(paths, "web") == winners[0]


# Looking up


def test_find_by_prefix(paths: Paths) -> None:
    """An id is found by a beginning that only it has, a name before any id."""
    records = [made(paths) for _ in range(20)]
    for record in records:
        assert find_record(paths, record.id) == find_record(paths, record.short_id) == record
    first = sorted(records, key=lambda record: record.id)[0]
    named = made(paths, first.short_id)
    assert find_record(paths, first.short_id) == named


@pytest.mark.parametrize("wanted", ["", ".", "..", "none", "x" * 300, "../names/web", "ü", "web/", "names", "g"])
def test_rejects_what_is_not_there(paths: Paths, wanted: str) -> None:
    """What names no container is NotFound, whatever its letters."""
    made(paths, "web")
    with pytest.raises(NotFound, match=r"no container .*; wasm-shim ps -a lists them"):
        find_record(paths, wanted)


@given(wanted=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
def test_any_word_finds_one_or_nothing(tmp_path_factory: pytest.TempPathFactory, wanted: str) -> None:
    """Looking up never fails in another way, also where no container was ever made."""
    base = tmp_path_factory.getbasetemp() / "none"
    with pytest.raises(NotFound):
        find_record(Paths(str(base), str(base), str(base)), wanted)


def test_rejects_an_ambiguous_prefix(paths: Paths) -> None:
    """A beginning that several ids share is refused as such."""
    records = [made(paths) for _ in range(17)]  # two of them begin with the same digit
    digits = [record.id[0] for record in records]
    digit = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(NotFound, match="more than one container begins with"):
        find_record(paths, digit)


# The living and the dead


@pytest.mark.parametrize("remove", [True, False])
def test_lock_lives_as_long_as_one_of_its_owners(paths: Paths, remove: bool) -> None:  # noqa: FBT001 - a parameter
    """A container is alive until both processes that hold its lock are gone; then the next one tidies up."""
    with owner(paths, "web", remove=remove) as (process, id_):
        record = Record(paths, id_)
        process.kill()
        process.wait()
        sweep(paths)
        assert record.alive()
        assert find_record(paths, "web") == record
        assert process.stdin is not None
        process.stdin.close()
        lock = os.open(record.lock, os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)  # until nobody else holds it
        os.close(lock)
    assert not record.alive()
    sweep(paths)
    assert names_in(paths.runtime) == []
    assert Path(record.directory).is_dir() is not remove
    assert names_in(paths.names) == ([] if remove else ["web"])


def test_create_sweeps(paths: Paths) -> None:
    """Making a container removes what dead ones left, and no living one."""
    with owner(paths, "alive", remove=True) as (_, alive):
        dead, lock = create_record(paths, CONFIG, {"name": "dead"}, remove=True)
        Path(dead.socket).touch()
        os.close(lock)
        new = made(paths)
        assert {record.id for record in all_records(paths)} == {alive, new.id}
        assert not Path(dead.socket).exists()


@pytest.mark.parametrize("content", [b"", b"x", b"0" * 64 + b" remove", b"0" * 64 + b" keep"])
def test_sweep_takes_odd_locks(paths: Paths, content: bytes) -> None:
    """A lock without a container, or with odd content, does not stop the sweep, nor do other files."""
    made(paths)
    Path(paths.runtime, "0" * 12 + ".lock").write_bytes(content)
    Path(paths.runtime, "zygote-1.sock.lock").touch()
    sweep(paths)
    assert "zygote-1.sock.lock" in names_in(paths.runtime)


# What fails


def test_failed_creation_leaves_nothing(paths: Paths) -> None:
    """A name that the file system refuses fails the creation, and no file, lock or directory is left."""
    made(paths, remove=True)
    before = names_in("/proc/self/fd")
    with pytest.raises(PermissionDenied, match="cannot use the state directory"):
        made(paths, "x" * 300)
    assert tree(paths) == []
    assert len(names_in("/proc/self/fd")) == len(before)


def test_rejects_a_state_directory_that_is_none(paths: Paths) -> None:
    """A file where a directory belongs is refused with the variable that helps."""
    Path(paths.state).parent.mkdir(exist_ok=True)
    Path(paths.state).touch()
    with pytest.raises(PermissionDenied, match=r"cannot use the state directory .*; set XDG_STATE_HOME"):
        made(paths)


def test_rejects_a_runtime_directory_open_to_others(paths: Paths) -> None:
    """Sockets are made where nobody else can write."""
    Path(paths.runtime).mkdir()
    Path(paths.runtime).chmod(0o755)
    with pytest.raises(PermissionDenied, match=r"cannot trust the runtime directory .*; set XDG_RUNTIME_DIR"):
        made(paths)
    assert not Path(paths.state).exists()

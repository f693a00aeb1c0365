"""kill -9 of a process that writes into a layout, before each of its steps: nothing wrong stays, the next try ends it.

A forked child counts what Python's audit hook tells of it (each system call that changes a directory, each lock) and
each chunk that it takes in, and kills itself at the given one.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.layout import Layout
from oci.memory import MemoryStore
from tests.contracts.stores import put_artifact, put_index

PIECE: Final = 100 << 10
CHUNK_TAKEN: Final = "test.chunk"
STEPS: Final = ("fcntl.flock", "open", "os.", "shutil.", CHUNK_TAKEN)
LAYERS: Final = (bytes(350_000), b"small")


class SlowStore(MemoryStore):
    """Hands content out in many pieces, each of them a step."""

    def read(self, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        data = b"".join(super().read(descriptor, offset))
        for at in range(0, len(data), PIECE):
            sys.audit(CHUNK_TAKEN)
            yield data[at : at + PIECE]


def source() -> SlowStore:
    """An index of two artifacts."""
    store = SlowStore()
    put_index(store, put_artifact(store, *LAYERS), put_artifact(store, b"other"), name="index")
    return store


def is_killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Whether a child that does the work comes so far: it is killed before this step, counted from 1."""
    child = os.fork()
    if child == 0:
        _work_until(step, work)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _work_until(step: int, work: Callable[[], Any]) -> None:
    left = step

    def count(event: str, _arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event.startswith(STEPS):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.addaudithook(count)
        work()
        code = 0
    finally:
        os._exit(code)


def crashes(before: Path, tmp_path: Path, work: Callable[[Path], Any]) -> Iterator[Path]:
    """Directories, copies of one, in which a worker was killed: one for each of its steps."""
    for step in range(1, 10_000):
        directory = tmp_path / f"step-{step}"
        if before.exists():
            shutil.copytree(before, directory)
        if not is_killed_at(step, lambda directory=directory: work(directory)):  # type: ignore[misc]
            assert step > 5
            return
        yield directory
        shutil.rmtree(directory, ignore_errors=True)
    pytest.fail("it never ends")


def assert_sound(layout: Layout) -> None:
    """Every blob has its right digest, and every name leads to a whole artifact."""
    for path in (layout.path / "blobs").glob("*/*"):
        assert Digest.of(path.read_bytes()).hex == path.name
    for name, _ in layout.tags():
        copy(layout, name, MemoryStore(), None)


def leftovers(layout: Layout) -> list[str]:
    """Temporary files."""
    return [path.name for path in (layout.path / ".partial").iterdir()]


def taken(store: Layout) -> int:
    """How many blobs there are."""
    return len(list((store.path / "blobs").glob("*/*")))


def test_making_a_layout(tmp_path: Path) -> None:
    for directory in crashes(tmp_path / "absent", tmp_path, Layout.create):
        layout = Layout.create(directory)
        assert_sound(layout)
        layout.collect()
        assert leftovers(layout) == []


def test_copying_and_then_copying_again_or_collecting(tmp_path: Path) -> None:
    store = source()
    empty = Layout.create(tmp_path / "empty").path
    for directory in crashes(empty, tmp_path, lambda path: copy(store, "index", Layout(path), "name", parallel=1)):
        shutil.copytree(directory, tmp_path / "other")
        layout, other = Layout(directory), Layout(tmp_path / "other")
        assert_sound(layout)
        copy(source(), "index", layout, "name")
        assert_sound(layout)
        assert set(leftovers(layout)) <= {"index.json"}  # the draft of a name, which the next name overwrites
        assert layout.collect() == []
        assert leftovers(layout) == []
        assert taken(layout) == len(store.blobs())
        named = bool(other.tags())
        other.collect()
        assert leftovers(other) == []
        assert taken(other) == (len(store.blobs()) if named else 0)
        shutil.rmtree(other.path)


def test_forgetting_and_collecting(tmp_path: Path) -> None:
    full = Layout.create(tmp_path / "full")
    put_artifact(full, *LAYERS, name="gone")
    kept = put_artifact(full, b"kept", name="kept")

    def forget(path: Path) -> None:
        layout = Layout(path)
        layout.untag("gone")
        layout.collect()

    for directory in crashes(full.path, tmp_path, forget):
        layout = Layout(directory)
        assert_sound(layout)
        assert [name for name, _ in layout.tags()] in (["gone", "kept"], ["kept"])
        if len(layout.tags()) > 1:
            layout.untag("gone")
        layout.collect()
        assert taken(layout) == len(kept.children) + 1
        assert leftovers(layout) == []

"""Several processes on one layout: writers that wait for each other or die, collecting, disks that refuse."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oci.content import Content
from oci.copy import copy
from oci.descriptor import Descriptor
from oci.errors import NotFound, OciError, StorageError
from oci.layout import Layout
from oci.media_types import WASM_LAYER
from oci.memory import MemoryStore
from tests.conftest import ORDINARY_UID
from tests.contracts.stores import CONFIG, LONG, contents, put, put_artifact

BLOB = Descriptor.of(WASM_LAYER, LONG)

WRITER = """
import sys
from pathlib import Path
from oci.content import Content
from oci.descriptor import Descriptor
from oci.layout import Layout

layout, relied, data = Layout(sys.argv[1]), bytes.fromhex(sys.argv[2]), Path(sys.argv[3]).read_bytes()

def say(what):
    print(what, flush=True)

def rest(offset):
    say(f"from {offset}")
    for size in sys.stdin:
        yield data[offset : offset + int(size)]
        offset += int(size)
        say("taken")

with layout.writing():
    assert layout.has(Descriptor.of("application/wasm", relied))
    layout.write(Descriptor.of("application/wasm", b"first"), [b"first"])
    say("waits")
    layout.write(Descriptor.of("application/wasm", data), Content(rest))
    say("wrote")
    sys.stdin.readline()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A layout with one blob that nothing leads to."""
    layout = Layout.create(tmp_path / "layout")
    put(layout, b"relied on")
    return layout


class Writer:
    """A process that writes three blobs, the last one as it is told to, and then waits."""

    def __init__(self, layout: Layout) -> None:
        data = layout.path.parent / "data"
        data.write_bytes(LONG)
        words = [sys.executable, "-c", WRITER, str(layout.path), b"relied on".hex(), str(data)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.hear("waits")

    def hear(self, what: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == what

    def take(self, size: int) -> None:
        """Let it take so many bytes in."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.hear("taken")

    def end(self) -> None:
        """Let it go on to its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(30) == -signal.SIGKILL


@contextmanager
def writer(layout: Layout) -> Iterator[Writer]:
    """A writer that has written its first blob."""
    made = Writer(layout)
    with made.process:
        yield made
        if made.process.poll() is None:
            made.end()


def partials(layout: Layout) -> list[str]:
    """Temporary files, without those by which writers are known."""
    names = (path.name for path in (layout.path / ".partial").iterdir())
    return [name for name in names if not name.startswith("writer-")]


def test_collecting_spares_what_a_writer_at_work_relies_on(layout: Layout) -> None:
    older = put(layout, b"older, and asked for by nobody")
    with writer(layout) as one:
        one.hear("from 0")
        one.take(1000)
        assert [gone.digest for gone in layout.collect()] == [older.digest]
        assert partials(layout) == [str(BLOB.digest)]
        one.take(len(LONG) - 1000)
        one.process.stdin.close()  # type: ignore[union-attr]
        one.hear("wrote")
        assert one.process.wait(30) == 0
    assert len(layout.collect()) == 3
    assert partials(layout) == []


def test_a_killed_writer_s_beginning_is_taken_up(layout: Layout) -> None:
    with writer(layout) as one:
        one.hear("from 0")
        one.take(1000)
        one.kill()
    with writer(layout) as two:
        two.hear("from 1000")
        two.take(len(LONG) - 1000)
    assert contents(layout, BLOB) == LONG
    assert partials(layout) == []
    layout.collect()
    assert list((layout.path / ".partial").iterdir()) == []


def test_what_killed_writers_leave_is_collected(layout: Layout) -> None:
    with writer(layout) as one:
        one.hear("from 0")
        one.take(1000)
        one.kill()
    assert len(layout.collect()) == 2
    assert list((layout.path / ".partial").iterdir()) == []


@pytest.mark.parametrize("killed", [False, True])
def test_the_second_writer_of_a_blob_waits_for_the_first(layout: Layout, *, killed: bool) -> None:
    with writer(layout) as one:
        one.hear("from 0")
        with writer(layout) as two:
            one.take(1000)
            if killed:
                one.kill()
                two.hear("from 1000")
                two.take(len(LONG) - 1000)
            else:
                one.take(len(LONG) - 1000)
                one.end()
            two.process.stdin.close()  # type: ignore[union-attr]
            two.hear("wrote")
    assert contents(layout, BLOB) == LONG
    assert partials(layout) == []


def test_removing_does_not_disturb_who_reads(layout: Layout) -> None:
    """`rmi` while the program is loaded."""
    manifest = put_artifact(layout, LONG, name="a")
    chunks = layout.read(manifest.layers[0])
    first = next(chunks)
    layout.untag("a")
    assert manifest.layers[0].digest in {gone.digest for gone in layout.collect()}
    assert first + b"".join(chunks) == LONG
    with pytest.raises(NotFound):
        contents(layout, manifest.layers[0])


def in_children(*works: Callable[[], Any], uid: int = 0) -> list[str]:
    """Do each work in a process of its own, all at once, as another user if told so; what went wrong."""
    children = []
    for work in works:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _work(work, writing, uid)
        os.close(writing)
        children.append((child, reading))
    failures = []
    for child, reading in children:
        with os.fdopen(reading) as pipe:
            failures.append(pipe.read())
        os.waitpid(child, 0)
    return failures


def _work(work: Callable[[], Any], pipe: int, uid: int) -> None:
    said = "it ended otherwise"
    try:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        work()
        said = ""
    except OciError as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        os.write(pipe, said.encode())
        os._exit(0)


def test_many_processes_copy_read_forget_and_collect(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    store = MemoryStore()
    for number in range(3):
        put_artifact(store, b"shared" * 10_000, f"own {number}".encode() * 1000, name=str(number))

    def churn(number: int) -> None:
        for _ in range(15):
            copy(store, str(number), layout, f"name {number}", parallel=1)
            copy(layout, f"name {number}", MemoryStore(), None, parallel=1)
            layout.untag(f"name {number}")
            layout.collect()

    assert in_children(*(lambda number=number: churn(number) for number in range(3))) == [""] * 3
    layout.collect()
    assert list((layout.path / "blobs").glob("*/*")) == list((layout.path / ".partial").iterdir()) == []


# Disks that refuse


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that other users can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.root
def test_another_s_layout_can_be_read_and_not_written(shared: Path) -> None:
    layout = Layout.create(shared / "layout")
    manifest = put_artifact(layout, b"program", name="a")

    def read() -> None:
        other = Layout(layout.path)
        assert other.resolve("a").digest == manifest.descriptor.digest
        assert other.has(manifest.layers[0])
        copy(other, "a", MemoryStore(), None, parallel=1)

    assert in_children(read, uid=ORDINARY_UID) == [""]
    for refused in (
        lambda: copy(layout, "a", Layout(layout.path), "b"),
        lambda: Layout(layout.path).write(BLOB, [LONG]),
        lambda: Layout(layout.path).tag("b", manifest.descriptor),
        lambda: Layout(layout.path).untag("a"),
        lambda: Layout(layout.path).collect(),
        lambda: Layout.create(shared / "new"),
    ):
        (said,) = in_children(refused, uid=ORDINARY_UID)
        assert said.startswith("StorageError: ")
        assert "Permission denied; become its owner, or choose another place" in said
    assert [name for name, _ in layout.tags()] == ["a"]


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[None]:
    """A small file system of its own."""
    directory.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"nothing can be mounted here: {mounting.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.root
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=512k"):
        layout = Layout.create(tmp_path / "small" / "layout")
        kept = put_artifact(layout, b"small", name="kept")
        store = MemoryStore()
        put_artifact(store, b"fits", LONG, name="large")
        with pytest.raises(StorageError, match="No space left on device; free some space and try again"):
            copy(store, "large", layout, "large")
        with pytest.raises(StorageError):
            layout.write(BLOB, Content(lambda offset: iter([LONG[offset:]])))
        assert list((layout.path / ".partial").iterdir()) == []
        assert [name for name, _ in layout.tags()] == ["kept"]
        assert [gone.size for gone in layout.collect()] == [len(b"fits")]
        copy(layout, "kept", MemoryStore(), None)
        filler = bytes(600_000)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "small" / "filler").write_bytes(filler)
        with pytest.raises(StorageError):
            layout.tag("a" * 1000, kept.descriptor)
        (tmp_path / "small" / "filler").unlink()
        assert [name for name, _ in layout.tags()] == ["kept"]
        layout.tag("more", kept.descriptor)


@pytest.mark.root
def test_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=4m"):
        layout = Layout.create(tmp_path / "disk" / "layout")
        manifest = put_artifact(layout, b"program", name="a")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        copy(layout, "a", MemoryStore(), None)
        assert layout.has(manifest.layers[0])
        assert not layout.has(Descriptor.of(CONFIG, b"absent"))
        with pytest.raises(StorageError, match="Read-only file system; choose another place"):
            put(layout, b"new")

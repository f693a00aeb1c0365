"""Several processes on one layout: writers that wait for each other or die, and collecting meanwhile."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.errors import NotFound
from oci.layout import Layout
from oci.media_types import WASM_LAYER
from oci.memory import MemoryStore
from tests.contracts.stores import LONG, contents, put, put_artifact
from tests.unit.oci.children import in_children

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

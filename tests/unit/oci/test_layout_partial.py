"""Beginnings of blobs in a layout: kept, taken up by the next writer, and removed when nobody wants them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci.content import Content
from oci.descriptor import Descriptor
from oci.errors import Unavailable
from oci.layout import Layout
from oci.media_types import WASM_LAYER
from tests.contracts.stores import ABSENT, LONG, breaking, contents

BLOB = Descriptor.of(WASM_LAYER, LONG)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty layout."""
    return Layout.create(tmp_path / "layout")


def partials(layout: Layout) -> list[str]:
    """What lies there unfinished."""
    return sorted(path.name for path in (layout.path / ".partial").iterdir())


def test_a_beginning_is_kept_and_read_on_from(layout: Layout) -> None:
    with pytest.raises(Unavailable):
        layout.write(BLOB, Content(lambda offset: breaking(LONG, 1000)))
    assert partials(layout) == [str(BLOB.digest)]
    offsets = []

    def rest(offset: int) -> Any:
        offsets.append(offset)
        return iter([LONG[offset:]])

    layout.write(BLOB, Content(rest))
    assert offsets == [1000]
    assert partials(layout) == []
    assert contents(layout, BLOB) == LONG


@pytest.mark.parametrize(
    ("beginning", "offsets"),
    [
        (b"", [0]),
        (LONG[:10], [10]),
        (b"x" * 10, [10, 0]),  # damaged: noticed at the end
        (LONG, []),  # killed before it was renamed
        (b"x" * len(LONG), [0]),
        (LONG + b"x", [0]),
    ],
    ids=["empty", "right", "damaged", "whole", "whole, damaged", "too long"],
)
def test_any_beginning_is_taken_up(layout: Layout, beginning: bytes, offsets: list[int]) -> None:
    (layout.path / ".partial" / str(BLOB.digest)).write_bytes(beginning)
    asked = []

    def rest(offset: int) -> Any:
        asked.append(offset)
        return iter([LONG[offset:]])

    layout.write(BLOB, Content(rest))
    assert asked == offsets
    assert partials(layout) == []
    assert contents(layout, BLOB) == LONG


def test_without_the_means_to_read_on_a_beginning_is_not_kept(layout: Layout) -> None:
    (layout.path / ".partial" / str(BLOB.digest)).write_bytes(LONG[:10])
    with pytest.raises(Unavailable):
        layout.write(BLOB, breaking(LONG, 1000))
    assert partials(layout) == []


def test_collecting_removes_beginnings(layout: Layout) -> None:
    (layout.path / ".partial" / str(ABSENT.digest)).write_bytes(b"nobody")
    (layout.path / ".partial" / "index.json").write_bytes(b"{}")
    (layout.path / ".partial" / "writer-dead").write_bytes(b"")
    assert layout.collect() == []
    assert partials(layout) == []


def test_an_old_beginning_makes_no_old_blob(layout: Layout) -> None:
    """A writer at work has just completed it."""
    partial = layout.path / ".partial" / str(BLOB.digest)
    partial.write_bytes(LONG)
    os.utime(partial, (0, 0))
    with layout.writing():
        layout.write(BLOB, Content(lambda offset: iter([LONG[offset:]])))
        assert layout.collect() == []
    assert len(layout.collect()) == 1


def test_collecting_spares_the_partial_file_of_a_writer_at_work(layout: Layout) -> None:
    def chunks() -> Iterator[bytes]:
        yield LONG[:1000]
        assert layout.collect() == []
        yield LONG[1000:]

    layout.write(BLOB, chunks())
    assert contents(layout, BLOB) == LONG

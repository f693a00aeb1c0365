"""The shim's log: lines as containerd's own, and nothing about it can ever matter to the shim."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DESCRIPTORS = Path("/proc/self/fd")
LINE = re.compile(
    rb'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=(\w+) msg="((?:[^"\\]|\\.)*)" id=one namespace=k8s\.io\n'
)


class Fifo:
    """A FIFO with a log on it, and what has been written."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.log = Log(str(path), id="one", namespace="k8s.io")

    def written(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.log.close()
        os.close(self.reader)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    made = Fifo(tmp_path / "log")
    yield made
    made.close()


def test_lines(fifo: Fifo) -> None:
    """Each level has its word, and every line the time, the text and the fields."""
    fifo.log.info("one")
    fifo.log.warning("two")
    fifo.log.error("three")
    assert LINE.findall(fifo.written()) == [(b"info", b"one"), (b"warning", b"two"), (b"error", b"three")]


def test_fields_are_quoted_where_needed(tmp_path: Path) -> None:
    """A field with a blank, a quote or nothing in it stays one field."""
    os.mkfifo(tmp_path / "log")
    log = Log(str(tmp_path / "log"), a="x y", b='"', c="", d="plain-1/2")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log.info("text")
    line = os.read(reader, 4096).decode()
    os.close(reader)
    log.close()
    assert line.endswith(' msg="text" a="x y" b="\\"" c="" d=plain-1/2\n')


def test_escapes(fifo: Fifo) -> None:
    """Quotes, backslashes, line ends and control characters cannot forge a line."""
    fifo.log.info('a"b\\c\nd\re\tf\x1b[31m\u2028é\udcff')
    (found,) = LINE.findall(fifo.written())
    assert found[1].decode() == 'a\\"b\\\\c\\nd\\re\\tf\\x1b[31m\\u2028é\\udcff'


@given(text=st.text(), many=st.sampled_from([1, 500, 5000]))
def test_any_text_is_one_line(tmp_path_factory: pytest.TempPathFactory, text: str, many: int) -> None:
    """Text of any kind and length is one line that is written whole."""
    fifo = Fifo(tmp_path_factory.mktemp("log") / "log")
    fifo.log.error(text * many)
    line = fifo.written()
    fifo.close()
    assert len(line) <= 4096
    assert LINE.fullmatch(line), line
    assert len(shlex.split(line.decode())) == 5


def test_long_text_is_cut(fifo: Fifo) -> None:
    """A line that would not be written at once is cut, and says so."""
    fifo.log.info("é" * 5000)
    line = fifo.written()
    assert 4090 < len(line) <= 4096
    assert b'\xc3\xa9..." id=one' in line


def test_drops_when_full(fifo: Fifo) -> None:
    """While nobody reads, lines are kept until the FIFO is full and then dropped, whole; later ones are written."""
    for number in range(2000):
        fifo.log.info(f"{number} {'x' * 100}")
    kept = fifo.written()
    assert len(LINE.sub(b"", kept)) == 0
    assert 100 < len(LINE.findall(kept)) < 2000
    fifo.log.info("after")
    assert LINE.findall(fifo.written()) == [(b"info", b"after")]


def test_reader_may_come_and_go(fifo: Fifo, tmp_path: Path) -> None:
    """containerd's restart loses nothing that fits, and breaks nothing."""
    os.close(fifo.reader)
    fifo.log.info("alone")
    fifo.reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    assert LINE.findall(fifo.written()) == [(b"info", b"alone")]


def _nothing(_path: Path) -> None:
    """Leave it absent."""


@pytest.mark.parametrize(
    "make",
    [_nothing, lambda path: path.mkdir(), lambda path: path.write_bytes(b"old"), lambda path: path.symlink_to(path)],
)
def test_damaged_fifo_does_not_matter(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Where there is no FIFO there is no log; a file in its place is left alone."""
    path = tmp_path / "log"
    make(path)
    before = len(list(DESCRIPTORS.iterdir()))
    for place in (str(path), str(path / "deeper"), "nul\0", ""):
        log = Log(place, id="one")
        log.info("text")
        log.close()
        log.error("after the end")
    assert not path.is_file() or path.read_bytes() == b"old"
    assert len(list(DESCRIPTORS.iterdir())) == before

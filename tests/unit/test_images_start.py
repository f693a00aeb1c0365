"""How an image starts, and when what is remembered of it still counts."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.images.start import Start, forget, images_cache, index_of, is_path, recall, remember, stamp

NAME = "localhost:5000/a/b:1"
WORDS = st.lists(st.text(max_size=3), max_size=3).map(tuple)


class Place(NamedTuple):
    """A cache and a store, which only needs an index and a program here."""

    cache: str
    store: str

    @property
    def start(self) -> Start:
        """What is remembered."""
        return Start(f"{self.store}/program", "/app.wasm", ("/app.wasm",), ("x",), ("A=ü",), "/", "sha256:00")

    @property
    def record(self) -> Path:
        """The one file in the cache."""
        (path,) = Path(images_cache(self.cache)).iterdir()
        return path

    def remember(self, name: str = NAME) -> None:
        """Remember the start under a name."""
        files = [stamp(index_of(self.store)), stamp(self.start.program)]
        remember(self.cache, name, self.start, files)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A new one."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "index.json").write_text("{}")
    (store / "program").write_text("program")
    return Place(str(tmp_path / "cache"), str(store))


def test_what_was_remembered_is_recalled(place: Place) -> None:
    place.remember()
    assert recall(place.cache, place.store, NAME) == place.start
    assert place.record.stat().st_mode & 0o777 == 0o600


def test_nothing_is_known_before(place: Place) -> None:
    assert recall(place.cache, place.store, NAME) is None


def _replace(path: str) -> None:
    Path(f"{path}.new").write_text(Path(path).read_text())
    Path(f"{path}.new").replace(path)


CHANGES: dict[str, Callable[[Place], object]] = {
    "another index": lambda place: _replace(index_of(place.store)),
    "another program": lambda place: _replace(place.start.program),
    "a touched program": lambda place: os.utime(place.start.program, ns=(1, 1)),
    "no program": lambda place: Path(place.start.program).unlink(),
    "no store": lambda place: Path(index_of(place.store)).unlink(),
    "an empty record": lambda place: place.record.write_text(""),
    "half a record": lambda place: place.record.write_text(place.record.read_text()[:-9]),
    "a list": lambda place: place.record.write_text("[]"),
    "other fields": lambda place: place.record.write_text(json.dumps({"name": NAME, "files": [], "start": [1]})),
    "an open record": lambda place: place.record.chmod(0o644),
    "a link": lambda place: place.record.symlink_to(place.record.rename(f"{place.cache}/there")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_makes_it_count_no_more(place: Place, change: Callable[[Place], object]) -> None:
    place.remember()
    change(place)
    assert recall(place.cache, place.store, NAME) is None


def test_names_are_told_apart(place: Place) -> None:
    """Also those whose files would have the same name."""
    place.remember()
    assert recall(place.cache, place.store, NAME.replace("/", "%")) is None
    long = "a" * 300
    place.remember(long)
    assert recall(place.cache, place.store, long) == place.start
    assert recall(place.cache, place.store, f"{long}b") is None


def test_a_cache_that_cannot_be_written_is_no_error(place: Place) -> None:
    Path(place.cache).write_text("no directory")
    place.remember()
    assert recall(place.cache, place.store, NAME) is None


def test_forgetting_spares_programs_of_other_images(place: Place) -> None:
    place.remember()
    for name in ("00", "11"):
        Path(images_cache(place.cache), f"{name}.wasm").touch()
    forget(place.cache, ["00"])
    assert place.record.name == "11.wasm"
    forget(f"{place.cache}/none", ["00"])


@given(WORDS, WORDS, WORDS)
def test_arguments_are_dockers(entrypoint: tuple[str, ...], cmd: tuple[str, ...], words: tuple[str, ...]) -> None:
    start = Start("/p", "/p", entrypoint, cmd)
    assert start.arguments("", ()) == entrypoint + cmd
    assert start.arguments("", words) == entrypoint + (words or cmd)
    assert start.arguments("/other", words) == ("/other", *words)


@pytest.mark.parametrize("text", ["a.wasm", "x/a.wat", "./a", "../a", "/a", "localhost:5000/a.wasm"])
def test_is_a_path(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize("text", ["a", "a:1", "x/a", "localhost:5000/a:1", "a.wasm:1", "", "a\0/b"])
def test_is_no_path(text: str) -> None:
    assert not is_path(text)


def test_a_path_to_what_is_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").touch()
    (tmp_path / "b").touch()
    monkeypatch.chdir(tmp_path)
    assert is_path("x/a")
    assert not is_path("b"), "one word names an image, as with docker run"

"""Mount options in the words of mount(8): flags, data, and what is not taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wasm_shim.container.rootfs import _check_data, _shortened, parse_options
from wasm_shim.errors import InvalidArgument
from wasm_shim.kernel import calls


@pytest.mark.parametrize(
    ("options", "flags", "data"),
    [
        ("", 0, ""),
        ("ro", calls.MS_RDONLY, ""),
        ("ro rw", 0, ""),
        ("rw ro", calls.MS_RDONLY, ""),
        ("nosuid nodev noexec", calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC, ""),
        ("nosuid nodev suid dev exec", 0, ""),
        ("bind", calls.MS_BIND, ""),
        ("rbind rprivate rw", calls.MS_BIND | calls.MS_REC, ""),
        ("defaults rslave relatime", 0x200000, ""),
        ("size=64k ro mode=700", calls.MS_RDONLY, "size=64k,mode=700"),
        ("index=off userxattr lowerdir=/a:/b", 0, "index=off,userxattr,lowerdir=/a:/b"),
    ],
)
def test_options(options: str, flags: int, data: str) -> None:
    """Flags are added up, the later one of two wins, and what is not known goes to the file system in order."""
    assert parse_options(tuple(options.split())) == (flags, data)


@pytest.mark.parametrize("option", ["uidmap=0:1000:65536", "gidmap=0:1000:65536", "size=1\0k"])
def test_rejects_options(option: str) -> None:
    """Mapped ids and a NUL are refused by name."""
    with pytest.raises(InvalidArgument, match=r"mount option .*; use another snapshotter"):
        parse_options(("ro", option))


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Directories of layers; the test's own current directory comes back afterwards."""
    found = [tmp_path / "snapshots" / str(number) / "fs" for number in (12, 7, 103)]
    for path in found:
        path.mkdir(parents=True)
    return found


def test_layers_are_told_from_their_common_directory(layers: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep their order, the directory becomes the current one, and the other options stay."""
    monkeypatch.chdir("/")
    data = f"index=off,lowerdir={':'.join(map(str, layers))},upperdir=/up"
    assert _shortened(data) == "index=off,lowerdir=12/fs:7/fs:103/fs,upperdir=/up"
    assert Path.cwd() == layers[0].parents[1]
    assert [path.samefile(name) for path, name in zip(layers, ("12/fs", "7/fs", "103/fs"), strict=True)] == [True] * 3


def test_single_layer_and_none(layers: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer is its own beginning; options without layers stay as they are."""
    monkeypatch.chdir("/")
    assert _shortened(f"lowerdir={layers[0]}") == "lowerdir=."
    assert Path.cwd() == layers[0]
    assert _shortened("index=off") == "index=off"


def test_layers_without_anything_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the root is what they share, and they lose their first slash."""
    monkeypatch.chdir("/")
    assert _shortened(f"lowerdir=/usr:/etc{os.sep}") == "lowerdir=usr:etc"


def test_layers_with_relative_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no directory in common, and the kernel may say what is wrong with them."""
    monkeypatch.chdir("/")
    for data in ("lowerdir=/a:b", "lowerdir=", "lowerdir=a:b"):
        assert _shortened(data) == data


def test_data_is_counted_in_bytes() -> None:
    """The kernel takes a page and would leave out the rest."""
    _check_data("x" * 4095, "the mount /x", "leave some out")
    with pytest.raises(InvalidArgument, match="options of the mount /x have 4096 bytes; leave some out"):
        _check_data("ü" * 2048, "the mount /x", "leave some out")

"""The reader of tar archives: the formats that tools write, and what hostile ones get."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci.errors import InvalidContent, OciError, UnsupportedArtifact
from oci.tar import BLOCK, MAX_ENTRIES, Entry, entries, header, trailer
from tests.unit.oci.tars import archive, member


def in_pieces(data: bytes, size: int = 7) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        yield b""


def read(data: bytes, size: int = 7) -> list[tuple[str, str, str, bytes]]:
    return [(e.name, e.kind, e.link, b"".join(contents)) for e, contents in entries(in_pieces(data, size))]


def refusal(data: bytes) -> str:
    with pytest.raises(OciError) as caught:
        read(data, 1 << 16)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def patched(data: bytes, **fields: tuple[int, bytes]) -> bytes:
    """The archive with fields of its first header replaced (offset, bytes) and its checksum made right."""
    block = bytearray(data[:BLOCK])
    for offset, value in fields.values():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block) + data[BLOCK:]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_the_formats_that_tools_write(form: int) -> None:
    deep = "/".join(["directory"] * 12) + "/file"
    data = archive(
        member("plain", b"x" * 1000),
        member(deep, b"deep"),
        member("empty"),
        member("sub/", kind=tarfile.DIRTYPE),
        member("link", kind=tarfile.SYMTYPE, link="plain"),
        member("hard", kind=tarfile.LNKTYPE, link="plain"),
        member("pipe", kind=tarfile.FIFOTYPE),
        member("null", kind=tarfile.CHRTYPE),
        form=form,
    )
    assert read(data) == [
        ("plain", "file", "", b"x" * 1000),
        (deep, "file", "", b"deep"),
        ("empty", "file", "", b""),
        ("sub/", "directory", "", b""),
        ("link", "symlink", "plain", b""),
        ("hard", "hard link", "plain", b""),
        ("pipe", "FIFO", "", b""),
        ("null", "character device", "", b""),
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_long_names_and_targets(form: int) -> None:
    name, link = "n" * 200 + "é", "l" * 300
    data = archive(member(name, b"1"), member("s", kind=tarfile.SYMTYPE, link=link), member("after", b"2"), form=form)
    assert [(n, link) for n, _kind, link, _data in read(data)] == [(name, ""), ("s", link), ("after", "")]


def test_contents_not_read_are_passed_over() -> None:
    data = archive(member("a", b"1" * 700), member("b", b"2" * 700))
    names = []
    for entry, contents in entries(in_pieces(data, 100)):
        names.append(entry.name)
        next(contents)
    assert names == ["a", "b"]


def test_a_global_header_changes_no_name() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "wrong"}) as tar:
        tar.addfile(tarfile.TarInfo("right"))
    assert [name for name, *_ in read(out.getvalue())] == ["right"]


def test_reads_names_that_are_no_text() -> None:
    data = patched(archive(member("a"), form=tarfile.USTAR_FORMAT), name=(0, b"\xff\xfe"))
    assert read(data)[0][0] == "\udcff\udcfe"


def test_reads_binary_sizes() -> None:
    data = patched(
        archive(member("a", b"hello"), form=tarfile.USTAR_FORMAT), size=(124, b"\x80" + (5).to_bytes(11, "big"))
    )
    assert read(data) == [("a", "file", "", b"hello")]


def test_an_old_directory_is_a_name_with_a_slash() -> None:
    data = patched(archive(member("old/", b"")), type=(156, b"\0"))
    assert read(data)[0][:2] == ("old/", "directory")


def test_an_unknown_type_is_passed_over_with_its_contents() -> None:
    data = patched(archive(member("v", b"volume"), member("b", b"2")), type=(156, b"V"))
    assert [(n, k) for n, k, *_ in read(data)] == [("v", "an entry of type 'V'"), ("b", "file")]


def test_an_archive_may_end_without_its_end() -> None:
    data = archive(member("a", b"hello"))
    for length in (BLOCK + 5, 2 * BLOCK, 3 * BLOCK):
        assert read(data[:length]) == [("a", "file", "", b"hello")]
    assert read(b"") == []


def test_links_and_directories_have_no_contents_whatever_they_say() -> None:
    data = patched(archive(member("d", kind=tarfile.DIRTYPE), member("b", b"2")), size=(124, b"00000001000\0"))
    assert [name for name, *_ in read(data)] == ["d/", "b"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x" * 600, "no archive, or a damaged one; a header has a wrong checksum"),
        (b"x" * 100, "an archive that is cut off"),
        (archive(member("a", b"hello"))[: BLOCK + 4], "an archive that is cut off in 'a'"),
        (patched(archive(member("a")), size=(124, b"0000000009z\0")), "no proper size"),
        (patched(archive(member("a")), size=(124, b"\xff" * 12)), "no proper size"),
        (patched(archive(member("a")), size=(124, b"\x80" + b"\xff" * 11)), "no proper size"),
        (patched(archive(member("a")), type=(156, b"S")), "the sparse file 'a'"),
        (patched(archive(member("a")), type=(156, b"L"), size=(124, b"00010000000\0")), "extended headers of 2097152"),
        (patched(archive(member("a")), type=(156, b"x"), size=(124, b"00000001000\0"))[:600], "is cut off"),
        (patched(archive(member("a", b"garbage")), type=(156, b"x")), "an extended header cannot be read"),
        (patched(archive(member("a", b"9 path=x\n5 a=\n")), type=(156, b"x"))[:1024], ""),
        (archive(member("a" * 5000)), "a path of more than 4096 characters"),
        (archive(member("a", kind=tarfile.SYMTYPE, link="b" * 5000)), "a path of more than 4096 characters"),
    ],
)
def test_rejects_damage(data: bytes, expected: str) -> None:
    if expected:
        assert expected in refusal(data)
    else:
        assert read(data) == []


def with_records(**records: str) -> bytes:
    info, data = member("a", b"hello")
    info.pax_headers = records
    return archive((info, data))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({"size": "-1"}, "'-1' is no size"),
        ({"size": "9" * 30}, "is no size"),
        ({"size": "5.0"}, "is no size"),
        ({"GNU.sparse.major": "1"}, "the sparse file"),
    ],
)
def test_rejects_odd_extended_headers(records: dict[str, str], expected: str) -> None:
    assert expected in refusal(with_records(**records))


def test_rejects_many_extended_headers() -> None:
    one = archive(member("a", b"x" * (1 << 20)))[: BLOCK + (1 << 20)]
    data = patched(one, type=(156, b"L"))
    with pytest.raises(InvalidContent, match="it was made to do harm"):
        list(entries(data for _ in range(100)))


def test_rejects_more_entries_than_could_be_meant() -> None:
    block = archive(member("a"))[:BLOCK]
    with pytest.raises(InvalidContent, match=f"more than {MAX_ENTRIES} entries"):
        for _ in entries(block * 1000 for _ in range(MAX_ENTRIES)):
            pass


def test_writes_what_others_read() -> None:
    data = header("hello.wasm", 1000) + b"x" * 1000 + trailer(1000)
    assert len(data) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        info = tar.getmember("hello.wasm")
        file = tar.extractfile(info)
        assert file is not None
        assert file.read() == b"x" * 1000
    assert (info.mode, info.uid, info.gid, info.mtime, info.uname, info.gname) == (0o755, 0, 0, 0, "", "")
    assert read(data) == [("hello.wasm", "file", "", b"x" * 1000)]


def test_refuses_to_write_what_does_not_fit() -> None:
    header("é" * 50, (1 << 33) - 1)
    with pytest.raises(UnsupportedArtifact, match="more than 100 bytes"):
        header("é" * 51, 1)
    with pytest.raises(UnsupportedArtifact, match="more than a layer can say"):
        header("a", 1 << 33)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=130)
members = st.lists(st.tuples(names, st.binary(max_size=1100)), max_size=5)


@settings(max_examples=200)
@given(members, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.integers(1, 2000))
def test_reads_what_the_standard_library_writes(files: list[tuple[str, bytes]], form: int, size: int) -> None:
    data = archive(*(member(name, contents) for name, contents in files), form=form)
    assert [(name, contents) for name, _kind, _link, contents in read(data, size)] == files


@settings(max_examples=200)
@given(st.binary(max_size=2000) | st.tuples(st.integers(0, 3000), st.integers(0, 255)))
def test_damage_raises_nothing_but_our_errors(damage: bytes | tuple[int, int]) -> None:
    if isinstance(damage, bytes):
        data = damage
    else:
        whole = bytearray(SAMPLE)
        whole[damage[0] % len(whole)] = damage[1]
        data = bytes(whole)
    with suppress(OciError):
        assert all(isinstance(entry, Entry) for entry, _contents in entries(in_pieces(data, 500)))


SAMPLE = archive(member("n" * 200, b"1"), member("s", kind=tarfile.SYMTYPE, link="l" * 300), member("after", b"2"))

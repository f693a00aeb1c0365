"""Tar archives as a stream of entries, read with bounds and without touching the disk; and one entry written.

Read are the formats that image tools write: ustar, pax and GNU's long names. The standard library reads more, and
reads a name of eight gigabytes into memory when an archive says that it has one. Sources: POSIX, pax, "ustar
Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format"; image-spec, layer.md.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from oci.errors import InvalidContent, UnsupportedArtifact, shown

__all__ = ["BLOCK", "MAX_ENTRIES", "MAX_PATH", "Entry", "Kind", "Pieces", "entries", "header", "trailer"]

BLOCK: Final = 512
MAX_ENTRIES: Final = 200_000  # headers of one archive
MAX_PATH: Final = 4096  # bytes, as in Linux
_MAX_EXTENSION: Final = 1 << 20  # bytes of one extended header; the attributes of a file live there
_MAX_EXTENSIONS: Final = 64 << 20  # bytes of all of them
_MAX_NAME: Final = 100  # bytes that fit into a header
_MAX_SIZE: Final = (1 << 33) - 1  # bytes, as 11 octal digits say it

Kind = str  # "file", "directory", "symlink", "hard link" or what else it is, for a message

_KINDS: Final = {
    b"\0": "file", b"0": "file", b"7": "file", b"1": "hard link", b"2": "symlink", b"3": "character device",
    b"4": "block device", b"5": "directory", b"6": "FIFO",
}  # fmt: skip
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"


class Entry(NamedTuple):
    """One entry: its name and the target of a link as written, its size in bytes."""

    name: str
    kind: Kind
    link: str
    size: int


class Pieces:
    """Bytes that come in pieces, taken in the sizes that one needs."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = filter(None, chunks)
        self._rest = memoryview(b"")

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end only."""
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[bytes]:
        """The next bytes as they come."""
        while count and (self._rest or self._next()):
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield bytes(piece)

    def _next(self) -> bool:
        self._rest = memoryview(next(self._chunks, b""))
        return bool(self._rest)


def entries(chunks: Iterator[bytes]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """The entries of an archive with their contents, which are passed over where they are not read before the next.

    Raises InvalidContent for a damaged or cut archive, UnsupportedArtifact for sparse files, and what `chunks` raises.
    """
    stream = Pieces(chunks)
    extra: dict[str, str] = {}
    extended = 0
    for _ in range(MAX_ENTRIES):
        block = stream.take(BLOCK)
        if not block.strip(b"\0"):
            return
        kind, size = _checked(block)
        if kind in {_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL}:
            extended += size
            if size > _MAX_EXTENSION or extended > _MAX_EXTENSIONS:
                raise InvalidContent(f"an archive with extended headers of {extended} bytes; it was made to do harm")
            extra |= _extension(kind, _whole(stream, size))
            continue
        entry = _entry(block, kind, size, extra)
        extra = {}
        padded = _padded(entry.size)
        contents = _exactly(stream, padded, entry)
        yield entry, _first(contents, entry.size)
        for _piece in contents:
            pass
    raise InvalidContent(f"an archive of more than {MAX_ENTRIES} entries; it is not read")


def header(name: str, size: int) -> bytes:
    """The header of a file that all may read and run, owned by root, of 1970: the same bytes everywhere.

    Raises UnsupportedArtifact for a name or a size that does not fit.
    """
    encoded = name.encode()
    if len(encoded) > _MAX_NAME:
        raise UnsupportedArtifact(f"the name {shown(name)} has more than {_MAX_NAME} bytes; give a shorter one")
    if size > _MAX_SIZE:
        raise UnsupportedArtifact(f"{shown(name)} has {size} bytes, more than a layer can say; make it smaller")
    mode, owner, mtime, link = b"0000755\0", b"0000000\0" * 2, b"00000000000\0", bytes(100)
    before = encoded.ljust(_MAX_NAME, b"\0") + mode + owner + f"{size:011o}".encode() + b"\0" + mtime
    after = b"0" + link + b"ustar\x0000"
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return (before + f"{checksum:06o}".encode() + b"\0 " + after).ljust(BLOCK, b"\0")


def trailer(size: int) -> bytes:
    """What follows the contents of the last file, which has this size."""
    return bytes(_padded(size) - size + 2 * BLOCK)


def _checked(block: bytes) -> tuple[bytes, int]:
    """Type and size of a header whose checksum is right."""
    if len(block) < BLOCK:
        raise InvalidContent("an archive that is cut off; get it anew")
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) != total:
        raise InvalidContent("no archive, or a damaged one; a header has a wrong checksum")
    size = _number(block[124:136])
    if not 0 <= size < 1 << 63:
        raise InvalidContent("a damaged archive: a header has no proper size; get it anew")
    return block[156:157], size


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary numbers; -1 for what is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if set(digits) <= set(b"01234567"):
        return int(digits or b"0", 8)
    return -1


def _entry(block: bytes, kind: bytes, size: int, extra: dict[str, str]) -> Entry:
    name, link = _text(block[:100]), _text(block[157:257])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's own format keeps times there
        name = f"{_text(block[345:500])}/{name}"
    name, link = extra.get("path", name), extra.get("linkpath", link)
    if kind == _SPARSE or any(key.startswith("GNU.sparse.") for key in extra):
        raise UnsupportedArtifact(f"an archive with the sparse file {shown(name)}, which is not read; build it anew")
    if max(len(name), len(link)) > MAX_PATH:
        raise InvalidContent(f"an archive with a path of more than {MAX_PATH} characters; it was made to do harm")
    what = _KINDS.get(kind, f"an entry of type {shown(str(kind, 'latin-1'))}")
    if what == "file" and name.endswith("/"):  # as tar wrote it before it had a type for directories
        what = "directory"
    has_contents = what == "file" or kind not in _KINDS
    return Entry(name, what, link, _extended_size(extra, size) if has_contents else 0)


def _extended_size(extra: dict[str, str], size: int) -> int:
    value = extra.get("size", str(size))
    if not value.isascii() or not value.isdigit() or len(value) > 19:
        raise InvalidContent(f"a damaged archive: {shown(value)} is no size")
    return int(value)


def _extension(kind: bytes, data: bytes) -> dict[str, str]:
    """What an entry before an entry says about it; global ones say nothing that we use."""
    match kind:
        case b"L":
            return {"path": _text(data)}
        case b"K":
            return {"linkpath": _text(data)}
        case b"x":
            return dict(_records(data))
        case _:
            return {}


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """The records of a pax header: length, blank, keyword, =, value, newline."""
    at = 0
    while at < len(data):
        digits, blank, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        keyword, equals, value = record.partition(b"=")
        if not equals or record[-1:] != b"\n" or at + length > len(data):
            raise InvalidContent("a damaged archive: an extended header cannot be read")
        yield _text(keyword), _text(value[:-1])
        at += length


def _whole(stream: Pieces, size: int) -> bytes:
    """The contents of an extension, without its padding."""
    data = stream.take(_padded(size))
    if len(data) < size:
        raise InvalidContent("an archive that is cut off; get it anew")
    return data[:size]


def _exactly(stream: Pieces, count: int, entry: Entry) -> Iterator[bytes]:
    """So many bytes, or InvalidContent; the padding of the last entry may be missing."""
    left = count
    for piece in stream.pieces(count):
        left -= len(piece)
        yield piece
    if left > count - entry.size:
        raise InvalidContent(f"an archive that is cut off in {shown(entry.name)}; get it anew")


def _first(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        if count:
            yield piece[:count]
        count -= min(count, len(piece))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(field: bytes) -> str:
    return str(field.partition(b"\0")[0], "utf-8", "surrogateescape")

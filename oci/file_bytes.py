"""A file as bytes that can be read at any place, without holding it in memory."""

from typing import BinaryIO, overload

__all__ = ["FileBytes"]


class FileBytes:
    """The contents of a seekable file from its start, for readers that look at a few places.

    A mapping would do the same and kill the process when somebody cuts the file meanwhile; here such a place is
    empty, and an index of it raises IndexError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int, /) -> int: ...

    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...

    def __getitem__(self, at: int | slice, /) -> int | bytes:
        if isinstance(at, slice):
            start, stop, _step = at.indices(self._size)
            self._file.seek(start)
            return self._file.read(max(0, stop - start))
        self._file.seek(at)
        byte = self._file.read(1)
        return byte[0]

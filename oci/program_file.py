"""A program's file, read several times: once to look into it, once for its digest, and whenever it is sent."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISFIFO
from typing import BinaryIO

from oci.content import CHUNK
from oci.errors import InvalidContent, NotFound, StorageError, UnsupportedArtifact, shown

__all__ = ["ProgramFile"]


class ProgramFile:
    """A path, opened anew for each reading, or an open seekable file that stays its caller's.

    Raises UnsupportedArtifact for what is no regular file, NotFound and StorageError for one that cannot be read.
    """

    def __init__(self, program: Path | BinaryIO, name: str) -> None:
        self._program = program
        self._name = name
        self._lock = threading.Lock()  # one position for all threads in a file that the caller opened
        self._state: tuple[int, ...] = ()
        with self.opened() as file:
            self.size = file.seek(0, os.SEEK_END)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, for the caller alone while the block runs. Raises InvalidContent when it is another one now."""
        try:
            if isinstance(self._program, Path):
                self._require_seekable(not S_ISFIFO(self._program.stat().st_mode))  # opening one would wait for ever
                with self._program.open("rb") as file:
                    self._require_seekable(file.seekable())
                    self._require_the_same(file)
                    yield file
            else:
                self._require_seekable(self._program.seekable())
                with self._lock:
                    yield self._program
        except FileNotFoundError:
            raise NotFound(f"there is no file {shown(str(self._program))}; check its name") from None
        except OSError as error:
            raise StorageError(f"{shown(self._name)} cannot be read: {error.strerror or error}") from None

    def chunks(self, offset: int) -> Iterator[bytes]:
        """The contents from an offset on."""
        while offset < self.size:
            with self.opened() as file:
                file.seek(offset)
                chunk = file.read(min(CHUNK, self.size - offset))
            if not chunk:
                raise self._changed()
            yield chunk
            offset += len(chunk)

    def _require_seekable(self, seekable: bool) -> None:  # noqa: FBT001 - reads as a condition
        if not seekable:
            raise UnsupportedArtifact(f"{shown(self._name)} is a pipe or a terminal; save the program in a file first")

    def _require_the_same(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        self._state = self._state or state
        if state != self._state:
            raise self._changed()

    def _changed(self) -> InvalidContent:
        return InvalidContent(f"{shown(self._name)} was changed while it was packed; pack it again")

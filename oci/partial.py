"""Blobs on their way into a layout: a file that grows under a lock, and is renamed into place once it is verified.

What a killed or failed writer leaves is the beginning of the blob, so the next one hashes it and asks for the rest.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from oci.content import CHUNK, Content, close
from oci.descriptor import Descriptor
from oci.digest import Verifier
from oci.disk import append, opened_locked, refusals
from oci.errors import InvalidContent, StorageError

__all__ = ["receive"]

_BLOB_MODE: Final = 0o644


def receive(
    partial: Path, blob: Path, descriptor: Descriptor, chunks: Iterable[bytes], is_here: Callable[[], bool]
) -> None:
    """Write a blob by way of a partial file, whose lock keeps other writers of it waiting.

    Raises InvalidContent, StorageError, and what `chunks` raises; then a beginning stays if it can be of use.
    """
    with ExitStack() as stack:
        with refusals(partial):
            file = stack.enter_context(opened_locked(partial))
        if is_here():  # another writer was quicker
            with refusals(partial):
                partial.unlink()
            return
        with _tidied(file, partial, resumable=isinstance(chunks, Content)):
            _fill(file, partial, descriptor, chunks)
            _publish(file, partial, blob)


@contextmanager
def _tidied(file: int, path: Path, *, resumable: bool) -> Iterator[None]:
    """After a failure, keep what is there only if it is a good beginning and somebody can go on from it."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            if not resumable or isinstance(error, InvalidContent | StorageError) or not os.fstat(file).st_size:
                path.unlink()
        raise


def _fill(file: int, path: Path, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
    """Complete a locked file to the whole content."""
    with refusals(path):
        held = os.fstat(file).st_size
    if isinstance(chunks, Content) and 0 < held <= descriptor.size:
        try:
            verifier = _hashed(file, path, descriptor)
            _extend(file, path, verifier, chunks.since(held) if held < descriptor.size else ())
        except InvalidContent:  # the beginning may be what is damaged: once more, with nothing of it
            pass
        else:
            return
    with refusals(path):
        os.ftruncate(file, 0)
    _extend(file, path, Verifier(descriptor.digest, descriptor.size), chunks)


def _publish(file: int, path: Path, blob: Path) -> None:
    """Move a complete file to where readers look, once its bytes would outlive a power cut.

    Its time is now, so that collecting knows it as new.
    """
    with refusals(blob):
        os.fsync(file)
        os.fchmod(file, _BLOB_MODE)
        os.utime(file)
        path.replace(blob)


def _extend(file: int, path: Path, verifier: Verifier, chunks: Iterable[bytes]) -> None:
    try:
        for chunk in chunks:
            verifier.update(chunk)
            with refusals(path):
                append(file, chunk)
    finally:
        close(chunks)
    verifier.finish()


def _hashed(file: int, path: Path, descriptor: Descriptor) -> Verifier:
    """A verifier that has seen what the file holds."""
    verifier = Verifier(descriptor.digest, descriptor.size)
    with refusals(path):
        while piece := os.pread(file, CHUNK, verifier.received):
            verifier.update(piece)
    return verifier

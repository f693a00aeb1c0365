"""How an image starts, and the memory of it: a warm `run` of a reference loads nothing of `oci`.

One small file per name in the cache, `<cache>/images/<name, with % for />.json`. It counts while the store's
index.json and the program's file are those of then, by inode, size and time: so what a name leads to is looked up
anew whenever any name has changed, and a program is verified once, and again when somebody has touched its file.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from wasm_shim.errors import WasmShimError
from wasm_shim.paths import open_private, remove_file

CACHE_REMEDY: Final = "set XDG_CACHE_HOME to a directory of your own"
_LONGEST: Final = 200  # characters of a name in a file's name; references are ASCII
_SUFFIXES: Final = (".wasm", ".wat")


class Start(NamedTuple):
    """What a container is started with: the program's file on the host, and what the image says.

    `name` is the word by which arguments name the program. `digest` is that of the image, empty for a file.
    """

    program: str
    name: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_directory: str = ""
    digest: str = ""

    def arguments(self, entrypoint: str, words: Sequence[str]) -> tuple[str, ...]:
        """argv by Docker's rules: words stand in for Cmd, another entrypoint for both."""
        return (entrypoint, *words) if entrypoint else (*self.entrypoint, *(words or self.cmd))


def is_path(text: str) -> bool:
    """Whether a person means a file and not an image: the name of a program, or a path to what is there."""
    if text.endswith(_SUFFIXES) or text.startswith(("/", "./", "../")):
        return True
    return "/" in text and os.path.exists(text)


def stamp(path: str) -> list[int]:
    """What changes when a file does; raises OSError."""
    status = os.stat(path)
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def index_of(store: str) -> str:
    """The file of a store that changes when any name does."""
    return f"{store}/index.json"


def recall(cache: str, store: str, text: str) -> Start | None:
    """How the image of this name starts, if that is known and nothing has changed since."""
    try:
        record = _read(_path(cache, text))
        start = Start._make(tuple(value) if isinstance(value, list) else value for value in record["start"])
        files = [stamp(index_of(store)), stamp(start.program)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return start if [record.get("name"), record.get("files")] == [text, files] else None


def remember(cache: str, text: str, start: Start, files: list[list[int]]) -> None:
    """Let `recall` find this while the stamps of the store's index and of the program are these.

    Where it cannot be written, the next start is slower and nothing else.
    """
    path = _path(cache, text)
    draft = f"{path}.{os.getpid()}"
    record = {"name": text, "start": start, "files": files}
    try:
        os.close(open_private(os.path.dirname(path), "image cache", CACHE_REMEDY))
        with open(draft, "w", encoding="ascii", opener=_private) as file:
            json.dump(record, file)
        os.rename(draft, path)
    except (OSError, WasmShimError):
        return
    finally:
        _remove(draft)


def forget(cache: str, digests: Sequence[str]) -> None:
    """Remove what is remembered, and the programs that were unpacked from images with these digests (as hex)."""
    directory = images_cache(cache)
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if name.endswith(".json") or name.removesuffix(".wasm") in digests:
            _remove(f"{directory}/{name}")


def images_cache(cache: str) -> str:
    """The directory of this module's files and of programs that were unpacked from images."""
    return f"{cache}/images"


def _read(path: str) -> Any:
    """A file that we wrote; raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(path)
        return json.loads(os.read(descriptor, status.st_size))
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _path(cache: str, text: str) -> str:
    """Where a name is remembered; those that are too long share a file, and the last one is in it."""
    return f"{images_cache(cache)}/{text.replace('/', '%')[:_LONGEST]}.json"


def _remove(path: str) -> None:
    try:
        remove_file(path)
    except OSError:
        return

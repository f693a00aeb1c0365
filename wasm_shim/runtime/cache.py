"""Precompiled programs on disk, each made once: `<directory>/<engine id>/<sha256 of the program>.cwasm`.

Precompiled code is native code that wasmtime loads without an integrity check, so the directory is private
(see `paths.open_private`) and holds only what our compiler wrote. A file appears complete or not at all: it
is written without a name and then linked.
"""

import hashlib
import os
import stat
import struct
from fcntl import F_WRLCK, fcntl
from typing import NamedTuple

from wasm_shim.errors import PermissionDenied, WasmShimError
from wasm_shim.paths import name_file, open_private, remove_file, storage_error, unnamed_file
from wasm_shim.runtime.program import Program

_WHAT, _REMEDY = "program cache", "set XDG_CACHE_HOME to a directory of your own"
_CHUNK = 1 << 20
_F_OFD_SETLKW = 38


class Compiled(NamedTuple):
    """A program that can be loaded; `path` of its code stays valid while the cache is."""

    program: Program
    path: str


class ProgramCache:
    """The cache of one engine. Made without touching the disk; `open` makes its directory."""

    def __init__(self, directory: str, engine_id: str) -> None:
        """`directory` is `Paths.programs`; `engine_id` comes from `engine.engine_id`."""
        self._root, self.directory = directory, f"{directory}/{engine_id}"

    def open(self) -> int:
        """A descriptor of the engine's directory, made and checked; raises the errors of `open_private`."""
        os.close(open_private(self._root, _WHAT, _REMEDY))
        return open_private(self.directory, _WHAT, _REMEDY)

    def path(self, key: str) -> str:
        """Where the precompiled code of the program with this sha256 is, or will be."""
        return f"{self.directory}/{key}.cwasm"

    def lookup(self, key: str) -> Compiled | None:
        """The program with this sha256, or None where it has to be compiled; raises PermissionDenied.

        On the hot path of every start: only what proves that we wrote the files is checked, their owner and
        that of their closed directory. `open` checks the way there when they are made.
        """
        path, description = self.path(key), f"{self.directory}/{key}.json"
        try:
            if not (_is_ours(self.directory) and _is_ours(path)):
                os.close(self.open())  # says what is wrong with the directory
                remove_file(path)
                return None
            try:
                with open(description, "rb", buffering=0) as file:
                    return Compiled(Program.from_json(file.read()), path)
            except (FileNotFoundError, ValueError):  # it is damaged, or was removed: make both anew
                remove_file(path)
                remove_file(description)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.failure(error) from error
        return None

    def unnamed(self) -> int:
        """A new writable file without a name in the cache's file system; it vanishes unless published."""
        directory = self.open()
        try:
            return unnamed_file(directory)
        except OSError as error:
            raise self.failure(error) from error
        finally:
            os.close(directory)

    def publish(self, key: str, program: Program, code: int) -> Compiled:
        """Give the finished code (a descriptor of `unnamed`) and its description their names."""
        description = self.unnamed()
        try:
            os.write(description, program.to_json())
            name_file(description, f"{self.directory}/{key}.json")
            name_file(code, self.path(key))  # last: its name says that both are there
        except OSError as error:
            raise self.failure(error) from error
        finally:
            os.close(description)
        return Compiled(program, self.path(key))

    def lock(self) -> int:
        """A descriptor of the file in which the compiler of a program locks a byte; see `take_lock`."""
        directory = self.open()
        try:
            return os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
        except OSError as error:
            raise self.failure(error) from error
        finally:
            os.close(directory)

    def failure(self, error: OSError) -> WasmShimError:
        """The domain error of a failed write to a file of ours."""
        return storage_error(error, _WHAT, self.directory, _REMEDY)


def _is_ours(path: str) -> bool:
    """Whether we made it: closed to others; raises PermissionDenied for a link and for another owner."""
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
        raise PermissionDenied(f"cannot trust {path}: it is a link or not yours; remove it")
    return not status.st_mode & 0o077


def take_lock(descriptor: int, key: str) -> None:
    """Wait for the lock of one program, held until every copy of the descriptor is closed.

    One file serves all programs, a byte each, so that nothing is left behind by whoever is killed. The lock is
    of the open file (F_OFD_SETLKW, fcntl(2)), not of the process: a compiler's lasts until its parent has
    published what it made.
    """
    whole = struct.pack("hhqqi4x", F_WRLCK, os.SEEK_SET, int(key[:12], 16), 1, 0)  # struct flock
    fcntl(descriptor, _F_OFD_SETLKW, whole)


def digest(descriptor: int) -> str:
    """The sha256 of a file's content as hex; its offset does not move. Raises OSError."""
    sha256, offset = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        sha256.update(chunk)
        offset += len(chunk)
    return sha256.hexdigest()

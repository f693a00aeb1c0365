"""The command line's containers on disk: one directory each, a name, a lock that tells the living from the dead.

Every file is private to the user. The lock (`<runtime>/<12 hex>.lock`) is held by the command line and by the
pod shim, which has it from the command line; when neither lives it is free, and whoever comes next tidies up.
"""

import errno
import json
import os
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import Any, NamedTuple

from wasm_shim.errors import AlreadyExists, NotFound
from wasm_shim.paths import Paths, open_private, remove_file, storage_error

_SHORT = 12
_STATE, _RUNTIME = "state", "runtime"
_STATE_REMEDY = "set XDG_STATE_HOME to a directory of your own"
_RUNTIME_REMEDY = "set XDG_RUNTIME_DIR to a directory of your own"


class Record(NamedTuple):
    """Where one container's files are; they may be gone."""

    paths: Paths
    id: str

    @property
    def short_id(self) -> str:
        """The first 12 hex digits, as shown to people."""
        return self.id[:_SHORT]

    @property
    def directory(self) -> str:
        """The bundle: config.json and state.json."""
        return f"{self.paths.containers}/{self.id}"

    @property
    def socket(self) -> str:
        """The pod shim's address."""
        return f"{self.paths.runtime}/{self.short_id}"

    @property
    def lock(self) -> str:
        """The lock's file; its content is the id, the name, and whether to remove the container at its end."""
        return f"{self.socket}.lock"

    def state(self) -> dict[str, Any]:
        """What `write_state` wrote last; empty when there is nothing."""
        try:
            with open(f"{self.directory}/state.json", "rb") as file:
                state: dict[str, Any] = json.loads(file.read())
                return state
        except (FileNotFoundError, ValueError):
            return {}

    def write_state(self, **changes: Any) -> None:
        """Merge into state.json, in one step; a directory that is gone is no error."""
        state = {**self.state(), **changes}
        temporary = f"{self.directory}/state.json.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(json.dumps(state))
            os.rename(temporary, f"{self.directory}/state.json")
        except FileNotFoundError:
            return

    def alive(self) -> bool:
        """Whether a process still answers for the container."""
        descriptor = _try_lock(self.lock)
        if descriptor is None:
            return os.path.exists(self.lock)
        os.close(descriptor)
        return False

    def finish(self, *, remove: bool) -> None:
        """Remove the socket and the lock, and with `remove` the name and the directory before; idempotent."""
        if remove:
            name = self.state().get("name")
            if name:
                _release_name(self, name)
            for file in ("config.json", "state.json", "state.json.new"):
                remove_file(f"{self.directory}/{file}")
            try:
                os.rmdir(self.directory)
            except FileNotFoundError:
                pass  # another process was faster
        remove_file(self.socket)
        remove_file(self.lock)


def record_of(socket: str, directory: str) -> Record:
    """The record whose socket and directory these are."""
    state = os.path.dirname(os.path.dirname(directory))
    return Record(Paths(state, "", os.path.dirname(socket)), os.path.basename(directory))


def create_record(paths: Paths, config: bytes, state: dict[str, Any], *, remove: bool) -> tuple[Record, int]:
    """A new container with its bundle's config.json, and the descriptor that holds its lock.

    `state` is written to state.json; its "name", when there is one, is taken. Raises AlreadyExists for a name
    in use and what `open_private` and a full disk raise; nothing is left behind then.
    """
    os.close(open_private(paths.runtime, _RUNTIME, _RUNTIME_REMEDY))
    for directory in (paths.state, paths.containers, paths.names):
        os.close(open_private(directory, _STATE, _STATE_REMEDY))
    sweep(paths)
    record = Record(paths, os.urandom(32).hex())
    try:
        lock = _make_lock(record, remove=remove)
    except OSError as error:
        raise storage_error(error, _RUNTIME, paths.runtime, _RUNTIME_REMEDY) from error
    try:
        os.mkdir(record.directory, 0o700)
        with open(f"{record.directory}/config.json", "wb") as file:
            file.write(config)
        record.write_state(**state)
        if state.get("name"):
            _take_name(record, state["name"])
    except (OSError, AlreadyExists) as error:
        record.finish(remove=True)
        os.close(lock)
        if isinstance(error, OSError):
            raise storage_error(error, _STATE, paths.state, _STATE_REMEDY) from error
        raise
    return record, lock


def _make_lock(record: Record, *, remove: bool) -> int:
    """A locked file that appears under its name only when it is locked: a sweep never sees it free."""
    new = f"{record.lock}.{os.getpid()}"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        flock(descriptor, LOCK_EX)
        os.write(descriptor, f"{record.id} {'remove' if remove else 'keep'}".encode())
        os.rename(new, record.lock)
    except OSError:
        os.close(descriptor)
        remove_file(new)
        raise
    return descriptor


def _take_name(record: Record, name: str) -> None:
    """Bind the name to the container; the file appears with its content, so nobody reads it half-written."""
    path, temporary = f"{record.paths.names}/{name}", f"{record.paths.names}/.{record.id}"
    names = _lock_names(record.paths)
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(record.id)
        os.link(temporary, path)
    except FileExistsError as error:
        owner = Record(record.paths, _read(path))
        if owner.id and os.path.isdir(owner.directory):
            message = f"the name {name} is in use by container {owner.short_id}; choose another one or remove that: "
            raise AlreadyExists(f"{message}wasm-shim rm {name}") from error
        os.rename(temporary, path)  # its container was removed by halves
        return
    finally:
        os.close(names)
        remove_file(temporary)


def _release_name(record: Record, name: str) -> None:
    path = f"{record.paths.names}/{name}"
    try:
        names = _lock_names(record.paths)
    except FileNotFoundError:
        return
    if _read(path) == record.id:  # not yet taken by another container
        remove_file(path)
    os.close(names)


def _lock_names(paths: Paths) -> int:
    """A descriptor under which nobody else looks at a name and then changes it."""
    names = os.open(paths.names, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    flock(names, LOCK_EX)
    return names


def sweep(paths: Paths) -> None:
    """Tidy up after containers whose command line and pod shim were both killed."""
    for entry in os.listdir(paths.runtime):
        if not entry.endswith(".lock") or len(entry) != _SHORT + len(".lock"):
            continue
        descriptor = _try_lock(f"{paths.runtime}/{entry}")
        if descriptor is None:
            continue
        id_, _, what = os.pread(descriptor, 256, 0).decode().partition(" ")
        record = Record(paths, id_)
        if id_:
            record.finish(remove=what == "remove")
        os.close(descriptor)


def all_records(paths: Paths) -> Iterator[Record]:
    """Every container that has a directory."""
    try:
        yield from (Record(paths, id_) for id_ in sorted(os.listdir(paths.containers)))
    except FileNotFoundError:
        return


def find_record(paths: Paths, wanted: str) -> Record:
    """The container of that name, id or unique beginning of an id; raises NotFound."""
    named = _read(f"{paths.names}/{wanted}") if wanted and "/" not in wanted else ""
    found = [record for record in all_records(paths) if record.id == named or record.id.startswith(wanted)]
    exact = [record for record in found if named in ("", record.id)]
    if not wanted or len(exact) != 1:
        several = "more than one container begins with" if len(exact) > 1 else "no container"
        raise NotFound(f"{several} {wanted!r}; wasm-shim ps -a lists them")
    return exact[0]


def _try_lock(path: str) -> int | None:
    """A descriptor that holds the lock, or None when another process does, or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # it lives, or has just ended in good order
    os.close(descriptor)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            raise
        return ""

"""Precompiled programs on disk: published whole, found again, never trusted when others could have written them."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.errors import PermissionDenied
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest, take_lock
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.program import CORE, Function, Program

KEY = "a" * 64
PROGRAM = Program(CORE, (), ("add",), (Function("add", (("", "i32"),), ("i32",)),), "", "")
CODE = bytes(range(256)) * 1000


@pytest.fixture
def cache(tmp_path: Path) -> ProgramCache:
    return ProgramCache(str(tmp_path / "programs"), "0123456789abcdef")


def publish(cache: ProgramCache, key: str = KEY, code: int = -1) -> Compiled:
    """Publish CODE, from a file of the cache's or from the given one."""
    descriptor = code if code >= 0 else cache.unnamed()
    try:
        os.write(descriptor, CODE)
        return cache.publish(key, PROGRAM, descriptor)
    finally:
        os.close(descriptor)


def files(cache: ProgramCache) -> list[str]:
    """What is there beside the one lock file of all programs."""
    return sorted(path.name for path in Path(cache.directory).iterdir() if path.name != "lock")


def test_published_program_is_found(cache: ProgramCache) -> None:
    """What is published is found by its key, and only by that; nothing else is in the directory."""
    compiled = publish(cache)
    assert cache.lookup(KEY) == compiled == Compiled(PROGRAM, cache.path(KEY))
    assert Path(compiled.path).read_bytes() == CODE
    assert cache.lookup("b" * 64) is None
    assert files(cache) == [f"{KEY}.cwasm", f"{KEY}.json"]


def test_lookup_makes_nothing(cache: ProgramCache) -> None:
    """Looking into a cache that does not exist finds nothing and makes nothing."""
    assert cache.lookup(KEY) is None
    assert not Path(cache.directory).exists()


def test_unpublished_code_vanishes(cache: ProgramCache) -> None:
    """A file that gets no name is not there for anybody."""
    descriptor = cache.unnamed()
    os.write(descriptor, CODE)
    assert files(cache) == []
    os.close(descriptor)


def test_everything_is_private(cache: ProgramCache) -> None:
    """Directories and files are ours alone, whatever the umask, also from a file system without unnamed files."""
    before = os.umask(0)
    try:
        publish(cache)
        publish(cache, "b" * 64, os.memfd_create("code"))
    finally:
        os.umask(before)
    directory = Path(cache.directory)
    for path in (directory.parent, directory, *directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_other_engine_finds_nothing(cache: ProgramCache) -> None:
    """Code of another engine is in another directory."""
    publish(cache)
    other = ProgramCache(str(Path(cache.directory).parent), "fedcba9876543210")
    assert other.lookup(KEY) is None
    publish(other)
    assert cache.lookup(KEY) != other.lookup(KEY)


def test_engine_id_is_stable() -> None:
    """The engine's name is the same each time, and fit for a directory."""
    assert engine_id() == engine_id()
    assert len(engine_id()) == 16
    assert int(engine_id(), 16) >= 0


def test_code_from_memory_is_published(cache: ProgramCache) -> None:
    """Where the file system has no unnamed files, code comes from memory, and leaves no other file."""
    compiled = publish(cache, code=os.memfd_create("code"))
    assert Path(compiled.path).read_bytes() == CODE
    assert files(cache) == [f"{KEY}.cwasm", f"{KEY}.json"]
    assert cache.lookup(KEY) == compiled


@pytest.mark.parametrize("from_memory", [False, True])
def test_many_may_publish_the_same(cache: ProgramCache, from_memory: bool) -> None:  # noqa: FBT001 - a parameter
    """Many who publish one program at once all succeed, and one result stays."""
    os.close(cache.lock())

    def attempt(_: int) -> Compiled:
        return publish(cache, code=os.memfd_create("code") if from_memory else -1)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(attempt, range(32))) == {Compiled(PROGRAM, cache.path(KEY))}
    assert Path(cache.path(KEY)).read_bytes() == CODE
    assert files(cache) == [f"{KEY}.cwasm", f"{KEY}.json"]


# Damage


@pytest.mark.parametrize("description", [None, b"", b"{", b"null", b'{"format": 0}', b"[" * 100_000])
def test_damaged_description_is_made_anew(cache: ProgramCache, description: bytes | None) -> None:
    """Code whose description is damaged or gone is not used: both go, and the next one publishes again."""
    publish(cache)
    path = Path(cache.directory, f"{KEY}.json")
    if description is None:
        path.unlink()
    else:
        path.write_bytes(description)
    assert cache.lookup(KEY) is None
    assert files(cache) == []
    assert cache.lookup(KEY) is None
    assert publish(cache) == cache.lookup(KEY)


def test_description_without_code_waits_for_it(cache: ProgramCache) -> None:
    """A description whose code is not there yet is left to the one who publishes it now."""
    publish(cache)
    Path(cache.path(KEY)).unlink()
    assert cache.lookup(KEY) is None
    assert files(cache) == [f"{KEY}.json"]
    assert publish(cache) == cache.lookup(KEY)


def test_many_may_find_the_damage(cache: ProgramCache) -> None:
    """Many who find a damaged description at once are not in each other's way."""

    def attempt(_: int) -> Compiled | None:
        publish(cache)
        Path(cache.directory, f"{KEY}.json").write_bytes(b"{")
        return cache.lookup(KEY)

    with ThreadPoolExecutor(8) as pool:
        assert {found and found.path for found in pool.map(attempt, range(64))} <= {None, cache.path(KEY)}


def test_rejects_a_directory_that_others_could_read(cache: ProgramCache) -> None:
    """Code in a directory that is open to others is refused and left for a person to look at."""
    publish(cache)
    Path(cache.directory).chmod(0o755)
    with pytest.raises(PermissionDenied, match=r"cannot trust the program cache directory .*: its mode is not 0700;"):
        cache.lookup(KEY)
    assert Path(cache.path(KEY)).exists()


def test_code_that_others_could_read_is_made_anew(cache: ProgramCache) -> None:
    """Code that is open to others is not of our making: it goes, and is compiled again."""
    publish(cache)
    Path(cache.path(KEY)).chmod(0o644)
    assert cache.lookup(KEY) is None
    assert not Path(cache.path(KEY)).exists()


def test_rejects_a_link_to_code(cache: ProgramCache, tmp_path: Path) -> None:
    """Code is no symbolic link."""
    publish(cache)
    elsewhere = tmp_path / "elsewhere"
    Path(cache.path(KEY)).rename(elsewhere)
    Path(cache.path(KEY)).symlink_to(elsewhere)
    with pytest.raises(PermissionDenied, match="cannot trust"):
        cache.lookup(KEY)


@pytest.mark.root
def test_rejects_code_of_another_user(cache: ProgramCache) -> None:
    """Nor does it belong to somebody else."""
    publish(cache)
    os.chown(cache.path(KEY), 54321, -1)
    with pytest.raises(PermissionDenied, match="cannot trust"):
        cache.lookup(KEY)


def test_rejects_a_directory_open_to_others(cache: ProgramCache) -> None:
    """Nothing is written where others could write."""
    root = Path(cache.directory).parent
    root.mkdir()
    root.chmod(0o777)
    for action in (cache.open, cache.unnamed, cache.lock):
        with pytest.raises(PermissionDenied, match=r"cannot trust the program cache directory .*; set XDG_CACHE_HOME"):
            action()


# Locks and digests


def test_each_program_has_a_lock_of_its_own(cache: ProgramCache) -> None:
    """A lock keeps others from the same program until its last copy is closed, and from no other program."""
    lock, waiter = cache.lock(), cache.lock()
    take_lock(lock, KEY)
    take_lock(waiter, "f" * 64)  # does not wait
    copy = os.dup(lock)
    os.close(lock)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take_lock, waiter, KEY)
        assert not taken.done()
        os.close(copy)
        assert taken.result(timeout=10) is None
    os.close(waiter)


@given(st.binary(max_size=5000))
def test_digest_is_sha256(content: bytes) -> None:
    """The key is the sha256 of the content, and reading it moves nothing."""
    file = os.memfd_create("content")
    os.write(file, content)
    os.lseek(file, 1, os.SEEK_SET)
    assert digest(file) == hashlib.sha256(content).hexdigest()
    assert os.lseek(file, 0, os.SEEK_CUR) == 1
    os.close(file)


def test_digest_of_a_large_file(tmp_path: Path) -> None:
    """Files are read in pieces."""
    path = tmp_path / "large"
    path.write_bytes(CODE * 10)
    with path.open("rb") as file:
        assert digest(file.fileno()) == hashlib.sha256(CODE * 10).hexdigest()

"""The compiler process: what it makes, what it refuses, and what is left when it dies."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wasm_shim.errors import Internal, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unavailable
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest, take_lock
from wasm_shim.runtime.compile import Compilation, compile_now
from wasm_shim.runtime.engine import engine_id
from wasm_shim.runtime.program import COMPONENT, CORE

if TYPE_CHECKING:
    from collections.abc import Callable

GUESTS = Path(__file__).resolve().parents[1] / "guests"
ADDITION = GUESTS / "addition.wat"


@pytest.fixture
def cache(tmp_path: Path) -> ProgramCache:
    return ProgramCache(str(tmp_path / "programs"), engine_id())


def begin(cache: ProgramCache, path: Path = ADDITION, key: str = "") -> Compilation:
    """A compiler at work on a file."""
    with path.open("rb") as source:
        return Compilation(cache, key or digest(source.fileno()), source.fileno(), path.name)


def files(cache: ProgramCache) -> list[str]:
    """The endings of what is there beside the one lock file of all programs."""
    names = [path for path in Path(cache.directory).iterdir() if path.name != "lock"]
    return sorted(path.suffix.removeprefix(".") for path in names)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("name", "kind"), [("addition.wat", CORE), ("addition.wasm", COMPONENT)])
def test_compiles_once(cache: ProgramCache, guest: Callable[[str], Path], name: str, kind: str) -> None:
    """The first call compiles, the second one finds what the first made; nothing else is left."""
    path, before = guest(name), descriptors()
    compiled = compile_now(cache, str(path))
    written = Path(compiled.path).stat()
    assert compiled.program.kind == kind
    assert [function.name for function in compiled.program.functions] == ["add", "sub"]
    assert compile_now(cache, str(path)) == compiled
    assert os.path.samestat(Path(compiled.path).stat(), written)
    assert files(cache) == ["cwasm", "json"]
    assert descriptors() == before


def test_text_and_binary_are_two_programs(cache: ProgramCache, tmp_path: Path) -> None:
    """The key is the file's content: a comment more makes another program of the same code."""
    other = tmp_path / "other.wat"
    other.write_text(ADDITION.read_text() + ";; more")
    paths = {compile_now(cache, str(path)).path for path in (ADDITION, other)}
    assert len({Path(path).read_bytes() for path in paths}) == 1
    assert len(paths) == 2


def test_two_at_once_compile_once(cache: ProgramCache) -> None:
    """Whoever comes second waits for the first and compiles nothing."""
    both = {compilation.pidfd: compilation for compilation in (begin(cache), begin(cache))}
    first = both.pop(select.select(both, [], [])[0][0])
    made = first.result()
    written = Path(made.path).stat()
    assert next(iter(both.values())).result() == made
    assert os.path.samestat(Path(made.path).stat(), written)
    assert files(cache) == ["cwasm", "json"]


def test_many_at_once(cache: ProgramCache) -> None:
    """Many get the same program, and leave nothing else."""
    with ThreadPoolExecutor(6) as pool:
        made: set[Compiled] = set(pool.map(lambda _: compile_now(cache, str(ADDITION)), range(12)))
    assert len(made) == 1
    assert files(cache) == ["cwasm", "json"]


def held(cache: ProgramCache) -> tuple[Compilation, int]:
    """A compiler that waits for a lock, and the lock."""
    with ADDITION.open("rb") as source:
        lock = cache.lock()
        take_lock(lock, digest(source.fileno()))
    return begin(cache), lock


def test_killed_compiler_is_told(cache: ProgramCache) -> None:
    """A compiler that was killed is Unavailable, leaves nothing, and the next one compiles."""
    compilation, lock = held(cache)
    os.kill(compilation.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match=r"the compiler was ended by signal 9 while it compiled addition\.wat; run"):
        compilation.result()
    os.close(lock)
    assert files(cache) == []
    assert compile_now(cache, str(ADDITION)).program.kind == CORE


def test_cancelled_compilation_leaves_nothing(cache: ProgramCache) -> None:
    """A compilation that nobody wants any more ends at once."""
    before = descriptors()
    compilation, lock = held(cache)
    compilation.cancel()
    os.close(lock)
    assert files(cache) == []
    assert descriptors() == before


def test_compiler_ends_with_its_parent(cache: ProgramCache, tmp_path: Path) -> None:
    """When the process that wanted it is killed, the compiler goes, too."""
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        code = "import sys; from wasm_shim.runtime.cache import *; from wasm_shim.runtime.compile import *; "
        code += "compile_now(ProgramCache(*sys.argv[1:3]), sys.argv[3])"
        words = [sys.executable, "-c", code, str(tmp_path / "programs"), engine_id(), str(ADDITION)]
        environment = os.environ | {"WASM_SHIM_HOLD": f"compiler.locked:{address}"}
        with subprocess.Popen(words, env=environment) as parent:
            connection, _ = listener.accept()
            assert connection.recv(100) == b"compiler.locked"
            parent.kill()
        with connection:
            assert connection.recv(1) == b""  # it has gone
    assert compile_now(cache, str(ADDITION)).program.kind == CORE


def test_limited_compiler_fails_alone(cache: ProgramCache) -> None:
    """A compiler that gets no memory fails with a sentence and leaves nothing."""
    compilation, lock = held(cache)
    resource.prlimit(compilation.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))
    os.close(lock)
    with pytest.raises(Unavailable, match=r"the compiler (failed|was ended) .* while it compiled addition\.wat"):
        compilation.result()
    assert files(cache) == []


def test_compiler_that_cannot_start(cache: ProgramCache) -> None:
    """Without descriptors nothing is started, nothing is left open, and the reason is told."""
    os.close(cache.open())
    before, limits = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    source = os.open(ADDITION, os.O_RDONLY)
    for spare in range(1, 12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (source + spare, limits[1]))
        try:
            Compilation(cache, "0" * 64, source, "x").cancel()
        except (ResourceExhausted, PermissionDenied):
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(source)
    assert descriptors() == before


@pytest.mark.parametrize("report", [b"{", b"\xff", b'{"program": "{"}', b'{"program": ""}'])
def test_damaged_report_is_a_fault(cache: ProgramCache, report: bytes) -> None:
    """A compiler that reports something else is a fault of ours, told in a sentence."""
    compilation = begin(cache)
    os.waitid(os.P_PIDFD, compilation.pidfd, os.WEXITED | os.WNOWAIT)
    os.ftruncate(compilation._report, 0)
    os.pwrite(compilation._report, report, 0)
    with pytest.raises(Internal, match=r"the compiler's report on addition\.wat is damaged: .*; run it again"):
        compilation.result()
    assert files(cache) == []


def test_file_that_changes_is_refused(cache: ProgramCache) -> None:
    """What is compiled is what was hashed: else one program's code could get another one's name."""
    with pytest.raises(InvalidArgument, match=r"cannot run addition\.wat: the file changed while it was read"):
        begin(cache, key="0" * 64).result()
    assert files(cache) == []


# What cannot be compiled


def binary(path: Path) -> bytes:
    import wasmtime

    return bytes(wasmtime.wat2wasm(path.read_text()))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\0asm", "truncated: the Wasm header lacks 4 bytes"),
        (b"\x7fELF" + bytes(60), "not Wasm but a native program"),
        (b"#!/bin/sh\n", "not Wasm but a script"),
        (b"(module (func (export", "expected "),
        (b"(module (func (result i32)))\n", "type mismatch"),
        (b"(module \xff)", "not UTF-8"),
        (b"\0asm\x01\0\0\0\x01\x05\x01\x60\x00\x01\x00", "unexpected end|invalid|malformed"),
    ],
)
def test_rejects_what_is_no_program(cache: ProgramCache, tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that cannot be compiled is InvalidArgument with one line, and nothing stays in the cache."""
    path = tmp_path / "bad.wasm"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=rf"^cannot run {path}: .*({sentence})") as refusal:
        compile_now(cache, str(path))
    assert "\n" not in refusal.value.message
    assert files(cache) == []


def test_rejects_every_cut(cache: ProgramCache, tmp_path: Path) -> None:
    """A program that was cut anywhere is refused."""
    whole, path = binary(GUESTS / "hello.wat"), tmp_path / "cut.wasm"
    for end in range(8, len(whole), 17):
        path.write_bytes(whole[:end])
        try:
            program = compile_now(cache, str(path)).program
        except InvalidArgument as error:
            assert str(path) in error.message  # noqa: PT017 - one of two outcomes
        else:
            assert not program.command, end  # a cut between two sections can be a program, but not this one


def test_rejects_precompiled_code(cache: ProgramCache, tmp_path: Path) -> None:
    """Code that wasmtime compiled is no program: it would run without a check."""
    path = tmp_path / "code.wasm"
    path.write_bytes(Path(compile_now(cache, str(ADDITION)).path).read_bytes())
    with pytest.raises(InvalidArgument, match=r"native code that wasmtime precompiled \(\.cwasm\)"):
        compile_now(cache, str(path))


def test_rejects_what_is_no_file(cache: ProgramCache, tmp_path: Path) -> None:
    """What is not there, a directory and a FIFO are refused at once."""
    os.mkfifo(tmp_path / "fifo")
    for name, kind in (("none", NotFound), ("fifo", PermissionDenied), ("fifo/x", NotFound), (".", PermissionDenied)):
        with pytest.raises(kind, match=str(tmp_path)):
            compile_now(cache, str(tmp_path / name))


@pytest.mark.parametrize("kind", ["v128", "i31ref", "exnref"])
def test_exports_that_the_library_cannot_describe_are_refused(cache: ProgramCache, tmp_path: Path, kind: str) -> None:
    """A module that exports functions of vectors or newer references gets a sentence that says so."""
    path = tmp_path / "types.wat"
    path.write_text(f'(module (func (export "_start")) (func (export "f") (param {kind})))')
    with pytest.raises(InvalidArgument, match="which this version cannot describe; export functions of numbers only"):
        compile_now(cache, str(path))

"""Reading a program several times: from paths and open files, and what goes wrong with them."""

import io
import os
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

import oci
from oci.copy import copy
from oci.errors import InvalidContent, NotFound, OciError, StorageError, UnsupportedArtifact
from oci.layout import Layout
from oci.memory import MemoryStore
from oci.pack import pack
from oci.pack_options import ArtifactLayout, PackOptions
from oci.program_file import ProgramFile
from tests.conftest import User
from tests.unit.oci.forms import COMMAND


def refusal(program: Path | BinaryIO, kind: type[OciError]) -> str:
    with pytest.raises(kind) as caught:
        pack(program, name="app.wasm")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refuses_files_that_are_not_there_or_none(tmp_path: Path) -> None:
    missing = tmp_path / "app.wasm"
    assert refusal(missing, NotFound) == f"there is no file {str(missing)!r}; check its name"
    assert refusal(tmp_path, StorageError) == "'app.wasm' cannot be read: Is a directory"
    missing.symlink_to(missing)
    assert "cannot be read: Too many levels of symbolic links" in refusal(missing, StorageError)


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.wasm")
    assert refusal(tmp_path / "app.wasm", UnsupportedArtifact) == (
        "'app.wasm' is a pipe or a terminal; save the program in a file first"
    )


def test_an_open_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert "save the program in a file first" in refusal(pipe, UnsupportedArtifact)


def test_a_file_that_one_may_not_read_is_refused(ordinary_user: User, tmp_path: Path) -> None:
    program = Path(ordinary_user.environment["HOME"]) / "app.wasm"
    program.write_bytes(COMMAND)
    program.chmod(0o000)
    script = "import sys; from pathlib import Path; from oci.pack import pack; pack(Path(sys.argv[1]))"
    environment = ordinary_user.environment | {"PYTHONPATH": str(Path(oci.__file__).parents[1])}
    run = ordinary_user.run([sys.executable, "-c", script, program], env=environment)
    assert run.stderr.splitlines()[-1] == "oci.errors.StorageError: 'app.wasm' cannot be read: Permission denied"


@pytest.mark.parametrize("change", ["bytes", "length", "replaced", "removed"])
def test_a_file_changed_after_packing_is_not_sent(tmp_path: Path, change: str) -> None:
    program = tmp_path / "app.wasm"
    program.write_bytes(COMMAND)
    os.utime(program, (1, 1))
    artifact = pack(program)
    if change == "removed":
        program.unlink()
    elif change == "replaced":
        (tmp_path / "new").write_bytes(COMMAND)
        os.utime(tmp_path / "new", (1, 1))
        (tmp_path / "new").rename(program)
    else:
        program.write_bytes(COMMAND[::-1] if change == "bytes" else COMMAND + COMMAND)
    target = MemoryStore()
    with pytest.raises((InvalidContent, NotFound), match=r"was changed while it was packed|there is no file"):
        copy(artifact, artifact.name, target, "app:1")
    assert not target.has(artifact.manifest.layers[0])
    assert target.tags() == []


def test_a_change_that_the_file_does_not_show_is_caught_by_the_digest() -> None:
    file = io.BytesIO(COMMAND)
    artifact = pack(file, name="app.wasm")
    file.seek(0)
    file.write(COMMAND[::-1])
    with pytest.raises(InvalidContent, match="damaged or replaced"):
        copy(artifact, artifact.name, MemoryStore(), None)
    file.truncate(10)
    with pytest.raises(InvalidContent, match=r"'app\.wasm' was changed while it was packed; pack it again"):
        copy(artifact, artifact.name, MemoryStore(), None)


def test_an_open_file_stays_open_and_may_be_read_by_threads() -> None:
    data = bytes(range(256)) * (4 << 12)
    file = io.BytesIO(data)
    program = ProgramFile(file, "app.wasm")
    offsets = range(0, len(data), 100_001)
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda offset: b"".join(program.chunks(offset)), offsets))
    assert read == [data[offset:] for offset in offsets]
    assert not file.closed


@pytest.mark.parametrize("layout", list(ArtifactLayout))
def test_a_large_program_is_not_held_in_memory(tmp_path: Path, layout: ArtifactLayout) -> None:
    program = tmp_path / "app.wasm"
    with program.open("wb") as out:
        out.write(COMMAND + b"\0\x80\x80\x80\x20\1x" + bytes((64 << 20) - 2))
    target = Layout.create(tmp_path / "store")
    tracemalloc.start()
    artifact = pack(program, PackOptions(layout))
    copy(artifact, artifact.name, target, "app:1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert target.resolve("app:1") == artifact.manifest.descriptor

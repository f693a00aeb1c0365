"""Which files are opened as programs."""

import os
from pathlib import Path

import pytest

from wasm_shim.errors import InvalidArgument
from wasm_shim.runtime.source import LARGEST, open_program


def test_too_large(tmp_path: Path) -> None:
    """A file that no compiler could hold is refused by its size, and no descriptor stays."""
    path = tmp_path / "large.wasm"
    path.touch()
    os.truncate(path, LARGEST)
    os.close(open_program(str(path)))
    os.truncate(path, LARGEST + 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(InvalidArgument, match=f"it has {LARGEST + 1} bytes; a program may have {LARGEST}"):
        open_program(str(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before

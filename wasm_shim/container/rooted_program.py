"""The program that a container's first word names in its root file system."""

import os
import posixpath
import stat
from typing import Final

from wasm_shim.container.spec import Spec
from wasm_shim.errors import InvalidArgument
from wasm_shim.kernel import calls
from wasm_shim.runtime.source import check_size

_LINUX: Final = (b"\x7fELF", b"#!")


def open_program(root: int, spec: Spec) -> int | None:
    """The Wasm program that argv[0] names, None where no file has that name; raises InvalidArgument."""
    places = _places(spec.arguments[0], spec)
    for path in places:
        try:
            program = calls.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidArgument(f"cannot open {path} in the image: {error.strerror}; name another program") from error
        if not stat.S_ISREG(os.fstat(program).st_mode):
            if path != places[-1]:
                os.close(program)
                continue
            raise InvalidArgument(f"{path} in the image is no regular file; name a .wasm or .wat file")
        if os.pread(program, 4, 0).startswith(_LINUX):
            raise InvalidArgument(f"{path} is a Linux program and no WebAssembly; run it with the runtime runc")
        check_size(program, path)
        return program
    return None


def _places(name: str, spec: Spec) -> list[str]:
    """Where a program of this name may be, as execvp(3) looks for it."""
    if name.startswith("/"):
        return [name]
    places = [posixpath.join(spec.working_directory, name)]
    if "/" not in name:
        path = dict(spec.environment).get("PATH", "")
        places += [posixpath.join(directory, name) for directory in path.split(":") if directory.startswith("/")]
    return places


def advice(root: int) -> str:
    """What the root directory offers instead."""
    listed = calls.open_in_root(root, "/", os.O_RDONLY | os.O_DIRECTORY)
    found = sorted(name for name in os.listdir(listed) if name.endswith((".wasm", ".wat")))
    return f"it has /{', /'.join(found[:3])}; name that" if found else "name a .wasm or .wat file of it"

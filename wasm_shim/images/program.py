"""From an image in the store to how it starts: its program as a file on the host, and what its config says."""

import os
import posixpath
from collections.abc import Callable
from typing import Final

from oci.errors import NotFound
from oci.extract import extract_program
from oci.layout import Layout
from oci.program import Program, find_program
from oci.reference import Reference
from wasm_shim.images.start import CACHE_REMEDY, Start, images_cache, index_of, remember, stamp
from wasm_shim.images.store import Found, find, open_store
from wasm_shim.paths import name_file, open_private, storage_error, unnamed_file

_WHAT: Final = "image cache"

Get = Callable[[Layout, Reference], object]


def start_of(store_path: str, cache: str, text: str, get: Get | None, *, always: bool = False) -> Start:
    """How the image that a person means starts. `get` brings a missing one into the store; with `always`, any one.

    Raises OciError, and the errors of `open_private`.
    """
    store = open_store(store_path)
    found = [] if always else find(store, text)
    if not found and get is not None:
        _check_no_file(text)
        get(store, Reference.parse(text))
    index = stamp(index_of(store_path))  # before looking: whoever changes it meanwhile makes this out of date
    found = found or find(store, text)
    if not found:
        raise NotFound(f"there is no image {text} here; get it with: wasm-shim pull {text}")
    return _prepared(store, found[0], cache, text, index)


def _check_no_file(text: str) -> None:
    if os.path.exists(text):
        raise NotFound(f"there is no image {text} here; write ./{text} if you mean the file, else pull the image")


def _prepared(store: Layout, found: Found, cache: str, text: str, index: list[int]) -> Start:
    program = find_program(store, found.descriptor)
    if program.layer is not None:
        path = str(store.blob(program.layer.digest))
        verified = stamp(path)
        with open("/dev/null", "wb") as nowhere:
            name = extract_program(store, program, nowhere)
    else:
        path = f"{images_cache(cache)}/{program.manifest.digest.hex}.wasm"
        name = _unpack(store, program, path)
        verified = stamp(path)
    start = _start(path, name, program)._replace(digest=str(found.descriptor.digest))
    remember(cache, text, start, [index, verified])
    return start


def _start(path: str, name: str, program: Program) -> Start:
    arguments = program.entrypoint + program.cmd
    default = f"/{posixpath.basename(name)}" if program.layer is not None else name
    return Start(
        program=path,
        name=arguments[0] if arguments else default,
        entrypoint=program.entrypoint if arguments else (default,),
        cmd=program.cmd,
        env=tuple(entry for entry in program.env if entry.partition("=")[0] and "=" in entry),
        working_directory=program.working_dir,
    )


def _unpack(store: Layout, program: Program, path: str) -> str:
    """Take the program out of its root file system, into a file that appears whole; what the image calls it."""
    directory = open_private(os.path.dirname(path), _WHAT, CACHE_REMEDY)
    try:
        with os.fdopen(unnamed_file(directory), "w+b") as file:
            name = extract_program(store, program, file)
            file.flush()
            os.fsync(file.fileno())
            name_file(file.fileno(), path)
    except OSError as error:
        raise storage_error(error, _WHAT, path, CACHE_REMEDY) from error
    finally:
        os.close(directory)
    return name

"""Get the bytes of a program out of its artifact.

From a root file system only the one file is taken, into a file that the caller opened: the names in an archive never
become names on the disk. Other files of such an image are not offered to a guest of the command line in this
version; under containerd the guest has the image's file system.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

from oci.content import Source, verified
from oci.errors import InvalidWasm, UnsupportedArtifact, shown
from oci.inflate import inflated
from oci.program import Program
from oci.rootfs import File, Rootfs
from oci.tar import entries
from oci.wasm_binary import looks_like_wat, preamble

__all__ = ["MAX_PROGRAM", "extract_program"]

MAX_PROGRAM: Final = 4 << 30  # bytes; a Wasm section cannot be larger
_HEAD: Final = 64 << 10
_PLUGIN: Final = "plugin.wasm"
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def extract_program(source: Source, program: Program, out: BinaryIO) -> str:
    """Write the program to `out`, verified, and return its name: the path in the image, or what the layer is called.

    It is Wasm, or WebAssembly text. What was written counts only when this returns. Raises UnsupportedArtifact when it
    is something else, is missing or is not told from others, InvalidContent for damage and hostile archives, and what
    the source and `out` raise.
    """
    if program.layer is not None:
        _check_size(program.layer.size, program.name)
        _write(verified(source.read(program.layer), program.layer), out, shown(program.name))
        return program.name
    path, file = _locate(_rootfs(source, program), program)
    layer = program.rootfs[file.layer]
    raw = verified(source.read(layer), layer)
    for number, (entry, contents) in enumerate(entries(inflated(raw))):
        if number == file.entry:
            _check_size(entry.size, path)
            _write(contents, out, f"{shown(path)} in the image")
            break
    _drain(raw)
    return path


def _rootfs(source: Source, program: Program) -> Rootfs:
    rootfs = Rootfs()
    for number, layer in enumerate(program.rootfs):
        raw = verified(source.read(layer), layer)
        rootfs.apply(number, (entry for entry, _contents in entries(inflated(raw))))
        _drain(raw)
    return rootfs


def _locate(rootfs: Rootfs, program: Program) -> tuple[str, File]:
    if not program.path:
        return _only_wasm(rootfs)
    for path in _places(program):
        file = rootfs.find(path)
        if file is not None:
            return path, file
    raise UnsupportedArtifact(f"the image starts {shown(program.path)}, but there is no such file in it; build it anew")


def _places(program: Program) -> Iterator[str]:
    """Where argv[0] may lie: as the kernel takes it, then as a shell looks for it."""
    if program.path.startswith("/"):
        yield program.path
        return
    yield f"{program.working_dir}/{program.path}"
    yield f"/{program.path}"
    if "/" not in program.path:
        search = next((each.partition("=")[2] for each in program.env if each.startswith("PATH=")), _DEFAULT_PATH)
        yield from (f"{directory}/{program.path}" for directory in search.split(":"))


def _only_wasm(rootfs: Rootfs) -> tuple[str, File]:
    found = [(path, file) for path, file in rootfs.files() if path.endswith((".wasm", ".wat"))]
    chosen = found if len(found) == 1 else [each for each in found if each[0] == f"/{_PLUGIN}"]
    if chosen:
        return chosen[0]
    if not found:
        raise UnsupportedArtifact("the image names no program, and no .wasm file is in it; it is no Wasm image")
    names = ", ".join(shown(path) for path, _file in found[:3])
    raise UnsupportedArtifact(
        f"the image names no program and has {len(found)} .wasm files ({names}…); build it with an ENTRYPOINT"
    )


def _write(chunks: Iterator[bytes], out: BinaryIO, name: str) -> None:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    _check_wasm(head, name)
    out.write(head)
    for chunk in chunks:
        out.write(chunk)


def _check_wasm(head: bytes, name: str) -> None:
    if looks_like_wat(head):
        return
    try:
        preamble(head)
    except InvalidWasm as error:
        raise UnsupportedArtifact(f"{name}: {error}") from None


def _check_size(size: int, name: str) -> None:
    if size > MAX_PROGRAM:
        raise UnsupportedArtifact(f"{shown(name)} has {size} bytes; no Wasm program has more than {MAX_PROGRAM}")


def _drain(chunks: Iterator[bytes]) -> None:
    """Read to the end, where the digest is checked."""
    for _ in chunks:
        pass

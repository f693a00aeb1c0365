"""Verbs that make images of programs: `pack`, and `push`, which sends one."""

import os
import shutil
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.layout import Layout
from oci.pack import Packed
from oci.pack import pack as pack_program
from oci.pack_options import ArtifactLayout, PackOptions, source_date
from oci.reference import Reference
from oci.wasm_binary import looks_like_wat
from wasm_shim.cli.output import OURS, Refusal, say
from wasm_shim.cli.remote import progress, registry_options
from wasm_shim.images.start import is_path
from wasm_shim.images.store import find_one, key, open_store
from wasm_shim.paths import images_path
from wasm_shim.runtime.source import open_program

_HEAD = 64 << 10  # bytes that tell text from a binary


def pack(values: dict[str, Any]) -> int:
    """Pack a program into the store or into a directory."""
    tag, directory = values["tag"], values["output"]
    if bool(tag) == bool(directory):
        raise Refusal(OURS, "say where to: -t REF keeps the image here, -o DIR writes it to a directory")
    reference = Reference.parse(tag) if tag else None
    packed = packed_program(values["FILE"], _options(values))
    if reference:
        made = copy(packed, packed.name, open_store(images_path(os.environ)), _new_name(reference))
    else:
        made = _to_directory(packed, Path(directory))
    _report(f"Packed: {reference.familiar() if reference else directory}", made, quiet=values["quiet"])
    return 0


def push(values: dict[str, Any]) -> int:
    """Send a program or an image to a registry."""
    from wasm_shim.images.transfer import push as push_image

    file, target = (values["FILE"], values["REF"]) if values["REF"] else ("", values["FILE"])
    if not target or (not file and is_path(target)):
        raise Refusal(OURS, "missing argument REF, which says where to; see: wasm-shim push --help")
    reference = Reference.parse(target)
    source: Layout | Packed
    if file:
        source = packed_program(file, _options(values))
        name = source.name
    else:
        _check_no_pack_options(values)
        source = open_store(images_path(os.environ))
        name = str(find_one(source, target).descriptor.digest)
    if reference.digest and str(reference.digest) != name:
        raise Refusal(OURS, f"{reference.familiar()} has another digest than what is pushed, {name}; leave it out")
    with progress(quiet=values["quiet"]) as report:
        sent = push_image(source, name, reference, registry_options(values), report)
    _report(f"Pushed: {reference.familiar()}", sent, quiet=values["quiet"])
    return 0


def packed_program(path: str, options: PackOptions) -> Packed:
    """The artifact of a program's file; of text it is that of the binary, named NAME.wasm. Raises OciError and
    WasmShimError."""
    descriptor = open_program(path)
    with os.fdopen(descriptor, "rb") as file:
        if not looks_like_wat(file.read(_HEAD)):
            return pack_program(Path(path), options)
        from wasm_shim.runtime.text import translate  # wasmtime's own Python, which takes 80 ms

        file.seek(0)
        binary = translate(file.read(), path)
    return pack_program(BytesIO(binary), options, f"{Path(path).stem}.wasm")


def _options(values: dict[str, Any]) -> PackOptions:
    layouts = {layout.value: layout for layout in ArtifactLayout}
    layout = values["layout"] or ArtifactLayout.CNCF.value
    if layout not in layouts:
        raise Refusal(OURS, f"--layout {layout} is not known; write one of {', '.join(layouts)}")
    chosen = {"user": values["user"]} if values["user"] else {}
    return PackOptions(
        layouts[layout],
        cmd=tuple(values["cmd"]),
        env=tuple(values["env"]),
        labels=_pairs("--label", values["label"]),
        annotations=_pairs("--annotation", values["annotation"]),
        created=source_date(os.environ),
        **chosen,
    )


def _pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Refusal(OURS, f"{option} {text!r} has no name or no value; write NAME=VALUE")
        pairs[name] = value
    return pairs


def _check_no_pack_options(values: dict[str, Any]) -> None:
    given = [f"--{name}" for name in ("layout", "env", "cmd", "label", "annotation", "user") if values[name]]
    if given:
        raise Refusal(OURS, f"{given[0]} is for packing, and no FILE is given; name the program before REF")


def _new_name(reference: Reference) -> str:
    if reference.digest:
        raise Refusal(OURS, f"{reference.familiar()} has a digest, and a new image gets its own; give a tag")
    return key(reference)


def _to_directory(packed: Packed, directory: Path) -> Descriptor:
    """As a layout, whose one name is `latest`; a new directory appears whole or not at all."""
    new = not directory.exists()
    try:
        return copy(packed, packed.name, Layout.create(directory), "latest")
    except BaseException:
        if new:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _report(sentence: str, made: Descriptor, *, quiet: bool) -> None:
    if not quiet:
        say(f"Digest: {made.digest}")
        say(sentence)
    else:
        say(str(made.digest))

"""Verbs about the images here: `images`, `tag`, `rmi`, `save`, `load`."""

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from oci.archive import load as load_archive
from oci.archive import save as save_archive
from oci.content import read_all
from oci.descriptor import Descriptor
from oci.errors import InvalidReference, NotFound, OciError
from oci.forms import Form
from oci.graph import graph
from oci.layout import Layout
from oci.manifest import MAX_MANIFEST, Index, parse_manifest
from oci.program import LINUX_AMD64, read_artifacts
from oci.reference import Reference
from wasm_shim.cli.output import OURS, Refusal, complain, say, table
from wasm_shim.images.start import forget
from wasm_shim.images.store import find, find_one, key, open_store, short_id
from wasm_shim.paths import images_path, user_paths

_NONE = "<none>"
_WORDS = {Form.CNCF: "cncf", Form.RUNWASI: "runwasi", Form.IMAGE: "image", Form.WASI_IMAGE: "image", Form.CRUN: "image"}


class _Row(NamedTuple):
    repository: str
    tag: str
    descriptor: Descriptor
    layout: str
    size: int


def images(values: dict[str, Any]) -> int:
    """List names, sorted, with what they lead to."""
    store = open_store(images_path(os.environ))
    rows = sorted((_row(store, *each) for each in store.tags()), key=lambda row: (row.repository, row.tag))
    if values["json"]:
        for row in rows:
            say(json.dumps(_as_json(row)))
    elif values["quiet"]:
        for identity in dict.fromkeys(_identity(row, full=values["digests"]) for row in rows):
            say(identity)
    else:
        title = "DIGEST" if values["digests"] else "IMAGE ID"
        lines: list[tuple[str, ...]] = [("REPOSITORY", "TAG", title, "LAYOUT", "SIZE")]
        for row in rows:
            identity = _identity(row, full=values["digests"])
            lines.append((row.repository, row.tag, identity, row.layout, size_text(row.size)))
        table(lines)
    return 0


def _identity(row: _Row, *, full: bool) -> str:
    return str(row.descriptor.digest) if full else short_id(row.descriptor)


def _as_json(row: _Row) -> dict[str, Any]:
    tag = "" if row.tag == _NONE else row.tag
    identity = {"digest": str(row.descriptor.digest), "id": short_id(row.descriptor)}
    return {"repository": row.repository, "tag": tag, **identity, "layout": row.layout, "size": row.size}


def _row(store: Layout, name: str, descriptor: Descriptor) -> _Row:
    repository, tag = _NONE, _NONE
    with suppress(InvalidReference):
        reference = Reference.parse("" if name == str(descriptor.digest) else name)
        bare = Reference(reference.registry, reference.repository, "x").familiar()
        repository, tag = bare.removesuffix(":x"), reference.tag or _NONE
    try:
        return _Row(repository, tag, descriptor, layout_word(store, descriptor), total_size(store, descriptor))
    except OciError as error:
        complain(f"{name}: {error}")
        return _Row(repository, tag, descriptor, "damaged", 0)


def layout_word(store: Layout, descriptor: Descriptor) -> str:
    """What an image is, in one word."""
    if isinstance(parse_manifest(read_all(store, descriptor, MAX_MANIFEST), descriptor.media_type), Index):
        return "index"
    (artifact,) = read_artifacts(store, descriptor, LINUX_AMD64)
    return layout_name(artifact.form)


def layout_name(form: Form) -> str:
    """One word for a form: the layout by which `pack` makes it, where it does."""
    return _WORDS.get(form, form.name.lower().replace("_", "-"))


def total_size(store: Layout, descriptor: Descriptor) -> int:
    """Bytes of all that an image consists of."""
    found = graph(store, [descriptor])
    return sum(size for _, size in (*found.blobs, *found.parents))


def size_text(size: int) -> str:
    """A size with three digits, in the units that Docker shows."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g}GB" if amount < 999.5 else f"{amount:.0f}GB"


def tag(values: dict[str, Any]) -> int:
    """Give an image another name."""
    store = open_store(images_path(os.environ))
    target = Reference.parse(values["TARGET"])
    if target.digest:
        raise Refusal(OURS, f"{target.familiar()} has a digest, which cannot be given; give a tag")
    source = find_one(store, values["SOURCE"])
    store.tag(key(target), source.descriptor)
    if source.name == str(source.descriptor.digest):  # it had no name until now
        store.untag(source.name)
    return 0


def rmi(values: dict[str, Any]) -> int:
    """Remove names, then what they alone led to, and say so."""
    store, code = open_store(images_path(os.environ)), 0
    for text in values["REF"]:
        try:
            found = find(store, text)
            if not found:
                raise NotFound(f"there is no image {text} here; wasm-shim images lists them")
            if len(found) > 1:
                names = ", ".join(_shown(each.name) for each in found)
                raise NotFound(f"{text} has several names: {names}; name those that are to go")
            store.untag(found[0].name)
            say(f"Untagged: {_shown(found[0].name)}")
        except OciError as error:
            complain(str(error))
            code = OURS
    removed = store.collect()
    for blob in removed:
        say(f"Deleted: {blob.digest}")
    forget(user_paths(os.environ).cache, [blob.digest.hex for blob in removed])
    return code


def _shown(name: str) -> str:
    try:
        return Reference.parse(name).familiar()
    except InvalidReference:
        return name


def save(values: dict[str, Any]) -> int:
    """Write an archive: to a file that appears whole, or to stdout."""
    store = open_store(images_path(os.environ))
    names = [find_one(store, text).name for text in values["REF"]]
    if values["output"] in ("", "-"):
        if sys.stdout.isatty():
            raise Refusal(OURS, "an archive is nothing for a terminal; use -o FILE, or a pipe")
        save_archive(store, names, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    _save_to(store, names, Path(values["output"]))
    return 0


def _save_to(store: Layout, names: list[str], path: Path) -> None:
    if path.exists() and not path.is_file():  # a device, or a pipe with a name
        with path.open("wb", buffering=0) as out:
            save_archive(store, names, out)
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            save_archive(store, names, out)
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load(values: dict[str, Any]) -> int:
    """Take in an archive, and say what it brought."""
    if values["input"] not in ("", "-"):
        with Path(values["input"]).open("rb") as file:
            return _load(file)
    if sys.stdin.isatty():
        raise Refusal(OURS, "an archive cannot be typed; use -i FILE, or a pipe")
    return _load(sys.stdin.buffer)


def _load(stream: BinaryIO) -> int:
    store = open_store(images_path(os.environ))
    for name in load_archive(stream, store):
        say(f"Loaded: {_renamed(store, name)}")
    return 0


def _renamed(store: Layout, name: str) -> str:
    """Give what an archive brought its full name, and where it has none but a tag, that of its digest."""
    descriptor = store.resolve(name)
    try:
        reference = Reference.parse(name) if "/" in name or ":" in name else None
    except InvalidReference:
        reference = None
    if reference is None or name.startswith("sha256:"):
        full, shown = str(descriptor.digest), f"{descriptor.digest}; give it a name with: wasm-shim tag"
    else:
        full, shown = key(reference), reference.familiar()
    if full != name:
        store.tag(full, descriptor)
        store.untag(name)
    return shown

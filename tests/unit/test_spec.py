"""Reading config.json: what is taken, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.container.spec import parse_spec, read_bundle
from wasm_shim.errors import InvalidArgument, NotFound, PermissionDenied, Unimplemented
from wasm_shim.guest import Mount

TEXT = st.text(max_size=10) | st.text(st.characters(), max_size=3) | st.sampled_from(["/", "/a", "A=1", "bind", "\0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MOUNTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("destination", "source", "type", "options"), JSON))
PROCESSES = st.fixed_dictionaries(
    {"args": st.just(["/a"]) | st.lists(TEXT, min_size=1, max_size=3) | JSON, "cwd": st.just("/") | TEXT | JSON},
    optional={
        "env": st.lists(TEXT | st.just("A=1"), max_size=3) | JSON,
        "terminal": st.booleans() | JSON,
        "user": st.fixed_dictionaries({}, optional=dict.fromkeys(("uid", "gid", "additionalGids", "umask"), JSON)),
        "rlimits": st.lists(st.fixed_dictionaries({"type": TEXT, "soft": JSON, "hard": JSON}), max_size=2) | JSON,
        "oomScoreAdj": JSON,
    },
)
ROOTED = {
    "mounts": st.lists(MOUNTS | JSON, max_size=2),
    "root": st.just({"path": "rootfs"}) | JSON,
    "linux": st.fixed_dictionaries({}, optional=dict.fromkeys(("namespaces", "cgroupsPath", "resources"), JSON)) | JSON,
    "hostname": JSON,
    "hooks": JSON,
}
DOCUMENTS = st.fixed_dictionaries({"process": PROCESSES | JSON}, optional=ROOTED)


def spec(**process: Any) -> bytes:
    """A document with this process."""
    return json.dumps({"process": {"args": ["/a.wasm"], "cwd": "/", **process}}).encode()


def mounted(**mount: Any) -> bytes:
    """A document with this mount."""
    given_mount = {"destination": "/data", "source": "/srv", "type": "bind", **mount}
    return json.dumps({"process": {"args": ["/a.wasm"], "cwd": "/"}, "mounts": [given_mount]}).encode()


@given(DOCUMENTS)
def test_json_of_any_shape(document: Any) -> None:
    """Whatever the fields hold, the document is a spec that the kernel can take, or InvalidArgument."""
    with contextlib.suppress(InvalidArgument, Unimplemented):
        parsed = parse_spec(json.dumps(document).encode())
        assert parsed.arguments
        texts = [*parsed.arguments, parsed.working_directory]
        texts += [text for pair in parsed.environment for text in pair]
        texts += [text for mount in parsed.mounts for text in mount if isinstance(text, str)]
        assert all(b"\0" not in os.fsencode(text) for text in texts)


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    """Bytes that are no JSON are InvalidArgument."""
    with contextlib.suppress(InvalidArgument):
        parse_spec(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b"\xff", b"", b"null", b"[]", b'"a"'])
def test_rejects_odd_documents(data: bytes) -> None:
    """Deep nesting, huge numbers, no UTF-8, nothing, and JSON without a process are InvalidArgument."""
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        parse_spec(data)


def test_reads_a_process() -> None:
    """Arguments, variables, directory and terminal are taken as they are; variables may be empty or hold `=`."""
    parsed = parse_spec(spec(args=["a", ""], env=["A=1=2", "B="], cwd="/x", terminal=True))
    assert parsed.arguments == ("a", "")
    assert parsed.environment == (("A", "1=2"), ("B", ""))
    assert (parsed.working_directory, parsed.terminal, parsed.mounts) == ("/x", True, ())


def test_unknown_fields_and_nulls_are_left_alone() -> None:
    """The runtime spec has more fields than we read, and writers put null where they have nothing."""
    parsed = parse_spec(spec(env=None, terminal=None, user={"uid": 0}, capabilities={"bounding": []}))
    assert (parsed.environment, parsed.terminal) == ((), False)


@pytest.mark.parametrize(
    ("options", "read_only"), [(["ro"], True), (["rbind", "ro"], True), (["rbind", "rw"], False), (None, False)]
)
def test_reads_a_mount(options: list[str] | None, read_only: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A bind mount is writable unless it says `ro`."""
    assert parse_spec(mounted(options=options)).mounts == (Mount("/srv", "/data", read_only),)


def test_bind_is_known_by_its_options() -> None:
    """Docker writes bind mounts with type `none` or another, and the option `rbind`."""
    assert parse_spec(mounted(type="none", options=["rbind"])).mounts


def test_names_that_are_no_text_pass() -> None:
    """Bytes that are no UTF-8 in a path are written as JSON has them and stay what they were."""
    [mount] = parse_spec(mounted(source=os.fsdecode(b"/\xff"))).mounts
    assert isinstance(mount, Mount)
    assert os.fsencode(mount.source) == b"/\xff"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (spec(args=[]), "process.args in config.json is empty"),
        (spec(args=None), "process.args in config.json is empty"),
        (spec(args="a"), "args in config.json is no list"),
        (spec(args=["a\0b"]), "args in config.json holds something that is no string, or a NUL"),
        (spec(args=["\ud800"]), "args in config.json holds something that is no string"),
        (spec(env=["A"]), "env in config.json holds 'A'; write NAME=VALUE"),
        (spec(env=["=A"]), "env in config.json holds '=A'"),
        (spec(env=[1]), "env in config.json holds something that is no string"),
        (spec(cwd="tmp"), "process.cwd in config.json is 'tmp'; it must be an absolute path"),
        (spec(cwd=None), "cwd is missing in config.json"),
        (spec(cwd="/" + "d" * 4095), "cwd in config.json is longer than the 4095 bytes that the kernel takes"),
        (spec(cwd="/a\0"), "cwd in config.json holds a NUL"),
        (spec(terminal="yes"), "terminal in config.json is no boolean"),
        (mounted(type="tmpfs"), "mount /data in config.json has type tmpfs; only bind mounts are served"),
        (mounted(source="srv"), "mount srv to /data in config.json: both must be absolute paths"),
        (mounted(destination="data"), "mount to data in config.json: it must be an absolute path"),
        (mounted(source="/a\0"), "source in config.json holds a NUL"),
        (mounted(destination="/\udcff\ud800"), "destination in config.json holds a NUL or half a character"),
        (mounted(options=[1]), "options in config.json holds something that is no string"),
        (json.dumps({"process": {"args": ["a"], "cwd": "/"}, "mounts": [1]}).encode(), "destination is missing"),
        (json.dumps({"process": {"args": ["a"], "cwd": "/"}, "mounts": "a"}).encode(), "mounts in config.json is no"),
        (b"{}", "process is missing in config.json, or is no object"),
        (b"[" * 100_000, "config.json is nested too deeply; write it again"),
        (b"9" * 5000, "config.json holds what is no text and no number of JSON"),
        (b"\xff", "config.json holds what is no text and no number of JSON"),
        (b"[NaN]", "config.json holds what is no text and no number of JSON"),
        (b"{", "config.json is no JSON: Expecting property name"),
    ],
)
def test_rejects_with_the_field(data: bytes, sentence: str) -> None:
    """Each fault is named with its field."""
    with pytest.raises(InvalidArgument, match=sentence):
        parse_spec(data)


def test_rejects_a_bundle_without_a_file(tmp_path: Path) -> None:
    """A bundle without config.json is NotFound, one whose config.json leads nowhere PermissionDenied."""
    with pytest.raises(NotFound, match=r"no config\.json in the bundle"):
        read_bundle(str(tmp_path))
    (tmp_path / "config.json").symlink_to("config.json")
    with pytest.raises(PermissionDenied, match=r"cannot read .*config\.json: Too many levels of symbolic links"):
        read_bundle(str(tmp_path))


def test_reads_a_bundle(tmp_path: Path) -> None:
    """The spec of a bundle is its config.json."""
    (tmp_path / "config.json").write_bytes(spec())
    assert read_bundle(str(tmp_path)) == parse_spec(spec())


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "large"])
def test_what_is_no_document_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    """A FIFO, a directory and a device are refused at once, a file of 9 MiB by its size; no descriptor stays."""
    path, before = tmp_path / "config.json", len(list(Path("/proc/self/fd").iterdir()))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 9 << 20)
    with pytest.raises(InvalidArgument, match="has 9437184 bytes" if kind == "large" else "is no regular file"):
        read_bundle(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before

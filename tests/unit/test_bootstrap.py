"""What containerd says at the start of a shim, and the answer, held against what protoc makes of proto/."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any as GoogleAny
from google.protobuf.message import DecodeError as GoogleDecodeError
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.api import bootstrap_pb2, introspection_pb2
from wasm_shim.shim.bootstrap import (
    BootstrapParams,
    BootstrapResult,
    Extension,
    Form,
    RuntimeInfo,
    RuntimeVersion,
    encode_result,
    form_for,
    read_params,
)
from wasm_shim.ttrpc.well_known import Any

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(max_size=20)
PARAMS = BootstrapParams(instance_id="a", namespace="b", containerd_grpc_address="/c")


@given(st.tuples(*[TEXT] * 7), st.integers(-8, 12), st.lists(st.tuples(TEXT, st.binary(max_size=20)), max_size=3))
def test_params_as_protobuf_writes_them(
    texts: tuple[str, ...], level: int, extensions: list[tuple[str, bytes]]
) -> None:
    """What containerd encodes is what we read."""
    names = "instance_id namespace containerd_version containerd_ttrpc_address containerd_grpc_address".split()
    values = dict(zip([*names, "containerd_binary", "socket_dir"], texts, strict=True))
    theirs = bootstrap_pb2.BootstrapParams(**values, log_level=level)  # type: ignore[arg-type] # any int: an open enum
    for url, value in extensions:
        theirs.extensions.add().value.CopyFrom(GoogleAny(type_url=url, value=value))
    ours = [Extension(value=Any(type_url=url, value=value)) for url, value in extensions]
    expected = BootstrapParams(**values, log_level=level, extensions=ours)
    assert BootstrapParams.decode(theirs.SerializeToString()) == expected
    assert bootstrap_pb2.BootstrapParams.FromString(expected.encode()).instance_id == texts[0]


@given(TEXT.map(lambda text: f"/{text}"))
def test_result_as_protobuf_reads_it(path: str) -> None:
    """What we answer is what containerd reads."""
    read = bootstrap_pb2.BootstrapResult.FromString(encode_result(Form.RESULT, path))
    assert (read.version, read.address, read.protocol) == (3, f"unix://{path}", "ttrpc")
    assert BootstrapResult.decode(read.SerializeToString()).address == f"unix://{path}"


def test_info_as_protobuf_reads_it() -> None:
    """Likewise RuntimeInfo."""
    encoded = RuntimeInfo(name="n", version=RuntimeVersion(version="1", revision="r")).encode()
    read = introspection_pb2.RuntimeInfo.FromString(encoded)
    assert (read.name, read.version.version, read.version.revision) == ("n", "1", "r")


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).map(lambda text: f"/run/{text}")


@given(PATHS)
def test_older_answers_are_no_protobuf(path: str) -> None:
    """containerd 2.3 tries protobuf first: neither JSON nor an address may pass for it."""
    assert json.loads(encode_result(Form.JSON, path)) == {
        "version": 3,
        "address": f"unix://{path}",
        "protocol": "ttrpc",
    }
    assert encode_result(Form.BARE, path).decode() == f"unix://{path}"
    for form in (Form.JSON, Form.BARE):
        with pytest.raises(GoogleDecodeError):
            bootstrap_pb2.BootstrapResult.FromString(encode_result(form, path))


# Standard input


def read_from_pipe(data: bytes, id_: str = "a", namespace: str = "b") -> BootstrapParams | None:
    """The parameters in a pipe that holds these bytes."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        return read_params(reader, id_, namespace)
    finally:
        os.close(reader)


@pytest.mark.parametrize("flags", [("a", "b"), ("", "b"), ("a", ""), ("", "")])
def test_params_that_fit(flags: tuple[str, str]) -> None:
    """They count where they name the container of the flags, or the flags name none."""
    assert read_from_pipe(PARAMS.encode(), *flags) == PARAMS


@pytest.mark.parametrize(
    "data", [b"", b"\xff", Any(type_url="a", value=b"\xff").encode(), Any(type_url="a").encode(), b"unix:///a"]
)
def test_input_that_holds_no_params(data: bytes) -> None:
    """Nothing, garbage and runtime options are none, even where the flags name nothing."""
    assert read_from_pipe(data) is None
    assert read_from_pipe(data, "", "") is None


@given(st.binary(max_size=100))
def test_any_input(data: bytes) -> None:
    """Whatever comes is parameters or not."""
    params = read_from_pipe(data, "", "")
    assert params is None or params.instance_id


def test_kinds_of_input(tmp_path: Path) -> None:
    """A file and a socket are read; a device and a directory are not."""
    (tmp_path / "file").write_bytes(PARAMS.encode())
    for path, expected in ((tmp_path / "file", PARAMS), (tmp_path, None), ("/dev/zero", None), ("/dev/null", None)):
        descriptor = os.open(path, os.O_RDONLY)
        assert read_params(descriptor, "a", "b") == expected
        os.close(descriptor)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(PARAMS.encode())
        theirs.close()
        assert read_params(ours.fileno(), "a", "b") == PARAMS


def test_terminal_is_not_read() -> None:
    """Nobody is asked to type parameters."""
    master, slave = os.openpty()
    os.write(master, PARAMS.encode() + b"\n")
    assert read_params(slave, "a", "b") is None
    os.close(master)
    os.close(slave)


# The version


def test_no_binary(tmp_path: Path) -> None:
    """No binary, none that can be run, or a directory: the bare address, and nothing is kept."""
    (tmp_path / "text").write_text("containerd", encoding="ascii")
    for path in ("", str(tmp_path / "none"), str(tmp_path / "text"), str(tmp_path)):
        assert form_for(path, str(tmp_path)) is Form.BARE
    assert not (tmp_path / "versions").exists()


def test_damaged_note_is_replaced(tmp_path: Path) -> None:
    """What is kept of a binary and cannot be read is asked for again."""
    path = tmp_path / "containerd"
    path.write_text("#!/bin/sh\necho containerd a v2.0\n", encoding="ascii")
    path.chmod(0o755)
    assert form_for(str(path), str(tmp_path)) is Form.JSON
    [note] = (tmp_path / "versions").iterdir()
    for text in ("", "x", "-1", "²"):
        note.write_text(text, encoding="utf-8")
        assert form_for(str(path), str(tmp_path)) is Form.JSON
        assert note.read_text(encoding="ascii") == "2"
    note.write_text("1", encoding="ascii")
    assert form_for(str(path), str(tmp_path)) is Form.BARE

"""`start` and `delete` with garbage in flags, on standard input and in the bundle: an answer or one sentence."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import private_home
from tests.integration.commands import SCRIPT, Commands, kill
from tests.integration.hostile import check_sentence, examples
from wasm_shim.container.cgroup import cgroup_at, path_without_spec
from wasm_shim.shim.bootstrap import BootstrapParams, BootstrapResult, Extension
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.ttrpc.wire import encode_varint

IDS: Final = ("one", "two")  # each may get a shim


pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shim() -> Iterator[Commands]:
    with private_home(0) as home:
        commands = Commands(home)
        commands.start("one")
        yield commands
        kill(*commands.shims())
        assert commands.start("one").startswith(b"unix:///")
        kill(*commands.shims())


def told(shim: Commands, words: list[str | bytes], id_: str = "one", **options: Any) -> bytes:
    """What a command prints that succeeds, and nothing for one that is refused in one sentence."""
    done = subprocess.run([SCRIPT, *words], **shim.options(id_) | {"timeout": 30, "check": False} | options)
    said: bytes = done.stdout
    assert done.returncode in (0, 1), said
    if done.returncode == 0:
        return said
    check_sentence(said.decode(errors="surrogateescape"))
    return b""


def field(number: int, value: bytes) -> bytes:
    """One field of a message."""
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


names = st.sampled_from(["one", "test", "", "a/b", "..", "a\0b", "\n", "unix:///x", "ü", "n" * 300])
texts = st.one_of(names, st.text())
params = st.builds(
    BootstrapParams,
    instance_id=texts,
    namespace=texts,
    log_level=st.integers(-(1 << 31), (1 << 31) - 1),
    containerd_version=texts,
    containerd_ttrpc_address=texts,
    containerd_grpc_address=texts,
    containerd_binary=texts,
    extensions=st.lists(st.builds(Extension, value=st.builds(AnyMessage, type_url=texts, value=st.binary(max_size=9)))),
    socket_dir=texts,
)
inputs = st.one_of(
    st.binary(max_size=100),
    params.map(BootstrapParams.encode),
    st.builds(lambda message, cut: message.encode()[:cut], params, st.integers(0, 60)),
    st.binary(max_size=30).map(BootstrapParams(instance_id="one", namespace="test").encode().__add__),
    st.lists(st.builds(field, st.integers(1, 9), st.binary(max_size=20))).map(b"".join),
)


@examples(60)
@given(sent=inputs, named=st.booleans())
def test_any_parameters(shim: Commands, sent: bytes, *, named: bool) -> None:
    """What is no BootstrapParams for this container is passed over where flags say what is needed."""
    options: dict[str, Any] = {"stdin": None, "input": sent}
    flags = ["-namespace", "test", "-address", "/x", "-id", "one"] if named else []
    said = told(shim, [*flags, "start"], **options)
    assert said.startswith((b"unix:///", BootstrapResult(version=3).encode())) or not (said or named)
    kill(*shim.shims()[8:])  # garbage may name as many containers as it likes


words = st.one_of(
    st.sampled_from(
        "-namespace -id -address -publish-binary -bundle -debug -info -v --id=one -id= -- - start delete help one test"
        " -id=../x -bundle=/dev -bundle=/nowhere -namespace=a/b -unknown -unknown=1".split()
    ),
    st.binary(max_size=12).filter(lambda word: b"\0" not in word),
    st.just("w" * 70000),
)


@examples(60)
@given(line=st.lists(words, max_size=6), last=st.sampled_from(["start", "delete"]))
def test_any_flags(shim: Commands, line: list[str | bytes], last: str) -> None:
    """Flags without values, values without flags, bytes that are no text, words that are too long for a request."""
    told(shim, [*line, last])
    kill(*shim.shims()[8:])


DOCUMENTS: Final = (
    b"",
    b"[]",
    b"\xff\xfe",
    b"[" * 100000,
    json.dumps({"annotations": {"io.kubernetes.cri.sandbox-id": "\ud800"}}).encode(),
    json.dumps({"annotations": {"io.kubernetes.cri.sandbox-id": "x" * 100000}}).encode(),
    json.dumps({"annotations": ["io.kubernetes.cri.sandbox-id"], "linux": {"cgroupsPath": 7}}).encode(),
    json.dumps({"root": {}, "linux": {"cgroupsPath": "/\ud800"}}).encode(),
    json.dumps({"root": {}, "linux": {"cgroupsPath": "/a\0b"}}).encode(),
    json.dumps({"root": {}, "linux": {"cgroupsPath": "/" + "x" * 5000}}).encode(),
    json.dumps({"root": {}, "linux": [], "annotations": None}).encode(),
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document[:50].decode(errors="replace"))
@pytest.mark.parametrize("action", ["start", "delete"])
def test_any_bundle(shim: Commands, action: str, document: bytes) -> None:
    """`start` finds a place and `delete` says that the container has gone, whatever stands in the bundle."""
    (shim.bundle("two") / "config.json").write_bytes(document)
    flags = ["-namespace", "test", "-address", "/x", "-id", "two", "-bundle", str(shim.bundle("two"))]
    said = told(shim, [*flags, action], "two")
    if action == "start":
        assert said.startswith(b"unix:///")
    else:
        assert messages.DeleteResponse.decode(said).exit_status == 137
    kill(*shim.shims()[8:])


def test_cgroup_without_a_path(shim: Commands) -> None:
    """`delete` finds the cgroup that Create makes for a spec that names none."""
    cgroup = cgroup_at(path_without_spec("unnamed"), systemd=False)
    cgroup.create({})
    shim.bundle("unnamed", root={"path": "rootfs"})
    assert shim.delete("unnamed").exit_status == 137
    assert not [path for path in cgroup.entrances() if Path(path).exists()]

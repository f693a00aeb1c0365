"""Create with mounts, streams, options and ids without sense: a clear status, and nothing is left."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.hostile import Bundle, bundle, examples
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage
from wasm_shim.ttrpc.well_known import Mount

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def container(guest: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle(guest("kit_p1.wasm"), tmp_path_factory.mktemp("malformed")) as container:
        yield container


paths = st.one_of(
    st.sampled_from(["", "/", "/nowhere/x", "relative", "/dev/null", "/dev/full", "/proc/self/mem", "a\0b"]),
    st.sampled_from(["/" * 5000, "/" + "n" * 300]),
    st.sampled_from(["file:///", "file://", "fifo://", "binary:///bin/true?a=b", "://", "file://a", "nfs://x/y", "\n"]),
    st.text(max_size=4),
)
mounts = st.builds(
    Mount,
    type=st.sampled_from(["bind", "overlay", "tmpfs", "ext4", "proc", "sysfs", "no-such", "", "a\0b", "x" * 5000]),
    source=paths,
    target=st.sampled_from(["", "/", "..", "../../x", "a/b", "bin/../../x", "app.wasm", "x/" * 100, "n" * 300, "\0"]),
    options=st.lists(
        st.one_of(
            st.sampled_from("bind rbind ro lowerdir=/a:/b lowerdir= upperdir=/x workdir=/y size=x loop".split()),
            st.sampled_from(["uidmap=0:1:2", "lowerdir=" + "a:" * 3000, "lowerdir=/a:b" + ":/a" * 2000, "ü" * 2100]),
            st.text(max_size=4),
        ),
        max_size=4,
    ),
)
packed = st.builds(
    AnyMessage,
    type_url=st.sampled_from(
        [messages.RunOptions.TYPE_URL, messages.RuncOptions.TYPE_URL, messages.RuntimeOptions.TYPE_URL, "", "x/y", "\n"]
    ),
    value=st.one_of(
        st.binary(max_size=40),
        st.builds(messages.RunOptions, program=paths, entrypoint=paths, invoke=st.text(max_size=4)).map(
            messages.RunOptions.encode
        ),
        st.builds(
            messages.RuntimeOptions, type_url=paths, config_path=paths, config_body=st.binary(max_size=60)
        ).map(messages.RuntimeOptions.encode),
    ),
)


@examples(300)
@given(
    rootfs=st.one_of(st.none(), st.lists(mounts, max_size=3)),
    streams=st.fixed_dictionaries({}, optional={"stdin": paths, "stdout": paths, "stderr": paths, "checkpoint": paths}),
    options=st.one_of(st.none(), packed),
    terminal=st.booleans(),
)
def test_any_request(
    container: Bundle,
    rootfs: list[Mount] | None,
    streams: dict[str, str],
    options: AnyMessage | None,
    *,
    terminal: bool,
) -> None:
    """Mounts, streams and options without sense."""
    document = container.fresh()
    document["process"]["terminal"] = terminal
    given = {"options": options, "terminal": terminal, **streams} | ({} if rootfs is None else {"rootfs": rootfs})
    container.attempt(json.dumps(document).encode(), **given)


@pytest.mark.parametrize("id_", ["", ".", "..", "a/b", "../../x", "a\0b", "i" * 256, "i" * 100000, "\n", "ü"])
def test_ids(container: Bundle, id_: str) -> None:
    """An id is one name, of what length a file's may be."""
    document = container.fresh()
    del document["linux"]["cgroupsPath"]
    container.write(json.dumps(document).encode())
    request = messages.CreateTaskRequest(id=id_, bundle=str(container.bundle), rootfs=container.rootfs)
    code = container.pod.outcome("Create", request.encode())
    assert code in ((Code.OK, Code.INVALID_ARGUMENT) if id_ in ("\n", "ü") else (Code.INVALID_ARGUMENT,))
    if code == Code.OK:
        container.pod.call("Delete", messages.DeleteRequest(id=id_))
    container.pod.settle()
    assert container.left() == []

"""Create from bundles that are wrong in every way: a clear status, in bounded time, and nothing is left."""

import json
import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.hostile import Bundle, bundle, examples
from tests.integration.rooted import stock_spec
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.envelope import Code
from wasm_shim.ttrpc.well_known import Any as AnyMessage

pytestmark = pytest.mark.root

SECONDS: Final = 3.0  # that the worst document may keep the shim from others, on a busy machine
Keys = tuple[str | int, ...]


@pytest.fixture(scope="module")
def container(guest: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with bundle(guest("kit_p1.wasm"), tmp_path_factory.mktemp("malformed")) as container:
        yield container


# Documents

TEXTS: Final = ("", "/", "/..", "../..", "a:b:c", ":", "//x//", "\0", "a\0b", "\ud800", "\udc80", "ü", "\n", "x=y")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), 10**4000]),
    st.sampled_from([1.5, -0.0, 1e300, float("inf"), float("nan")]),
    st.sampled_from(TEXTS),
    st.text(max_size=10),
    st.integers(1, 70000).map("z".__mul__),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, above: Keys = ()) -> Iterator[Keys]:
    """The keys that lead to each part of a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*above, key)
        yield from places(inner, (*above, key))


# Here any path would make directories of the host's; below are tests with chosen ones.
ELSEWHERE: Final = (("root", "path"), ("linux", "cgroupsPath"))
FULL: Final[dict[str, Any]] = stock_spec("/") | {"hooks": {}, "annotations": {"a": "b"}}
FULL["linux"]["namespaces"][0]["path"] = ""
FULL["process"] |= {"terminal": False, "oomScoreAdj": 0}
FULL["mounts"].append({"destination": "/x", "type": "bind", "source": "/nowhere", "options": ["rbind", "ro"]})
PLACES: Final = [place for place in places(FULL) if place not in ELSEWHERE]


def changed(document: Any, place: Keys, value: Any) -> None:
    """Put a value there, or take away what is there; not where an earlier change has left no such place."""
    for key in place[:-1]:
        try:
            document = document[key]
        except (LookupError, TypeError):
            return
    if isinstance(document, list) and isinstance(place[-1], int) and place[-1] < len(document):
        document[place[-1]] = None if value is ... else value
    elif isinstance(document, dict):
        if value is ...:
            document.pop(place[-1], None)
        else:
            document[place[-1]] = value


@examples(250)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), st.one_of(st.just(...), values)), min_size=1, max_size=3))
def test_any_document(container: Bundle, changes: list[tuple[Keys, Any]]) -> None:
    """A good document with up to three wrong values, or with parts missing."""
    document = deepcopy(FULL)
    document["linux"]["cgroupsPath"] = f"/{container.cgroup}"
    document["process"]["args"] = ["/app.wasm", "hello"]
    del document["mounts"][-1]
    for place, value in changes:
        changed(document, place, value)
    container.attempt(json.dumps(document).encode())


@examples(100)
@given(data=st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode())))
def test_no_document(container: Bundle, data: bytes) -> None:
    """Bytes that are no JSON, and JSON that is no document."""
    assert container.attempt(data) != Code.OK


resources = st.dictionaries(
    st.sampled_from(["memory", "cpu", "pids", "blockIO", "hugepageLimits", "unified", "devices", "network", "rdma"]),
    st.one_of(
        values,
        st.dictionaries(
            st.sampled_from(
                "limit swap reservation swappiness disableOOMKiller shares quota period burst idle cpus mems weight a.b"
                " ../x".split()
            ),
            st.one_of(values, st.sampled_from(["0-9999", "x" * 5000, "0\n1", 1 << 40, 4096, -2])),
            max_size=3,
        ),
        st.lists(st.dictionaries(st.sampled_from(["pageSize", "limit"]), st.sampled_from(["2MB", "3KB", 0, 1, "x"]))),
    ),
    max_size=3,
)


@examples(150)
@given(asked=resources)
def test_any_resources(container: Bundle, asked: dict[str, Any]) -> None:
    """Limits of odd shapes and sizes, in Create and in Update."""
    if isinstance(asked.get("cpu"), dict) and "quota" in asked["cpu"]:
        asked["cpu"]["quota"] = -1  # the least that the kernel takes would only be slow
    document = container.fresh()
    document["linux"]["resources"] = asked
    container.attempt(json.dumps(document).encode())
    update = messages.UpdateTaskRequest(id="nobody", resources=AnyMessage(value=json.dumps(asked).encode()))
    assert container.pod.outcome("Update", update.encode()) == Code.NOT_FOUND


@pytest.mark.parametrize("path", ["a/b", "a/" * 2000, "none/x", "/dev/null", "/dev/null/x", "config.json", "/"])
def test_root_paths(container: Bundle, path: str) -> None:
    """A place that is no directory, and one below places that are not there, which are not made."""
    document = container.fresh()
    document["root"]["path"] = path
    assert container.attempt(json.dumps(document).encode()) not in (Code.OK, Code.DEADLINE_EXCEEDED)
    assert {entry.name for entry in container.bundle.iterdir()} <= {"config.json", "rootfs", "fifo"}


CGROUPS: Final = [
    *("..", "/..", "/{}/..", "/{}/../../x", "/", ".", "", "a:b:c", "/cgroup.procs/x"),
    *("/{}/a/b", "/{}//a/", "/{}/ü", "/{}/a b", "/{}/\n", "/{}/a:b:c"),
    *("/{}/" + "n" * 256, "/{}/" + "n/" * 100, "/{}" + "/n" * 2047),
]


@pytest.mark.parametrize("path", CGROUPS, ids=lambda path: path[:12])
@pytest.mark.parametrize("systemd", [False, True], ids=["cgroupfs", "systemd"])
def test_cgroup_paths(container: Bundle, path: str, *, systemd: bool) -> None:
    """Paths that lead out, that are none and that are too long."""
    document = container.fresh()
    document["linux"]["cgroupsPath"] = path.format(container.cgroup)
    value = messages.RuncOptions(systemd_cgroup=systemd).encode()
    options = AnyMessage(type_url=messages.RuncOptions.TYPE_URL, value=value)
    code = container.attempt(json.dumps(document).encode(), options=options)
    assert code == Code.INVALID_ARGUMENT or ".." not in path


DOCUMENTS: Final[dict[str, Callable[[], bytes]]] = {
    "deep lists": lambda: b"[" * 5_000_000,
    "deep objects": lambda: b'{"process":' * 400_000,
    "many lists": lambda: b"[" + b"[]," * 1_700_000 + b"1]",
    "many keys": lambda: b"{%s}" % b",".join(b'"%d":1' % number for number in range(400_000)),
    "a number": lambda: b"9" * 5_000_000,
    "a text": lambda: b'"%s"' % (b"x" * 5_000_000),
    "UTF-16": lambda: json.dumps({"process": "x" * 2_000_000}).encode("utf-16"),
    "NULs": lambda: bytes(5_000_000),
    "100 MB": lambda: b'{"a":"' + b"x" * 100_000_000 + b'"}',
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_large_documents(container: Bundle, document: Callable[[], bytes]) -> None:
    """They keep the shim for a moment only."""
    data, began = document(), time.monotonic()
    assert container.attempt(data) == Code.INVALID_ARGUMENT
    assert time.monotonic() - began < SECONDS


def test_large_parts(container: Bundle) -> None:
    """Five megabytes in one place; where they mean something they are served."""
    large = "x" * 5_000_000
    parts: dict[Keys, tuple[Any, bool]] = {
        ("process", "args"): (["/app.wasm", "hello", large], True),
        ("process", "env"): ([f"A={large}"], True),
        ("process", "args", 0): (f"/{large}", False),
        ("process", "cwd"): (f"/{large}", False),
        ("root", "path"): ("a/" * 2_500_000, False),
        ("hostname",): (large, False),
        ("mounts", 0, "destination"): (f"/{large}", False),
        ("mounts", 0, "type"): (large, False),
        ("mounts", 7, "options"): ([large], False),
        ("linux", "cgroupsPath"): (f"/{large}", False),
        ("process", "user", "additionalGids"): (list(range(70000)), False),
    }
    for place, (value, served) in parts.items():
        document = container.fresh()
        changed(document, place, value)
        assert (container.attempt(json.dumps(document).encode()) == Code.OK) == served, place


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "socket", "loop", "dangling"])
def test_something_else_as_document(container: Bundle, kind: str, tmp_path: Path) -> None:
    """What is no file is refused at once, and waited for by nobody."""
    (tmp_path / "bundle").mkdir()
    path = tmp_path / "bundle/config.json"
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path),
        "directory": lambda: path.mkdir(),
        "device": lambda: os.mknod(path, 0o20666, os.makedev(1, 5)),
        "socket": lambda: os.mknod(path, 0o140666),
        "loop": lambda: path.symlink_to(path),
        "dangling": lambda: path.symlink_to(tmp_path / "none"),
    }
    make[kind]()
    began = time.monotonic()
    request = container.asked(bundle=str(path.parent)).encode()
    assert container.pod.outcome("Create", request) not in (Code.OK, Code.DEADLINE_EXCEEDED)
    assert time.monotonic() - began < SECONDS
    container.pod.settle()
    assert container.left() == []


def test_a_program_of_ten_gigabytes(container: Bundle) -> None:
    """It is refused by its size, without being read."""
    program = container.image / "large.wasm"
    program.touch()
    os.truncate(program, 10 << 30)
    document, began = container.fresh(), time.monotonic()
    document["process"]["args"] = ["/large.wasm"]
    assert container.attempt(json.dumps(document).encode()) == Code.INVALID_ARGUMENT
    assert time.monotonic() - began < SECONDS
    program.unlink()


NAMESPACES: Final = [
    *("/proc/self/ns/uts", "/proc/1/ns/mnt", "/proc/self/ns", "/dev/null"),
    *("/nowhere", "relative", "{}/fifo"),
]


@pytest.mark.parametrize("path", NAMESPACES)
@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "mount", "user", "time", "cgroup", "no-such"])
def test_namespaces(container: Bundle, kind: str, path: str) -> None:
    """Paths of other kinds and of nothing, and one at which one could wait for ever."""
    if not (container.bundle / "fifo").exists():
        os.mkfifo(container.bundle / "fifo")
    document, began = container.fresh(), time.monotonic()
    document["linux"]["namespaces"] = [{"type": kind, "path": path.format(container.bundle)}]
    code = container.attempt(json.dumps(document).encode())
    assert code != Code.OK or kind == "time"
    assert time.monotonic() - began < SECONDS


LIMITS: Final = {"AS": 1 << 20, "NOFILE": 0, "NPROC": 0, "STACK": 0, "CPU": 0, "DATA": 0, "FSIZE": 0, "MEMLOCK": 0}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_with_which_nothing_runs(container: Bundle, name: str) -> None:
    """The guest is refused or ends, as the limit has it; which of both is the kernel's affair."""
    document, limit = container.fresh(), LIMITS[name]
    document["process"]["rlimits"] = [{"type": f"RLIMIT_{name}", "soft": limit, "hard": limit}]
    container.attempt(json.dumps(document).encode())

"""What a spec with a root file system says of the walls: what is taken, what is refused."""

from __future__ import annotations

import json
import resource
from typing import Any

import pytest

from wasm_shim.container.isolation import Isolation, User
from wasm_shim.container.spec import Spec, parse_spec
from wasm_shim.errors import InvalidArgument, Unimplemented
from wasm_shim.guest import Mount, Tmpfs
from wasm_shim.kernel import calls

OWN = calls.CLONE_NEWPID | calls.CLONE_NEWIPC | calls.CLONE_NEWUTS


def parsed(process: dict[str, Any] | None = None, linux: Any = None, **document: Any) -> Spec:
    """The spec of a document with a root, in the bundle /bundle."""
    whole = {"process": {"args": ["/a.wasm"], "cwd": "/", **(process or {})}, "root": {"path": "rootfs"}}
    return parse_spec(json.dumps({**whole, "linux": linux, **document}).encode(), "/bundle")


def isolation(process: dict[str, Any] | None = None, linux: Any = None, **document: Any) -> Isolation:
    """Its isolation."""
    found = parsed(process, linux, **document).isolation
    assert found
    return found


def test_a_document_without_a_root_has_none() -> None:
    """That is the command line's own bundle."""
    assert parse_spec(b'{"process": {"args": ["a"], "cwd": "/"}}').isolation is None


def test_the_least_is_isolated() -> None:
    """Nothing said means root's ids, own PID, IPC and UTS namespaces, no limits, the neutral OOM score."""
    assert isolation() == Isolation(
        "/bundle/rootfs", False, User(0, 0, (), 0o022), (), OWN, "", (), 0, "", {}
    )


def test_an_absolute_root_is_taken_as_it_is() -> None:
    found = isolation(root={"path": "/elsewhere", "readonly": True})
    assert (found.root, found.root_read_only) == ("/elsewhere", True)


def test_namespaces_are_joined_or_made() -> None:
    """One with a path is joined and not made; mount is always made, time is never."""
    namespaces = [
        {"type": "network", "path": "/proc/1/ns/net"},
        {"type": "pid", "path": "/proc/1/ns/pid"},
        {"type": "cgroup"},
        {"type": "mount"},
        {"type": "time"},
        {"type": "ipc", "path": None},
    ]
    found = isolation(linux={"namespaces": namespaces})
    assert found.joined == (("/proc/1/ns/net", calls.CLONE_NEWNET), ("/proc/1/ns/pid", calls.CLONE_NEWPID))
    assert found.new == calls.CLONE_NEWIPC | calls.CLONE_NEWUTS | calls.CLONE_NEWCGROUP


def test_reads_user_limits_and_cgroup() -> None:
    process = {
        "user": {"uid": 65532, "gid": 1, "additionalGids": [5, 6], "umask": 0o077},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1},
        ],
        "oomScoreAdj": -998,
    }
    linux = {"cgroupsPath": "/default/x", "resources": {"pids": {"limit": 5}}}
    found = isolation(process, linux, hostname="h")
    assert found.user == User(65532, 1, (5, 6), 0o077)
    assert found.limits == ((resource.RLIMIT_NOFILE, 10, 20), (resource.RLIMIT_CORE, 0, resource.RLIM_INFINITY))
    assert (found.oom_score_adj, found.hostname) == (-998, "h")
    assert (found.cgroup, found.resources) == ("/default/x", {"pids": {"limit": 5}})


def test_mounts_of_the_kernels_file_systems_are_left_out() -> None:
    """A guest gets no /proc, /sys and /dev; binds and tmpfs stay in their order."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k"]},
        {"destination": "/run/secrets", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
    ]
    assert parsed(mounts=mounts).mounts == (
        Tmpfs("/run", ("nosuid", "size=64k")),
        Mount("/srv", "/run/secrets", read_only=True),
    )


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"root": {}}, "path is missing"),
        ({"root": "rootfs"}, "root in config.json is no object"),
        ({"root": {"path": "r", "readonly": 1}}, "readonly in config.json is no boolean"),
        ({"process": {"user": {"uid": -1}}}, "uid in config.json is -1; it must be a whole number from 0"),
        ({"process": {"user": {"uid": 1 << 32}}}, "uid in config.json is 4294967296"),
        ({"process": {"user": {"gid": True}}}, "gid in config.json is true"),
        ({"process": {"user": {"gid": [[]] * 3}}}, "gid in config.json is a list of 3; it must be"),
        ({"process": {"user": {"gid": "z" * 99}}}, f'gid in config.json is "{"z" * 59}…; it must be'),
        ({"process": {"user": {"additionalGids": ["a"]}}}, "additionalGids in config.json holds something"),
        ({"process": {"user": {"additionalGids": [1] * 65537}}}, "additionalGids in config.json has 65537 groups"),
        ({"hostname": "h" * 65}, "hostname in config.json is longer than the 64 bytes that the kernel takes"),
        ({"process": {"rlimits": [{"type": "RLIMIT_NONE"}]}}, "there is no limit 'RLIMIT_NONE'"),
        ({"process": {"rlimits": [{"type": "__doc__"}]}}, "there is no limit '__doc__'"),
        ({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]}}, "is above the hard one"),
        ({"process": {"oomScoreAdj": 1001}}, "oomScoreAdj in config.json is 1001"),
        ({"linux": {"namespaces": [{"type": "moon"}]}}, "there is no namespace of type 'moon'"),
        ({"linux": {"namespaces": [{"type": "ipc", "path": "ns"}]}}, "the ipc namespace ns in config.json must be"),
        ({"linux": {"resources": []}, "mounts": [{"destination": "/x", "type": "nfs"}]}, "has type nfs"),
        ({"linux": []}, None),
        ({"linux": 1}, "linux in config.json is no object"),
    ],
)
def test_rejects_with_the_field(parts: dict[str, Any], sentence: str | None) -> None:
    """Each fault is named with its field; null and empty values say nothing."""
    if sentence is None:
        isolation(**parts)
        return
    with pytest.raises(InvalidArgument, match=sentence):
        isolation(**parts)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"hooks": {"prestart": [{"path": "/bin/true"}]}}, "wasm-shim runs no hooks"),
        ({"linux": {"namespaces": [{"type": "user"}]}}, "remove hostUsers: false"),
        ({"linux": {"namespaces": [{"type": "mount", "path": "/proc/1/ns/mnt"}]}}, "joins no mount namespace"),
    ],
)
def test_what_is_not_served_is_said(parts: dict[str, Any], sentence: str) -> None:
    """Rather than left out silently."""
    with pytest.raises(Unimplemented, match=sentence):
        isolation(**parts)

"""`containerd-shim-wasm-v1 start`: one shim per group, the three forms of the answer, and what can be in the way."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.commands import CONTAINERD, SCRIPT, Commands, kill
from tests.integration.fleet import Shim
from tests.integration.observe import descriptors, status
from tests.integration.support import DEADLINE, Environment
from wasm_shim import runtime
from wasm_shim.shim.bootstrap import BootstrapParams, BootstrapResult
from wasm_shim.ttrpc import task as messages
from wasm_shim.ttrpc.well_known import Any as AnyMessage

PACKAGES = Path(runtime.__file__).parents[2]


@pytest.fixture
def shim(home: Environment) -> Commands:
    """The commands."""
    return Commands(home)


def binary(directory: Path, says: str, name: str = "containerd") -> Path:
    """A stand-in for containerd that notes each call beside itself; `says` is a line of shell."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho x >>{directory}/calls\n{says}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# One shim


def test_three_starts_give_one_shim(shim: Commands) -> None:
    """Two starts at once, when there is no zygote either, and a third give the same address, and one shim has it."""
    racing = [subprocess.Popen(shim.words("start", "one"), **shim.options("one")) for _ in range(2)]
    said = [process.communicate(timeout=DEADLINE)[0] for process in racing]
    assert said == [shim.start()] * 2
    assert said[0].startswith(b"unix:///")
    assert len(shim.shims()) == len(shim.sockets()) == 1


def test_many_first_starts_at_once(shim: Commands) -> None:
    """Starts of ten containers at once give ten shims of one zygote."""
    racing = [subprocess.Popen(shim.words("start", f"c{n}"), **shim.options(f"c{n}")) for n in range(10)]
    said = {process.communicate(timeout=DEADLINE)[0] for process in racing}
    assert len(said) == len(shim.shims()) == len(shim.sockets()) == 10
    assert shim.zygote()


def test_under_another_name(shim: Commands, tmp_path: Path) -> None:
    """A symbolic link with another name leads to the same zygote and the same shim."""
    link = tmp_path / "containerd-shim-other-v2"
    link.symlink_to(SCRIPT)
    assert shim.start(script=link) == shim.start()
    assert len(shim.shims()) == 1


def test_containers_of_a_pod_share(shim: Commands) -> None:
    """Whoever names a sandbox gets its shim; another container, namespace or containerd gets one of its own."""
    annotations = {"io.kubernetes.cri.sandbox-id": "pod"}
    shim.bundle("inner", annotations=annotations)
    assert shim.start("inner") == shim.start("pod")
    assert shim.start("other") != shim.start("pod")
    words = shim.words("start", "pod")
    for changed in ("test", CONTAINERD):
        other = [f"{word}2" if word == changed else word for word in words]
        assert subprocess.run(other, check=True, **shim.options("pod")).stdout != shim.start("pod")


def test_a_dead_shim_is_replaced(shim: Commands) -> None:
    """A start after the shim was killed makes another at the same address."""
    before = shim.start()
    kill(*shim.shims())
    assert len(shim.sockets()) == 1
    assert shim.start() == before
    assert len(shim.shims()) == 1


def test_address_in_the_bundle(shim: Commands) -> None:
    """containerd 1.6 and 1.7 find the address in the bundle after a restart; no other file is left there."""
    said = shim.start()
    assert (shim.bundle("one") / "address").read_bytes() == said
    assert sorted(path.name for path in shim.bundle("one").iterdir()) == ["address", "config.json"]


def test_the_shim_is_on_its_own(shim: Commands) -> None:
    """A session, a root directory and descriptors of its own, and a score above containerd's for lack of memory."""
    shim.start()
    [pid] = shim.shims()
    with Shim(str(shim.sockets()[0])) as served:  # which it is when everything is settled
        served.call("Connect", messages.ConnectRequest())
        open_ = descriptors(pid)
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert status(pid)["Umask"] == "0022"
    score = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii")) == min(score + 1, 1000)
    assert {open_.pop(number) for number in range(3)} == {"/dev/null"}
    kinds = sorted(what.split(":")[0] for what in open_.values())
    assert kinds == ["anon_inode", "anon_inode", "socket", "socket", "socket"]  # nursery, listener, and we


# The answer


@pytest.mark.parametrize(
    ("says", "json_wanted"),
    [
        ("echo containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1", False),
        ("echo containerd containerd.io v1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", False),
        ("echo containerd github.com/containerd/containerd/v2 2.1.9 abc", True),
        ("echo containerd github.com/k3s-io/k3s v2.0.4-k3s2", True),
        ("echo containerd", False),
        ("echo containerd is unknown", False),
        ("echo other thing 2.0", False),
        ("echo containerd a 2.0; exit 1", False),
        ("echo containerd a 2.0 >&2", False),
        ("head -c 100000 /dev/zero", False),
        ("exec sleep 600", False),
    ],
)
def test_form_by_version(shim: Commands, tmp_path: Path, says: str, *, json_wanted: bool) -> None:
    """JSON with version 3 for containerd 2, the bare address for 1 and in doubt."""
    said = shim.start(binary=binary(tmp_path, says)).decode()
    address = f"unix://{shim.sockets()[0]}"
    if json_wanted:
        assert json.loads(said) == {"version": 3, "address": address, "protocol": "ttrpc"}
    else:
        assert said == address


def test_the_version_is_asked_once(shim: Commands, tmp_path: Path) -> None:
    """One call per binary, until it is replaced."""
    path = binary(tmp_path, "echo containerd a 2.1")
    said = {shim.start(f"c{n}", binary=path)[:1] for n in range(3)}
    assert said == {b"{"}
    assert (tmp_path / "calls").read_text(encoding="ascii") == "x\n"
    binary(tmp_path, "echo containerd a 1.7", "new").rename(path)
    assert shim.start("c0", binary=path).startswith(b"unix:")
    assert (tmp_path / "calls").read_text(encoding="ascii") == "x\n" * 2


PARAMS = BootstrapParams(
    instance_id="one",
    namespace="test",
    containerd_version="2.4.2",
    containerd_grpc_address=CONTAINERD,
    containerd_ttrpc_address=f"{CONTAINERD}.ttrpc",
    log_level=-4,
)


def test_bootstrap_result(shim: Commands, tmp_path: Path) -> None:
    """BootstrapParams are answered with a BootstrapResult, and no binary is asked."""
    path = binary(tmp_path, "echo containerd a 1.7")
    said = shim.start(input=PARAMS.encode(), binary=path)
    result = BootstrapResult.decode(said)
    assert result == BootstrapResult(version=3, address=f"unix://{shim.sockets()[0]}", protocol="ttrpc")
    assert not (tmp_path / "calls").exists()


def test_bootstrap_params_without_flags(shim: Commands) -> None:
    """What the flags do not say is taken from the parameters."""
    done = subprocess.run([SCRIPT, "start"], **shim.options("one") | {"stdin": None}, input=PARAMS.encode(), check=True)
    assert BootstrapResult.decode(done.stdout).address == shim.start().decode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"garbage",
        b"\0" * 1000,
        b"x" * (3 << 20),
        AnyMessage(type_url="containerd.runc.v1.Options", value=b"\x08\x01").encode(),
        BootstrapParams(instance_id="other", namespace="test").encode(),
        BootstrapParams(instance_id="one", namespace="other").encode(),
    ],
    ids=["nothing", "garbage", "NULs", "too much", "options", "another id", "another namespace"],
)
def test_other_input_is_passed_over(shim: Commands, sent: bytes) -> None:
    """The options of older containerds, and whatever else comes, do not make it a BootstrapParams."""
    with subprocess.Popen(shim.words("start", "one"), **shim.options("one") | {"stdin": subprocess.PIPE}) as process:
        said = process.communicate(sent, timeout=DEADLINE)[0]
    assert said.startswith(b"unix:///")


def test_input_that_never_ends(shim: Commands) -> None:
    """A pipe that nobody closes is waited for a moment only, and what came counts."""
    shim.start("warm")
    for sent, first in ((b"", b"unix:"), (PARAMS.encode(), b"\x08\x03")):
        reader, writer = os.pipe()
        os.write(writer, sent)
        said = shim.start(stdin=reader)
        assert said.startswith(first)
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 2), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_descriptors(shim: Commands, closed: tuple[int, ...]) -> None:
    """A shim is started also where some of 0, 1 and 2 are closed, with a zygote and without."""
    redirections = " ".join(f"{number}<&-" for number in closed)
    for _ in range(2):
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *shim.words("start", "one")]
        done = subprocess.run(command, check=True, timeout=DEADLINE, **shim.options("one"))
        assert 1 in closed or done.stdout.startswith(b"unix:///")
        assert len(shim.shims()) == 1

"""The words behind containerd-shim-wasm-v1, where its shims listen, and what its script sends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm_shim.errors import InvalidArgument
from wasm_shim.paths import shim_paths
from wasm_shim.shim import address
from wasm_shim.shim.flags import Command, bundle_of, check, parse, variables
from wasm_shim.spawn import CommandRequest, decode_request

SCRIPT = Path(__file__).parents[2] / "wasm_shim/shim/containerd-shim-wasm-v1"


# Words


@pytest.mark.parametrize(
    "words",
    [
        "-namespace n -address a -publish-binary p -id i -bundle b start",
        "--namespace n --address a --publish-binary p --id i --bundle b start",
        "-namespace=n -address=a --publish-binary=p -id=i -bundle=b start",
        "-debug -namespace n -address a -publish-binary p -socket s -id i -bundle b start",
        "-bundle x -namespace n -address a -publish-binary p -id i -bundle b -- start more words",
        "-unknown value -namespace n -address a -new=1 -publish-binary p -id i -last -bundle b start",
    ],
)
def test_words_of_containerd(words: str) -> None:
    """Flags in each of the ways that Go's flag package takes, and others passed over."""
    expected = Command(action="start", namespace="n", id="i", address="a", publish_binary="p", bundle="b")
    assert parse(words.split(" ")) == expected


def test_values_that_look_like_flags() -> None:
    """The word behind a flag is its value, whatever it is."""
    assert parse(["-id", "-v", "start"]) == Command(action="start", id="-v")
    assert parse(["-id", "", "start"]) == Command(action="start", id="")
    assert parse(["-id=a=b", "start"]) == Command(action="start", id="a=b")


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["-v=true"], ["-debug", "-v", "start"]])
def test_version_is_wanted(words: list[str]) -> None:
    assert parse(words).version
    assert not parse(words).info


def test_switches() -> None:
    """Switches take no value from the next word."""
    assert parse(["-info", "start"]) == Command(action="start", info=True)
    assert parse(["-v=false", "start"]) == Command(action="start")


@given(st.lists(st.text(max_size=6) | st.sampled_from(["-", "--", "-id", "start", "-x", "-v"]), max_size=6))
def test_any_words(words: list[str]) -> None:
    """Whatever the words are, they are a command or a sentence."""
    with contextlib.suppress(InvalidArgument):
        check(parse(words))


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "/", "a\0b"])
def test_names_are_checked(bad: str) -> None:
    check(Command(namespace="n", id="..."))
    for command in (Command(namespace=bad, id="i"), Command(namespace="n", id=bad)):
        with pytest.raises(InvalidArgument, match=r"namespace|id"):
            check(command)


def test_bundle() -> None:
    """The flag wins over the directory, and may be relative to it."""
    assert bundle_of(Command(), "/a/b") == "/a/b"
    assert bundle_of(Command(bundle="/c"), "/a/b") == "/c"
    assert bundle_of(Command(bundle="c"), "/a/b") == "/a/b/c"


# Sockets


@given(*[st.tuples(*[st.text(st.characters(exclude_characters="\0"), max_size=8)] * 3)] * 2)
def test_sockets_differ(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """The same containerd, namespace and group have the same socket, others another one."""
    paths = shim_paths({})
    assert (address.socket_path(paths, *one) == address.socket_path(paths, *other)) == (one == other)


def test_socket_path_is_limited() -> None:
    """107 bytes of any characters, and the error names the longest root."""
    for root, fits in (("/" + "ä" * 19 + "x", True), ("/" + "ä" * 19 + "xy", False)):
        paths = shim_paths({"WASM_SHIM_ROOT": root})
        if fits:
            assert len(os.fsencode(address.socket_path(paths, "a", "b", "c"))) == 107
        else:
            with pytest.raises(InvalidArgument, match=r"has 108 bytes, .* a directory of at most 40"):
                address.socket_path(paths, "a", "b", "c")


def test_root_directory() -> None:
    assert shim_paths({}) == ("/run/wasm-shim", "/var/cache/wasm-shim/programs")
    assert shim_paths({"WASM_SHIM_ROOT": "/r/"}) == ("/r", "/r/programs")
    with pytest.raises(InvalidArgument, match="absolute"):
        shim_paths({"WASM_SHIM_ROOT": "r"})


@pytest.mark.parametrize(
    ("config", "pod"),
    [
        ({}, ""),
        ({"annotations": None}, ""),
        ({"annotations": {address.SANDBOX: 1}}, ""),
        ({"annotations": {"other": "a", address.SANDBOX: "b"}}, "b"),
    ],
)
def test_pod_of_a_container(config: dict[str, object], pod: str) -> None:
    assert address.pod_of(config) == pod


def test_one_listens(tmp_path: Path) -> None:
    """The first one listens, the next finds it; after its end the next but one listens."""
    path = str(tmp_path / "s")
    first = address.listen(path)
    assert first
    assert address.listen(path) is None
    address.remove_dead(str(tmp_path), path)
    assert Path(path).exists()
    first.close()
    second = address.listen(path)
    assert second
    second.close()
    for _ in range(2):
        address.remove_dead(str(tmp_path), path)
        assert not Path(path).exists()
    assert not address.connect(path)


# The script


class Request:
    """What the script sends to a zygote that is this test."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir()

    def of(
        self, *words: str, environment: dict[str, str], cwd: Path, link: Path = SCRIPT
    ) -> tuple[str, CommandRequest]:
        """The zygote's socket that it looks for, and the request to it."""
        command = [sys.executable, "-IS", str(link), *words]
        variables_ = environment | {"WASM_SHIM_ROOT": str(self.root)}
        path = str(next(self.root.iterdir(), "")) or self.find(command, variables_, cwd)
        with socket.socket(socket.AF_UNIX) as listener:
            Path(path).unlink(missing_ok=True)
            listener.bind(path)
            listener.listen()
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
            with subprocess.Popen(command, cwd=cwd, env=variables_, **streams) as process:
                connection, _ = listener.accept()
                with connection:
                    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                    assert [str(Path(f"/proc/self/fd/{number}").readlink()) for number in descriptors] == ["/dev/null"]
                    os.close(descriptors[0])
                    connection.sendall(b">+done")
                assert process.communicate()[0] == b"done"
        request = decode_request(data)
        assert isinstance(request, CommandRequest)
        return path, request

    @staticmethod
    def find(command: list[str], environment: dict[str, str], cwd: Path) -> str:
        """The path of the zygote's socket, from a call that the script hands on."""
        read = "open(sys.argv[0]).read().partition('try:\\n    main')[0]"
        code = f"import sys; sys.argv = sys.argv[1:]; exec({read}); print(zygote())"
        words = [*command[:2], "-c", code, *command[2:]]
        return subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()


def test_script_sends_the_request(tmp_path: Path) -> None:
    """Words, directory and the variables that matter, in the zygote's framing; names that are no text, too."""
    environment = {
        "TTRPC_ADDRESS": "/t",
        "NAMESPACE": "n",
        "HOME": "/h",
        "WASM_SHIM_HOLD": "s:/p",
        "GRPC_ADDRESS": "\udcff=",
    }
    cwd = tmp_path / "ä"
    cwd.mkdir()
    words = ("-id", "\udcfe", "", "start")
    _, request = Request(tmp_path).of(*words, environment=environment, cwd=cwd)
    expected = variables(environment | {"WASM_SHIM_ROOT": str(tmp_path / "root")})
    assert request == CommandRequest(words, str(cwd), expected)
    assert "HOME" not in expected


def test_script_under_another_name(tmp_path: Path) -> None:
    """A link to the script asks the same zygote."""
    link = tmp_path / "containerd-shim-x-v1"
    link.symlink_to(SCRIPT)
    request = Request(tmp_path)
    first, _ = request.of("start", environment={}, cwd=tmp_path)
    second, _ = request.of("delete", environment={}, cwd=Path("/"), link=link)
    assert first == second


def test_script_is_short() -> None:
    """It is read and compiled each time it runs."""
    assert SCRIPT.read_text(encoding="utf-8").count("\n") < 100

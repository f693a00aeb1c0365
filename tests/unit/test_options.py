"""The options of Create, of whichever kind."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wasm_shim.errors import InvalidArgument
from wasm_shim.shim.options import read_options, wants_systemd_cgroup
from wasm_shim.ttrpc.task import RuncOptions, RunOptions, RuntimeOptions
from wasm_shim.ttrpc.well_known import Any

if TYPE_CHECKING:
    from pathlib import Path


def toml(text: str) -> Any:
    """Options as containerd packs a table of its configuration."""
    return Any(type_url=RuntimeOptions.TYPE_URL, value=RuntimeOptions(config_body=text.encode()).encode())


def from_file(path: object) -> Any:
    return Any(type_url=RuntimeOptions.TYPE_URL, value=RuntimeOptions(config_path=str(path)).encode())


@pytest.mark.parametrize("packed", [None, Any(), Any(type_url="some.other/Options", value=b"\xff"), toml("")])
def test_options_that_ask_for_nothing(packed: Any | None) -> None:
    """Absent, empty and unknown ones are no error."""
    assert read_options(packed) == (RunOptions(), False)


@pytest.mark.parametrize("prefix", ["", "types.googleapis.com/"])
def test_runc_options(prefix: str) -> None:
    """Of runc's options the cgroup driver means something to us; the others are left alone."""
    value = RuncOptions(systemd_cgroup=True).encode() + b"\x32\x04runc\x68\x03"
    assert read_options(Any(type_url=prefix + RuncOptions.TYPE_URL, value=value)).systemd_cgroup
    assert not read_options(Any(type_url=prefix + RuncOptions.TYPE_URL, value=b"\x32\x04runc")).systemd_cgroup


def test_our_own_options() -> None:
    """The command line's come as they were sent."""
    options = RunOptions(program="/p", entrypoint="/e", invoke="f()")
    assert read_options(Any(type_url=RunOptions.TYPE_URL, value=options.encode())) == (options, False)


@pytest.mark.parametrize("kind", [RunOptions, RuncOptions, RuntimeOptions])
def test_rejects_damaged_options(kind: type[RunOptions] | type[RuncOptions] | type[RuntimeOptions]) -> None:
    """Options that we know and cannot read are no reason to guess."""
    with pytest.raises(InvalidArgument, match="cannot read the options of Create"):
        read_options(Any(type_url=kind.TYPE_URL, value=b"\x0a\x05a"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SystemdCgroup = true", True),
        ("systemd_cgroup=true  # as the kubelet has it", True),
        ('"SystemdCgroup" = true\n', True),
        ('BinaryName = "/usr/bin/x"\r\nSystemdCgroup = true\r\n', True),
        ("[options]\n  SystemdCgroup = true\n", True),
        ('[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wasm.options]\nSystemdCgroup = true', True),
        ("SystemdCgroup = false", False),
        ("# SystemdCgroup = true", False),
        ("SystemdCgroup = true\nSystemdCgroup = false", False),
        ("[other]\nSystemdCgroup = true", False),
        ("[options.more]\nSystemdCgroup = true", False),
        ("NoSystemdCgroup = true", False),
        ('type_url = "SystemdCgroup = true"', False),
        ("this is = = no TOML [", False),
        ("", False),
    ],
)
def test_systemd_cgroup_in_toml(text: str, wanted: bool) -> None:  # noqa: FBT001 - a table's column
    """The one setting is found where people and containerd write it, and nothing else matters."""
    assert wants_systemd_cgroup(text) is wanted
    assert read_options(toml(text)).systemd_cgroup is wanted


@pytest.mark.parametrize("value", ["1", '"true"', "True", "yes", ""])
def test_rejects_what_is_no_boolean(value: str) -> None:
    """A setting that is there but means nothing is named."""
    with pytest.raises(InvalidArgument, match="must be true or false"):
        read_options(toml(f"SystemdCgroup = {value}"))


@given(st.text())
@example("=")
@example("[[]]")
def test_any_text_is_read_or_refused(text: str) -> None:
    """Text of any kind raises nothing else."""
    with contextlib.suppress(InvalidArgument):
        assert wants_systemd_cgroup(text) in (True, False)


def test_config_path(tmp_path: Path) -> None:
    """A file with the settings counts instead of those sent along."""
    path = tmp_path / "options.toml"
    path.write_text("SystemdCgroup = true\n", encoding="utf-8")
    both = RuntimeOptions(config_path=str(path), config_body=b"SystemdCgroup = false").encode()
    assert read_options(Any(type_url=RuntimeOptions.TYPE_URL, value=both)).systemd_cgroup


def test_config_path_never_blocks(tmp_path: Path) -> None:
    """A FIFO that nobody writes to is an empty file."""
    os.mkfifo(tmp_path / "fifo")
    assert not read_options(from_file(tmp_path / "fifo")).systemd_cgroup


def test_rejects_unreadable_configuration(tmp_path: Path) -> None:
    """A file that is missing, a directory, or no text is named."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "binary", "nul\0"):
        with pytest.raises(InvalidArgument, match=r"ConfigPath|UTF-8"):
            read_options(from_file(path))

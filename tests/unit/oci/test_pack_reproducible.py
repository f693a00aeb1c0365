"""The same program and options give the same digest whoever packs it, where, when and how."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import oci
from oci.errors import UnsupportedArtifact
from oci.pack import pack
from oci.pack_options import EPOCH, ArtifactLayout, PackOptions, source_date
from tests.conftest import User

LIBRARY = str(Path(oci.__file__).parents[1])  # what is tested, wherever the packer is started

SCRIPT = """
import os, sys
from pathlib import Path
from oci.pack import pack
from oci.pack_options import ArtifactLayout, PackOptions, source_date
for layout in ArtifactLayout:
    options = PackOptions(layout, ("a",), ("A=b",), {"l": "m", "k": "n"}, {"y": "1", "x": "2"},
                          created=source_date(os.environ))
    print(pack(Path(sys.argv[1]), options).name)
"""


def digests(program: Path, *, cwd: Path, umask: int = 0o022, **environment: str) -> str:
    everything = {"PYTHONPATH": LIBRARY, "PATH": os.environ["PATH"]} | environment
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, program], cwd=cwd, env=everything, umask=umask, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return run.stdout


def copied(program: Path, directory: Path) -> Path:
    directory.mkdir()
    copy = directory / program.name
    copy.write_bytes(program.read_bytes())
    return copy


def test_directory_time_umask_locale_and_hashing_do_not_matter(guest: Callable[[str], Path], tmp_path: Path) -> None:
    program = guest("kit_p2.wasm")
    expected = digests(program, cwd=tmp_path)
    elsewhere = copied(program, tmp_path / "elsewhere")
    os.utime(elsewhere, (1, 1))
    elsewhere.chmod(0o400)
    assert digests(elsewhere, cwd=Path("/"), umask=0o077, PYTHONHASHSEED="1", TZ="Asia/Tokyo", LC_ALL="C") == expected
    assert digests(Path(elsewhere.name), cwd=elsewhere.parent, PYTHONHASHSEED="2", PYTHONOPTIMIZE="2") == expected
    assert len(set(expected.split())) == 3


def test_the_user_does_not_matter(guest: Callable[[str], Path], ordinary_user: User, tmp_path: Path) -> None:
    program = guest("kit_p1.wasm")
    home = Path(ordinary_user.environment["HOME"])
    theirs = copied(program, home / "programs")
    theirs.parent.chmod(0o755)
    theirs.chmod(0o644)
    environment = ordinary_user.environment | {"PYTHONPATH": LIBRARY}
    run = ordinary_user.run([sys.executable, "-c", SCRIPT, theirs], env=environment, check=True)
    assert run.stdout == digests(program, cwd=tmp_path)


def test_a_date_given_matters(guest: Callable[[str], Path], tmp_path: Path) -> None:
    program = guest("kit_p1.wasm")
    early, late = (digests(program, cwd=tmp_path, SOURCE_DATE_EPOCH=date) for date in ("0", "1700000000"))
    assert early == digests(program, cwd=tmp_path)
    assert not set(early.split()) & set(late.split())


def test_other_names_and_options_are_other_artifacts(guest: Callable[[str], Path], tmp_path: Path) -> None:
    program = guest("kit_p1.wasm")
    renamed = tmp_path / "other.wasm"
    renamed.write_bytes(program.read_bytes())
    made = [pack(program), pack(renamed), *(pack(program, options) for options in OTHERS)]
    assert len({artifact.name for artifact in made}) == len(made)
    assert pack(renamed, name="kit_p1.wasm").name == pack(program).name


OTHERS = [
    PackOptions(ArtifactLayout.IMAGE),
    PackOptions(cmd=("a",)),
    PackOptions(env=("A=b",)),
    PackOptions(labels={"a": "b"}),
    PackOptions(annotations={"a": "b"}),
    PackOptions(user="1"),
]


def test_the_date_is_that_of_the_sources() -> None:
    assert source_date({}) == source_date({"SOURCE_DATE_EPOCH": ""}) == source_date({"SOURCE_DATE_EPOCH": "0"}) == EPOCH
    assert source_date({"SOURCE_DATE_EPOCH": "1700000000"}) == "2023-11-14T22:13:20Z"
    assert source_date({"SOURCE_DATE_EPOCH": "253402300799"}) == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize("text", ["-1", "1.5", "today", "٣", "253402300800", "9" * 5000, " 1"])
def test_refuses_what_is_no_date(text: str) -> None:
    with pytest.raises(UnsupportedArtifact, match="it must be a number of seconds since 1970"):
        source_date({"SOURCE_DATE_EPOCH": text})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"env": ("A",)}, "the environment entry 'A' is not NAME=value"),
        ({"env": ("=b",)}, "the environment entry '=b' is not NAME=value"),
        ({"user": "nobody"}, "the user 'nobody' is no number; give UID or UID:GID"),
        ({"user": "1:"}, "is no number"),
        ({"user": "-1"}, "is no number"),
        ({"user": "٣"}, "is no number"),
        ({"labels": {"": "x"}}, "a label or an annotation without a name"),
        ({"annotations": {"": "x"}}, "a label or an annotation without a name"),
        ({"cmd": ("a\0b",)}, "cannot stand in an image: it must be UTF-8 without NUL"),
        ({"cmd": ("\udcff",)}, "cannot stand in an image"),
        ({"env": ("A=\udcff",)}, "cannot stand in an image"),
        ({"labels": {"a": "\udcff"}}, "cannot stand in an image"),
        ({"annotations": {"\udcff": "a"}}, "cannot stand in an image"),
    ],
)
def test_refuses_options_that_cannot_be_said(options: dict[str, object], expected: str) -> None:
    with pytest.raises(UnsupportedArtifact, match=expected):
        PackOptions(**options)  # type: ignore[arg-type]

"""What the options of `wasm-shim run` give the guest: arguments, variables, directories, a name."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import Environment, containers, leftovers, refusal, wasm_shim

Guest = Callable[[str], Path]


@pytest.fixture(params=["kit_p1.wasm", "kit_p2.wasm"])
def kit(request: pytest.FixtureRequest, guest: Guest) -> Path:
    """The program kit, for WASI 0.1 and 0.2."""
    return guest(request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with something in it."""
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "file").write_text("content")
    return tmp_path / "data"


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stdout of a run that went well."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# Arguments and variables


def test_variables_are_those_given_and_no_others(home: Environment, kit: Path, tmp_path: Path) -> None:
    """-e sets a variable or passes the caller's on, --env-file reads them; nothing else of the caller's is seen."""
    file = tmp_path / "variables"
    file.write_text("# a comment\n\n FROM_FILE=in file \nPASSED_BY_FILE\nBOTH=file\nEMPTY=\n")
    caller = home | {"PASSED": "caller's", "PASSED_BY_FILE": "too", "SECRET": "not for guests"}
    options = ["--env-file", str(file), "-e", "SET=1", "-e", "EQUAL=a=b", "-e", "PASSED", "--env", "BOTH=option"]
    lines = said(wasm_shim(caller, "run", "--rm", *options, "-e", "UNSET_THERE", "-eTEXT=ä 語", kit, "args"))
    assert sorted(line for line in lines if line.startswith("env ")) == [
        "env BOTH=option", "env EMPTY=", "env EQUAL=a=b", "env FROM_FILE=in file", "env PASSED=caller's",
        "env PASSED_BY_FILE=too", "env SET=1", "env TEXT=ä 語",
    ]  # fmt: skip


def test_no_variables_without_options(home: Environment, kit: Path) -> None:
    """Without -e a guest has no variable at all."""
    assert said(wasm_shim(home, "run", "--rm", kit, "args")) == [f"arg /{kit.name}", "arg args"]


@pytest.mark.parametrize(
    "words",
    [
        ["two words", "", " ", "ä 語 🎉", "*", "$HOME", "a\nb"],
        ["--rm", "-x", "-it", "--name", "n", "-e", "A=1", "--help", "-h"],
        ["--", "--rm", "--", "-x", "--"],
    ],
    ids=["spaces and letters", "our own options", "dashes"],
)
def test_arguments_behind_the_image_are_untouched(home: Environment, kit: Path, words: list[str]) -> None:
    """Every word behind IMAGE reaches the program as it is, whatever it looks like."""
    done = wasm_shim(home, "run", "--rm", kit, "args", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"arg {word}\n" for word in (f"/{kit.name}", "args", *words))


def test_dashes_right_behind_the_image_are_the_programs(home: Environment, kit: Path) -> None:
    """`run IMAGE -- --rm -x`: the two dashes behind IMAGE are the program's first argument."""
    done = wasm_shim(home, "run", "--rm", kit, "--", "--rm", "-x")
    assert done.stderr == 'kit: no command "--" with 2 arguments\n'


def test_dashes_before_the_image_end_our_options(home: Environment, kit: Path) -> None:
    """`run --rm -- IMAGE ARG`: two dashes before IMAGE are ours."""
    assert said(wasm_shim(home, "run", "--rm", "--", kit, "args")) == [f"arg /{kit.name}", "arg args"]


# Directories


def test_mounted_directory_can_be_read_and_written(home: Environment, kit: Path, data: Path) -> None:
    """-v shows a directory, where the guest reads and writes the caller's files."""
    assert said(wasm_shim(home, "run", "--rm", "-v", f"{data}:/d", kit, "read", "/d/file")) == ["content"]
    assert said(wasm_shim(home, "run", "--rm", "-v", f"{data}:/d:rw", kit, "write", "/d/new", "text")) == []
    assert (data / "new").read_text() == "text"


@pytest.mark.parametrize(
    "words", [["write", "/d/file", "x"], ["append", "/d/new", "x"], ["mkdir", "/d/new"], ["unlink", "/d/file"]]
)
def test_read_only_mount_refuses_changes(home: Environment, kit: Path, data: Path, words: list[str]) -> None:
    """-v …:ro shows a directory in which the guest changes nothing."""
    done = wasm_shim(home, "run", "--rm", "-v", f"{data}:/d:ro", kit, *words)
    assert done.returncode == 1
    assert sorted(path.name for path in data.iterdir()) == ["file", "inner"]
    assert (data / "file").read_text() == "content"


def test_single_file_can_be_mounted(home: Environment, kit: Path, data: Path) -> None:
    """-v shows a single file under a name of its own, and nothing else of its directory."""
    mount = f"{data / 'file'}:/etc/conf"
    assert said(wasm_shim(home, "run", "--rm", "-v", mount, kit, "read", "/etc/conf")) == ["content"]
    assert said(wasm_shim(home, "run", "--rm", "-v", mount, kit, "ls", "/etc")) == ["conf"]
    assert wasm_shim(home, "run", "--rm", "-v", f"{mount}:ro", kit, "write", "/etc/conf", "x").returncode == 1
    assert (data / "file").read_text() == "content"


def test_mounts_may_lie_in_each_other(home: Environment, kit: Path, data: Path, tmp_path: Path) -> None:
    """A mount inside another one's directory wins there, in whichever order they are given."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "deep").write_text("below")
    mounts = ["-v", f"{data}:/d", "-v", f"{other}:/d/inner"]
    for options in (mounts, mounts[2:] + mounts[:2]):
        assert said(wasm_shim(home, "run", "--rm", *options, kit, "read", "/d/inner/deep")) == ["below"]
        assert said(wasm_shim(home, "run", "--rm", *options, kit, "read", "/d/file")) == ["content"]
    assert list((data / "inner").iterdir()) == []


def test_relative_mount_source_belongs_to_the_callers_directory(home: Environment, kit: Path, data: Path) -> None:
    """A relative HOST of -v or --dir is looked up where the caller is."""
    for options in (["-v", "data:/d"], ["--dir", "data::/d"], ["--dir", "./data::d"]):
        done = wasm_shim(home, "run", "--rm", *options, kit, "read", "/d/file", cwd=data.parent)
        assert said(done) == ["content"]


def test_dir_shows_a_directory_by_its_own_name(home: Environment, kit: Path, data: Path) -> None:
    """--dir HOST shows it under the name it has for the caller, absolute or relative."""
    assert said(wasm_shim(home, "run", "--rm", "--dir", data, kit, "read", data / "file")) == ["content"]
    relative = wasm_shim(home, "run", "--rm", "--dir", "data", kit, "read", "data/file", cwd=data.parent)
    assert said(relative) == ["content"]
    here = wasm_shim(home, "run", "--rm", "--dir", ".", kit, "read", "file", cwd=data)
    assert said(here) == ["content"]


def test_relative_paths_begin_in_the_working_directory(home: Environment, kit: Path, data: Path) -> None:
    """-w makes relative opens begin in a mounted directory or one below it; absolute ones still work."""
    (data / "inner" / "deep").write_text("below")
    mount = ["-v", f"{data}:/d"]
    assert said(wasm_shim(home, "run", "--rm", *mount, "-w", "/d", kit, "read", "file")) == ["content"]
    assert said(wasm_shim(home, "run", "--rm", *mount, "-w", "/d/inner", kit, "read", "deep")) == ["below"]
    assert said(wasm_shim(home, "run", "--rm", *mount, "-w", "/d/inner", kit, "read", "/d/file")) == ["content"]


def test_nothing_is_seen_without_a_mount(home: Environment, kit: Path) -> None:
    """Without mounts a guest opens nothing."""
    done = wasm_shim(home, "run", "--rm", kit, "escape", "/", ".", "/etc/passwd", "/proc/self/mem")
    assert "opened" not in done.stdout


# The program


def test_entrypoint_may_be_the_programs_own_name(home: Environment, kit: Path) -> None:
    """--entrypoint takes the program's name with and without its slash."""
    for name in (f"/{kit.name}", kit.name):
        assert said(wasm_shim(home, "run", "--rm", "--entrypoint", name, kit, "args"))[0] == f"arg {name}"


def test_entrypoint_may_be_a_program_in_a_mount(home: Environment, guest: Guest, kit: Path, data: Path) -> None:
    """--entrypoint runs another program that a mounted directory holds."""
    (data / "tool.wasm").write_bytes(kit.read_bytes())
    options = ["-v", f"{data}:/d:ro", "--entrypoint", "/d/tool.wasm"]
    done = wasm_shim(home, "run", "--rm", *options, guest("hello.wat"), "args")
    assert said(done) == ["arg /d/tool.wasm", "arg args"]


def test_wrong_entrypoint_names_the_right_one(home: Environment, kit: Path) -> None:
    """An --entrypoint that is not there is 127, and the message tells what is."""
    done = wasm_shim(home, "run", "--rm", "--entrypoint", "/bin/sh", kit)
    assert done.returncode == 127
    assert f"/{kit.name}" in refusal(done)
    assert leftovers(home) == []


# The record


def test_removed_container_leaves_nothing(home: Environment, kit: Path) -> None:
    """With --rm, and a name, nothing is left behind but the compiled program."""
    assert wasm_shim(home, "run", "--rm", "--name", "short", kit).returncode == 0
    assert leftovers(home) == []
    assert wasm_shim(home, "ps", "-aq").stdout == ""


def test_record_stays_until_it_is_removed(home: Environment, guest: Guest) -> None:
    """Without --rm `ps -a` shows how the container ended, and `rm` removes it by name, id or its beginning."""
    for name in ("one", "two", "three"):
        assert wasm_shim(home, "run", "--name", name, guest("kit_p1.wasm"), "exit", "42").returncode == 42
    assert said(wasm_shim(home, "ps", "-q")) == []
    rows = said(wasm_shim(home, "ps", "-a"))[1:]
    assert sorted(row.split()[-1] for row in rows) == ["one", "three", "two"]
    assert all("kit_p1.wasm" in row and "Exited (42)" in row for row in rows)
    ids = {row.split()[-1]: row.split()[0] for row in rows}
    [full] = [path.name for path in containers(home) if path.name.startswith(ids["three"])]
    for wanted in ("one", ids["two"], full):
        assert said(wasm_shim(home, "rm", wanted)) == [wanted]
    assert leftovers(home) == []


def test_name_is_free_again_after_rm(home: Environment, guest: Guest) -> None:
    """A name in use is refused until its container has been removed."""
    run = ["run", "--name", "mine", str(guest("hello.wat"))]
    assert [wasm_shim(home, *run).returncode for _ in range(2)] == [0, 125]
    wasm_shim(home, "rm", "mine")
    assert wasm_shim(home, *run).returncode == 0

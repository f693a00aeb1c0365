"""From a spec to a plan: mounts, preopens, the working directory, and which program runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from wasm_shim.container.plan import Plan, make_plan, make_rooted_plan
from wasm_shim.container.spec import Spec
from wasm_shim.errors import InvalidArgument, NotFound
from wasm_shim.guest import Image, Mount, Preopen

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Image("/images/app.wasm", "/app.wasm")
WORDS = ("/app.wasm",)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Two directories, a program in one of them, and two files."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("data/tool.wasm", "data/sub/deep.wasm", "one.conf", "two.conf"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def plan_of(
    *mounts: Mount, words: tuple[str, ...] = WORDS, cwd: str = "/", image: Image = IMAGE, private: bool = True
) -> Plan:
    """The plan of a container with these mounts."""
    spec = Spec(words, (("A", "1"),), cwd, terminal=False, mounts=mounts)
    return make_plan(spec, image, "", private_mounts=private)


def mount(host: Path, source: str, target: str, *, read_only: bool = False) -> Mount:
    return Mount(str(host / source), target, read_only)


EVERY_WALL = pytest.mark.parametrize("private", [True, False])


@EVERY_WALL
def test_a_guest_without_mounts_sees_nothing(private: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Without a mount there is no preopen, whatever the wall."""
    plan = plan_of(private=private)
    assert (plan.mounts, plan.guest.preopens) == ((), ())
    assert plan.guest.arguments == WORDS
    assert plan.guest.environment == (("A", "1"),)
    assert (plan.program, plan.name) == (IMAGE.path, "app.wasm")


def test_directories_are_staged_by_number(host: Path) -> None:
    """Each directory is bound at a numbered place of the private root and opened under its own name."""
    plan = plan_of(mount(host, "data", "/srv/data"), mount(host, "other", "/o", read_only=True))
    assert plan.mounts == (Mount(str(host / "data"), "/0", False), Mount(str(host / "other"), "/1", True))
    assert plan.guest.preopens == (Preopen("/0", "/srv/data", True), Preopen("/1", "/o", False))


def test_without_private_mounts_the_host_paths_are_opened(host: Path) -> None:
    """Where only Landlock walls in, the guest opens the host's directories in place."""
    plan = plan_of(mount(host, "data", "/data"), mount(host, "other", "/o", read_only=True), private=False)
    assert plan.mounts == ()
    assert plan.guest.preopens == (
        Preopen(str(host / "data"), "/data", True),
        Preopen(str(host / "other"), "/o", False),
    )


def test_nested_mounts_are_opened_side_by_side(host: Path) -> None:
    """A mount below another one is a preopen of its own: guests take the longest name that fits."""
    plan = plan_of(mount(host, "data", "/d"), mount(host, "other", "/d/sub"))
    assert [preopen.name for preopen in plan.guest.preopens] == ["/d", "/d/sub"]


def test_files_are_gathered_by_parent(host: Path) -> None:
    """WASI opens no files: those of one directory share a preopen, writable when one of them is."""
    one, two = mount(host, "one.conf", "/etc/one", read_only=True), mount(host, "two.conf", "/etc/two")
    other = mount(host, "one.conf", "/other/one", read_only=True)
    plan = plan_of(one, two, other)
    assert [m.target for m in plan.mounts] == ["/0/one", "/0/two", "/1/one"]
    assert [m.read_only for m in plan.mounts] == [True, False, True]
    assert plan.guest.preopens == (Preopen("/0", "/etc", True), Preopen("/1", "/other", False))


@pytest.mark.parametrize("target", ["/data/", "//data", "/./x/../data", "///data//"])
@EVERY_WALL
def test_targets_are_normal(host: Path, target: str, private: bool) -> None:  # noqa: FBT001 - a parameter
    """However the target is written, the guest sees one name."""
    plan = plan_of(mount(host, "data", target), cwd=f"{target}/sub", private=private)
    assert [preopen.name for preopen in plan.guest.preopens] == ["/data", "."]


@pytest.mark.parametrize(
    "targets",
    [
        [("data", "/a"), ("other", "/a")],
        [("data", "/a"), ("other", "//a/")],
        [("data", "/etc"), ("one.conf", "/etc/one")],
        [("one.conf", "/etc/one"), ("data", "/etc")],
        [("one.conf", "/etc/one"), ("two.conf", "/etc/one")],
    ],
)
def test_rejects_mounts_that_meet(host: Path, targets: list[tuple[str, str]]) -> None:
    """Two mounts at one place are refused, with the place."""
    with pytest.raises(InvalidArgument, match="two mounts meet at /"):
        plan_of(*(mount(host, source, target) for source, target in targets))


def test_rejects_mounts_that_meet_in_place(host: Path) -> None:
    """Without private mounts, too."""
    with pytest.raises(InvalidArgument, match="two mounts meet at /a"):
        plan_of(mount(host, "data", "/a"), mount(host, "other", "/a"), private=False)


def test_rejects_what_cannot_be_mounted(host: Path) -> None:
    """A missing source, a file at /, and a file where the kernel allows no mounts are refused with a remedy."""
    with pytest.raises(NotFound, match=r"mount source .*none does not exist; create it"):
        plan_of(mount(host, "none", "/a"))
    with pytest.raises(InvalidArgument, match=r"cannot mount the file .* at /; give it a name"):
        plan_of(mount(host, "one.conf", "/"))
    with pytest.raises(InvalidArgument, match="this kernel lets you have no user namespace; mount its directory"):
        plan_of(mount(host, "one.conf", "/etc/one"), private=False)


# The working directory


def test_working_directory_is_a_preopen(host: Path) -> None:
    """The directory where relative paths begin is opened as `.`, as writable as its mount."""
    mounts = (mount(host, "data", "/d", read_only=True), mount(host, "other", "/d/sub"))
    assert plan_of(*mounts, cwd="/d").guest.preopens[2:] == (Preopen("/0", ".", False),)
    assert plan_of(*mounts, cwd="/d/sub").guest.preopens[2:] == (Preopen("/1", ".", True),)


def test_working_directory_below_a_mount(host: Path) -> None:
    """It may be a directory inside a mount, with and without private mounts."""
    data = mount(host, "data", "/d")
    assert plan_of(data, cwd="/d/sub/").guest.preopens[1:] == (Preopen("/0/sub", ".", True),)
    in_place = plan_of(data, cwd="/d/sub", private=False)
    assert in_place.guest.preopens[1:] == (Preopen(str(host / "data/sub"), ".", True),)


def test_working_directory_of_gathered_files(host: Path) -> None:
    """The directory that holds mounted files can be it, one below cannot."""
    one = mount(host, "one.conf", "/etc/one")
    assert plan_of(one, cwd="/etc").guest.preopens[1:] == (Preopen("/0", ".", True),)
    with pytest.raises(NotFound, match="/etc/x is no directory in the mount at /etc"):
        plan_of(one, cwd="/etc/x")


@EVERY_WALL
def test_working_directory_stays_in_its_mount(host: Path, private: bool) -> None:  # noqa: FBT001 - a parameter
    """A link that leads out of the mount is followed inside it only, so that no wall opens what is outside."""
    (host / "data" / "out").symlink_to(host / "other")
    (host / "data" / "up").symlink_to("../other")
    (host / "data" / "in").symlink_to("sub")
    data = mount(host, "data", "/d")
    for link in ("out", "up"):
        with pytest.raises(NotFound, match=f"working directory /d/{link} is no directory in the mount at /d"):
            plan_of(data, cwd=f"/d/{link}", private=private)
    base = "/0" if private else str(host / "data")
    assert plan_of(data, cwd="/d/in", private=private).guest.preopens[1:] == (Preopen(f"{base}/sub", ".", True),)


def test_working_directory_below_a_linked_source(host: Path) -> None:
    """The source of a mount may be a link itself."""
    (host / "link").symlink_to("data")
    plan = plan_of(mount(host, "link", "/d"), cwd="/d/sub")
    assert plan.guest.preopens[1:] == (Preopen("/0/sub", ".", True),)


def test_rejects_odd_working_directories(host: Path) -> None:
    """One that is in no mount, does not exist or is a file is NotFound; one beside a mount at / is refused."""
    data = mount(host, "data", "/d")
    for cwd, sentence in (
        ("/tmp", "is in no mount; mount a directory there with -v HOST:/tmp"),
        ("/dd", "is in no mount"),
        ("/d/none", "/d/none is no directory in the mount at /d"),
        ("/d/tool.wasm", "is no directory in the mount"),
    ):
        with pytest.raises(NotFound, match=sentence):
            plan_of(data, cwd=cwd)
    with pytest.raises(InvalidArgument, match="working directory /sub with a mount at /"):
        plan_of(mount(host, "data", "/"), cwd="/sub")


# The program


@pytest.mark.parametrize("word", ["/app.wasm", "app.wasm"])
def test_image_is_named_by_entrypoint_or_title(word: str) -> None:
    """The image's program runs when the first argument is its Entrypoint or its base name."""
    assert plan_of(words=(word, "x")).program == IMAGE.path


@pytest.mark.parametrize("word", ["/other.wasm", "sh", "", "/app.wasm/", "./app.wasm", "/"])
def test_rejects_other_programs(word: str) -> None:
    """Anything else is NotFound and names the program that there is: nothing wrong is ever run."""
    with pytest.raises(NotFound, match=r"the container has one program, /app\.wasm; name that"):
        plan_of(words=(word,))


@pytest.mark.parametrize("target", ["/", "/d", "/a/b"])
def test_program_in_a_mounted_directory(host: Path, target: str) -> None:
    """An argument that names a file in a mount runs that file."""
    data = mount(host, "data", target)
    base = target.rstrip("/")
    for name, file in (("/tool.wasm", "data/tool.wasm"), ("//sub/../sub/deep.wasm", "data/sub/deep.wasm")):
        word = base + name
        plan = plan_of(data, words=(word,))
        assert (plan.program, plan.name) == (str(host / file), word)


def test_program_that_is_mounted_itself(host: Path) -> None:
    """A mounted file can be the program."""
    assert plan_of(mount(host, "one.conf", "/bin/p.wasm"), words=("/bin/p.wasm",)).program == str(host / "one.conf")


def test_innermost_mount_hides_the_outer_one(host: Path) -> None:
    """A file that another mount covers is not there for the guest, and does not run."""
    program = functools.partial(plan_of, mount(host, "data", "/d"), mount(host, "other", "/d/sub"))
    assert program(words=("/d/tool.wasm",)).program == str(host / "data/tool.wasm")
    with pytest.raises(NotFound, match="no program /d/sub/deep"):
        program(words=("/d/sub/deep.wasm",))


def test_program_links_stay_in_the_mount(host: Path) -> None:
    """A link to a program is followed inside the mount, as if the mount were the whole world."""
    data = host / "data"
    (host / "other" / "evil.wasm").write_bytes(b"x")
    for name, where in (("abs", "/tool.wasm"), ("rel", "sub/../tool.wasm"), ("out", str(host / "other/evil.wasm"))):
        (data / name).symlink_to(where)
    (data / "up").symlink_to("../../../../../../../../tool.wasm")
    (data / "loop").symlink_to("loop")
    for name in ("abs", "rel", "up"):
        assert plan_of(mount(host, "data", "/d"), words=(f"/d/{name}",)).program == str(data / "tool.wasm")
    for name in ("out", "loop", "sub", "none", "../other/evil.wasm"):
        with pytest.raises(NotFound, match="no program"):
            plan_of(mount(host, "data", "/d"), words=(f"/d/{name}",))


def test_call_and_terminal_are_handed_on() -> None:
    """What the guest shall do is part of the plan."""
    spec = Spec(WORDS, (), "/", terminal=True, mounts=())
    guest = make_plan(spec, IMAGE, "add(1, 2)", private_mounts=True).guest
    assert (guest.call, guest.terminal) == ("add(1, 2)", True)


# With a root file system


@pytest.mark.parametrize("cwd", ["/", "//", "/srv/..", "/."])
def test_rooted_guest_opens_its_root(cwd: str) -> None:
    """The tree is one preopen, whatever is mounted in it; the program is a file of it, known by its argument."""
    spec = Spec(WORDS, (("A", "1"),), cwd, terminal=True, mounts=(Mount("/nowhere", "/data", True),))
    plan = make_rooted_plan(spec, "add(1, 2)")
    assert (plan.program, plan.name, plan.mounts) == ("", "/app.wasm", ())
    assert plan.guest.preopens == (Preopen("/", "/", writable=True),)
    assert (plan.guest.arguments, plan.guest.environment) == (WORDS, (("A", "1"),))
    assert (plan.guest.call, plan.guest.terminal) == ("add(1, 2)", True)


@pytest.mark.parametrize("cwd", ["/srv/data", "//srv/./data/", "/srv/x/../data"])
def test_rooted_guest_opens_its_working_directory(cwd: str) -> None:
    """Relative paths begin there; it is opened after the root under its own name."""
    plan = make_rooted_plan(Spec(WORDS, (), cwd, terminal=False, mounts=()), "")
    assert plan.guest.preopens[-1] == Preopen("/srv/data", ".", writable=True)
    assert plan.guest.preopens[0] == Preopen("/", "/", writable=True)

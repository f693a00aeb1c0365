"""What layers on each other make: whiteouts, links, and paths that want to leave."""

import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci.errors import InvalidContent, OciError, UnsupportedArtifact
from oci.rootfs import File, Rootfs
from oci.tar import MAX_ENTRIES, Entry, entries
from tests.unit.oci.tars import archive, member


def file(name: str) -> Entry:
    return Entry(name, "file", "", 1)


def directory(name: str) -> Entry:
    return Entry(name, "directory", "", 0)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, "symlink", target, 0)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, "hard link", target, 0)


def made(*layers: list[Entry]) -> Rootfs:
    rootfs = Rootfs()
    for number, layer in enumerate(layers):
        rootfs.apply(number, layer)
    return rootfs


def paths(rootfs: Rootfs) -> list[str]:
    return sorted(path for path, _file in rootfs.files())


def test_later_layers_and_later_entries_win() -> None:
    rootfs = made([file("a"), file("b"), file("a")], [file("./b"), file("/c/d")])
    assert rootfs.find("/a") == File(0, 2)
    assert rootfs.find("b") == File(1, 0)
    assert rootfs.find("/c/../c/./d") == File(1, 1)
    assert rootfs.find("/missing") is None
    assert rootfs.find("/a/below/a/file") is None


def test_a_whiteout_hides_what_is_below_wherever_it_stands() -> None:
    rootfs = made(
        [file("a"), file("dir/b"), file("dir/c")],
        [file("a"), file(".wh.a"), file("dir/.wh.b"), file("none/.wh.x"), file(".wh..wh.plnk")],
    )
    assert paths(rootfs) == ["/a", "/dir/c"]
    assert rootfs.find("a") == File(1, 0)


def test_a_whiteout_hides_a_directory_with_all_in_it() -> None:
    assert paths(made([file("dir/sub/a"), file("b")], [file(".wh.dir")])) == ["/b"]


def test_an_opaque_directory_hides_what_is_below_only() -> None:
    rootfs = made([file("dir/old"), file("other")], [file("dir/new"), file("dir/.wh..wh..opq")])
    assert paths(rootfs) == ["/dir/new", "/other"]


def test_a_file_takes_the_place_of_a_directory_and_the_other_way_round() -> None:
    rootfs = made([file("a/b"), file("c")], [file("a"), directory("c"), file("c/d")])
    assert paths(rootfs) == ["/a", "/c/d"]


def test_a_directory_again_keeps_what_is_in_it() -> None:
    assert paths(made([file("a/b")], [directory("a/"), directory("./")])) == ["/a/b"]


def test_a_directory_takes_the_place_of_a_symlink() -> None:
    rootfs = made([file("real/a"), symlink("link", "real")], [directory("link"), file("link/b")])
    assert paths(rootfs) == ["/link/b", "/real/a"]


def test_symlinks_are_followed_inside_of_the_image() -> None:
    rootfs = made(
        [
            file("usr/bin/app.wasm"),
            symlink("bin", "usr/bin"),
            symlink("absolute", "/usr/bin/app.wasm"),
            symlink("usr/relative", "bin/app.wasm"),
            symlink("out", "../../../../usr/bin/app.wasm"),
            symlink("chain", "absolute"),
            symlink("dangling", "/nowhere"),
        ]
    )
    for path in ("/bin/app.wasm", "/absolute", "/usr/relative", "/out", "/chain", "/bin/../bin/app.wasm"):
        assert rootfs.find(path) == File(0, 0), path
    assert rootfs.find("/dangling") is None


def test_entries_below_a_symlink_land_where_it_leads() -> None:
    rootfs = made([symlink("lib", "usr/lib"), file("lib/x")], [file("lib/y"), file("lib/.wh.x")])
    assert paths(rootfs) == ["/usr/lib/y"]


def test_paths_cannot_leave() -> None:
    rootfs = made([file("../../etc/passwd"), file("/a/../../b"), symlink("up", "../.."), file("up/c")])
    assert paths(rootfs) == ["/b", "/c", "/etc/passwd"]


def test_hard_links_lead_to_files_of_any_layer() -> None:
    rootfs = made([file("a"), symlink("s", "a"), hard_link("same", "a")], [hard_link("b", "/a"), hard_link("t", "s")])
    assert rootfs.find("/b") == rootfs.find("/same") == rootfs.find("/t") == File(0, 0)


@pytest.mark.parametrize("target", ["missing", "dir", "missing/x"])
def test_rejects_a_hard_link_to_nothing(target: str) -> None:
    with pytest.raises(InvalidContent, match="leads to no file"):
        made([directory("dir"), hard_link("b", target)])


def test_rejects_a_path_through_a_file() -> None:
    with pytest.raises(InvalidContent, match="leads through what is no directory"):
        made([file("a"), file("a/b")])


def test_rejects_symlinks_in_a_circle() -> None:
    rootfs = made([symlink("a", "b"), symlink("b", "a"), symlink("self", "self/x")])
    with pytest.raises(InvalidContent, match="in a circle"):
        rootfs.find("/a")
    assert rootfs.find("/self/y") is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [(directory("x"), "a directory"), (Entry("x", "character device", "", 0), "a character device")],
)
def test_finds_files_only(entry: Entry, expected: str) -> None:
    with pytest.raises(UnsupportedArtifact, match=f"'/x' in the image is {expected}; it must name"):
        made([entry]).find("/x")
    with pytest.raises(UnsupportedArtifact, match="'/' in the image is a directory"):
        made([]).find("/")


def test_rejects_more_files_and_directories_than_could_be_meant() -> None:
    with pytest.raises(InvalidContent, match=f"more than {MAX_ENTRIES} files"):
        made([file(f"{number}") for number in range(MAX_ENTRIES // 2)], [file("a/b/c/d/e/f")] * (MAX_ENTRIES // 2 + 1))
    deep = "/".join("d" * 2000)
    with pytest.raises(InvalidContent, match=f"more than {MAX_ENTRIES} files"):
        made([file(f"{number}/{deep}/f") for number in range(200)])


def test_rejects_paths_that_take_for_ever() -> None:
    spin = [symlink("a", "./" * 2000 + "b"), symlink("b", "/" + "c/../" * 800), directory("c")]
    with pytest.raises(InvalidContent, match="too entangled"):
        made([*spin, *(file("a/" * 15 + "x") for _ in range(10_000))])


def test_very_deep_trees_are_walked_as_far_as_names_reach() -> None:
    links = [symlink("s0", "/".join("d" * 1000))]
    links += [symlink(f"s{number}", f"s{number - 1}/{'/'.join('d' * 1000)}") for number in range(1, 20)]
    rootfs = made([*links, file("s19/deep.wasm"), file("top.wasm")])
    assert paths(rootfs) == ["/top.wasm"]
    assert rootfs.find("/s19/deep.wasm") is not None


parts = st.sampled_from(["a", "b", "c", "..", ".", ".wh.a", ".wh..wh..opq"])
some_paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
some_entries = st.builds(
    Entry, some_paths, st.sampled_from(["file", "directory", "symlink", "hard link", "FIFO"]), some_paths, st.just(0)
)


@settings(max_examples=200)
@given(st.lists(st.lists(some_entries, max_size=6), max_size=3), some_paths)
def test_any_layers_make_a_tree_or_one_of_our_errors(layers: list[list[Entry]], path: str) -> None:
    with suppress(OciError):
        rootfs = made(*layers)
        for found, place in rootfs.files():
            assert layers[place.layer][place.entry].kind == "file"
            assert rootfs.find(found) == place
        rootfs.find(path)


def test_reads_the_entries_of_an_archive() -> None:
    data = archive(
        member("usr/lib/x", b"x"), member("lib", kind=tarfile.SYMTYPE, link="usr/lib"), member("lib/y", b"y"),
        member("h", kind=tarfile.LNKTYPE, link="usr/lib/x"),
    )  # fmt: skip
    rootfs = made([entry for entry, _contents in entries(iter([data]))])
    assert paths(rootfs) == ["/h", "/usr/lib/x", "/usr/lib/y"]

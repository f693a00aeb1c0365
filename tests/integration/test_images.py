"""The verbs about images here: `pack`, `tag`, `images`, `rmi`, `save`, `load`, `image inspect`, `image explain`."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.layout import Layout
from oci.program import find_program
from tests.integration import support
from tests.integration.images import blobs, digest_of, ran, said
from tests.integration.support import DEADLINE, Environment, on_terminal, read_to_end, refusal, started, wasm_shim

Guest = Callable[[str], Path]
KIT = "kit_p1.wasm"


def refused(home: Environment, *words: str | Path, **options: object) -> str:
    """Why words are refused, with our exit code and nothing on stdout."""
    done = wasm_shim(home, *words, **options)
    assert (done.returncode, done.stdout) == (125, ""), done
    return refusal(done)


@pytest.fixture
def hello(home: Environment, guest: Guest) -> str:
    """The digest of the image hello:1."""
    return digest_of(said(home, "pack", "-t", "hello:1", guest("hello.wat")))


# images


def test_no_image_at_all(home: Environment) -> None:
    assert [row.split() for row in said(home, "images")] == [["REPOSITORY", "TAG", "IMAGE", "ID", "LAYOUT", "SIZE"]]
    assert said(home, "images", "-q") == said(home, "images", "--json") == []


def test_images_are_listed(home: Environment, guest: Guest, hello: str) -> None:
    said(home, "pack", "-t", "localhost:5000/a/kit:2", "--layout", "image", guest(KIT))
    first, second = (row.split() for row in said(home, "images")[1:])
    assert first[:4] == ["hello", "1", hello.removeprefix("sha256:")[:12], "cncf"]
    assert second[:2] == ["localhost:5000/a/kit", "2"]
    assert second[3] == "image"
    assert second[4].endswith("kB")
    assert hello in said(home, "images", "--digests")[1]
    assert said(home, "images", "-q")[0] == first[2]
    row = json.loads(said(home, "images", "--json")[0])
    assert row == row | {"repository": "hello", "tag": "1", "digest": hello, "id": first[2], "layout": "cncf"}


def test_damage_is_told_and_the_others_are_listed(home: Environment, guest: Guest, hello: str) -> None:
    said(home, "pack", "-t", "kit", guest(KIT))
    next(path for path in blobs(home) if path.name == hello.removeprefix("sha256:")).write_text("{}")
    done = wasm_shim(home, "images")
    assert [row.split()[0] for row in done.stdout.splitlines()[1:]] == ["hello", "kit"]
    assert refusal(done).startswith("docker.io/library/hello:1: ")


# tag and rmi


def test_a_second_name_keeps_the_image(home: Environment, hello: str) -> None:
    assert said(home, "tag", "hello:1", "localhost:5000/other") == []
    assert said(home, "rmi", "hello:1") == ["Untagged: hello:1"]
    assert ran(home, "localhost:5000/other") == ["hello from wasm-shim"]
    gone = said(home, "rmi", "localhost:5000/other")
    assert gone[0] == "Untagged: localhost:5000/other:latest"
    assert f"Deleted: {hello}" in gone
    assert len(gone) == 4
    assert blobs(home) == set()


def test_ids_name_images(home: Environment, hello: str) -> None:
    identity = hello.removeprefix("sha256:")[:12]
    said(home, "tag", identity, "other")
    assert ran(home, identity) == ["hello from wasm-shim"]
    assert "hello:1, other:latest; name those" in refused(home, "rmi", identity)
    said(home, "rmi", "other")
    assert said(home, "rmi", identity)[0] == "Untagged: hello:1"


def test_rmi_goes_on_behind_a_name_that_is_not_there(home: Environment, hello: str) -> None:
    done = wasm_shim(home, "rmi", "none", "hello:1")
    assert done.returncode == 125
    assert refusal(done) == "there is no image none here; wasm-shim images lists them"
    assert done.stdout.startswith("Untagged: hello:1\n")
    assert hello in done.stdout


@pytest.mark.parametrize("words", ["tag none a", "rmi none", "save none", "image inspect none"])
def test_images_that_are_not_there(home: Environment, words: str) -> None:
    assert refused(home, *words.split()).startswith("there is no image none here; wasm-shim images lists them")


@pytest.mark.parametrize("verb", ["tag", "rmi", "save", "pull", "push", "run", "pack"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Hello", "has capitals; write"),
        ("", "an empty reference"),
        ("https://ghcr.io/a/b", "is a URL; leave out https://"),
        ("a/b:", "is no tag"),
        ("a b", "is no repository"),
        ("x" * 300, "more than 255 characters"),
        ("a@sha256:12", "sha256"),
        ("é", "is no repository"),
    ],
)
def test_names_that_are_none(home: Environment, guest: Guest, verb: str, name: str, reason: str) -> None:
    """Each verb says what is wrong with them, before anything is done or asked for."""
    words = {"tag": ["tag", name, "x"], "pack": ["pack", "-t", name, str(guest(KIT))]}.get(verb, [verb, name])
    if not name and verb in ("push", "pack"):  # as if there were none
        reason = "missing argument REF" if verb == "push" else "say where to"
    assert reason in refused(home, *words)


# pack


@pytest.mark.parametrize("where", [[], ["-t", "a", "-o", "dir"]])
def test_pack_needs_one_place(home: Environment, guest: Guest, where: list[str]) -> None:
    assert refused(home, "pack", *where, guest(KIT)).startswith("say where to: -t REF keeps the image here")


def test_pack_writes_a_layout(home: Environment, guest: Guest, tmp_path: Path) -> None:
    directory = tmp_path / "layout"
    lines = said(home, "pack", "-o", directory, "--annotation", "a=b", "--user", "7", guest(KIT))
    assert lines[1] == f"Packed: {directory}"
    layout = Layout(directory)
    assert str(layout.resolve("latest").digest) == digest_of(lines)
    program = find_program(layout, "latest")
    assert (program.entrypoint, program.user) == ((f"/{KIT}",), "7")
    assert said(home, "pack", "-q", "-o", directory, guest(KIT))[0].startswith("sha256:")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--layout", "zip"], "--layout zip is not known; write one of cncf, runwasi, image"),
        (["-e", "A"], "'A' is not NAME=value"),
        (["--label", "A"], "--label 'A' has no name or no value; write NAME=VALUE"),
        (["--annotation", "=A"], "--annotation '=A' has no name or no value"),
        (["--user", "root"], "'root' is no number"),
    ],
)
def test_pack_refuses_wrong_options(home: Environment, guest: Guest, options: list[str], reason: str) -> None:
    assert reason in refused(home, "pack", "-t", "a", *options, guest(KIT))
    assert said(home, "images", "-q") == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "script"),
        (b"\x7fELF\2\1\1", "ELF"),
        (b"(module (", "cannot pack"),
        (b"(module \xff)", "text that is not UTF-8 (at offset 8)"),
    ],
)
def test_pack_refuses_what_is_no_program(home: Environment, tmp_path: Path, content: bytes, reason: str) -> None:
    path, directory = tmp_path / "bad.wasm", tmp_path / "layout"
    path.write_bytes(content)
    assert reason in refused(home, "pack", "-o", directory, path)
    assert not directory.exists()
    assert "no such file" in refused(home, "pack", "-t", "a", tmp_path / "none.wasm")


def test_pack_leaves_other_directories_alone(home: Environment, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert str(tmp_path) in refused(home, "pack", "-o", tmp_path, guest(KIT))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# save and load


@pytest.mark.parametrize("by_pipe", [True, False])
def test_archives_there_and_back(home: Environment, guest: Guest, hello: str, tmp_path: Path, by_pipe: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    said(home, "pack", "-t", "localhost:5000/kit", guest(KIT))
    archive = tmp_path / "images.tar"
    names = ["hello:1", "localhost:5000/kit:latest"]
    if by_pipe:
        with archive.open("wb") as out:
            assert wasm_shim(home, "save", *names, stdout=out).returncode == 0
    else:
        said(home, "save", "-o", archive, *names)
    said(home, "rmi", *names)
    if by_pipe:
        with archive.open("rb") as file:
            assert said(home, "load", stdin=file) == [f"Loaded: {name}" for name in names]
    else:
        assert said(home, "load", "-i", archive) == [f"Loaded: {name}" for name in names]
    assert hello in said(home, "images", "--digests")[1]
    assert [path.name for path in tmp_path.iterdir()] == ["images.tar"]


def test_an_archive_without_full_names_gets_ids(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """A bare tag, as in a layout, is no name among many images; one can be given."""
    digest = digest_of(said(home, "pack", "-o", tmp_path / "layout", guest("hello.wat")))
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path / "layout", "oci-layout", "index.json", "blobs"], check=True)
    assert said(home, "load", "-i", archive) == [f"Loaded: {digest}; give it a name with: wasm-shim tag"]
    identity = digest.removeprefix("sha256:")[:12]
    assert said(home, "images")[1].split()[:3] == ["<none>", "<none>", identity]
    said(home, "tag", identity, "named")
    assert [row.split()[0] for row in said(home, "images")[1:]] == ["named"]


def test_archives_are_nothing_for_terminals(home: Environment, hello: str) -> None:
    for words in (["save", "hello:1"], ["load"]):
        with on_terminal(home, *words) as (process, terminal):
            assert b"use -" in read_to_end(terminal)
            assert process.wait(DEADLINE) == 125


def test_bad_archives_leave_nothing(home: Environment, tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    archive.write_bytes(b"no archive")
    assert "archive" in refused(home, "load", "-i", archive)
    assert "No such file" in refused(home, "load", "-i", tmp_path / "none.tar")
    assert blobs(home) == set()


def test_a_full_disk_leaves_no_archive(home: Environment, hello: str, tmp_path: Path) -> None:
    assert "No space left" in refused(home, "save", "-o", "/dev/full", "hello:1")
    assert "No such file" in refused(home, "save", "-o", tmp_path / "none/a.tar", "hello:1")


def test_nothing_is_said_to_whoever_stops_reading_an_archive(home: Environment, hello: str) -> None:
    with started(home, "save", "hello:1", stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


# inspect and explain


def test_inspect(home: Environment, hello: str) -> None:
    document = json.loads(said(home, "image", "inspect", "--json", "hello:1")[0])
    assert (document["name"], document["digest"]) == ("docker.io/library/hello:1", hello)
    assert document["config"]["content"]["config"] == {"Entrypoint": ["/hello.wasm"], "User": "65532:65532"}
    lines = said(home, "image", "inspect", "hello:1")
    assert f"digest: {hello}" in lines
    assert "form: CNCF Wasm artifact" in lines


def test_explain_an_image_and_a_file(home: Environment, guest: Guest, hello: str) -> None:
    path = guest("hello.wat")
    image, file = said(home, "image", "explain", "hello:1"), said(home, "image", "explain", path)
    assert image[0] == "hello:1: CNCF Wasm artifact"
    assert file[0] == f"{path}, packed with --layout cncf: CNCF Wasm artifact"
    assert image[1:] == file[1:]
    assert image[1] == "program: hello.wasm, core module, command, wasip1, 202B"
    assert "  yes  wasm-shim run" in image
    assert any(line.startswith("  no   crun and podman: ") and "push it with --layout image" in line for line in image)


def test_what_strangers_wrote_is_harmless(home: Environment, guest: Guest) -> None:
    """Escape sequences in annotations do not reach a terminal."""
    said(home, "pack", "-t", "a", "--annotation", "note=\x1b[31mred\nline", guest(KIT))
    (line,) = [line for line in said(home, "image", "inspect", "a") if "note" in line]
    assert line == r"  note: \x1b[31mred\x0aline"
    assert support.wasm_shim(home, "image", "inspect", "--json", "a").stdout.count("\n") == 1

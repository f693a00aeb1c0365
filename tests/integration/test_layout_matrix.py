"""What every reader makes of every layout that we push: the table of README, cell for cell."""

import gzip
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from oci.archive import load
from oci.content import Source, read_all
from oci.copy import copy
from oci.digest import Digest
from oci.graph import fetch
from oci.layout import Layout
from oci.manifest import Manifest
from oci.memory import MemoryStore
from tests.conftest import private_home
from tests.containerd.daemon import WASM, Daemon
from tests.integration.images import digest_of, new_name, ran, said
from tests.integration.readme import README
from tests.integration.support import Environment
from tests.registry.server import RegistryServer
from tests.registry.tools import Tool

LAYOUTS: Final = ("cncf", "runwasi", "image")
EXPECTED: Final = {  # in the order of LAYOUTS; the words are explained in README
    "`wasm-shim run`": ("runs", "runs", "runs"),
    "`oras pull`": ("program", "program", "nothing"),
    "`crane pull --format oci`": ("all", "all", "all"),
    "`crane export`": ("program", "program", "files"),
    "`skopeo copy` to `oci:`": ("all", "all", "compressed"),
    "`skopeo copy --preserve-digests` to `oci:`": ("all", "all", "all"),
    "`skopeo inspect`": ("refused", "shown", "shown"),
    "`ctr image pull`, containerd 1.7": ("all", "all", "all"),
    "`ctr image pull`, containerd 2.1": ("all", "all", "all"),
    "`ctr run` with wasm-shim, containerd 1.7": ("refused", "runs", "runs"),
    "`ctr run` with wasm-shim, containerd 2.1": ("refused", "runs", "runs"),
}
PROGRAM: Final = "kit_p1.wasm"
OUTPUT: Final = [f"arg /{PROGRAM}", "arg args", "arg x"]  # of the words `args x`


class Pushed(NamedTuple):
    """An image in the registry, with what it was made from."""

    reference: str
    digest: str
    program: bytes


@pytest.fixture(scope="module")
def our_home() -> Iterator[Environment]:
    """The home from which all was pushed."""
    with private_home(os.geteuid()) as environment:
        yield environment


@pytest.fixture(scope="module")
def images(
    our_home: Environment, guest: Callable[[str], Path], plain_registry: RegistryServer
) -> Callable[[str], Pushed]:
    """The image of a layout, pushed when it is first asked for."""
    pushed: dict[str, Pushed] = {}

    def find(layout: str) -> Pushed:
        if layout not in pushed:
            reference = new_name(plain_registry)
            digest = digest_of(said(our_home, "push", "--layout", layout, guest(PROGRAM), reference))
            pushed[layout] = Pushed(reference, digest, guest(PROGRAM).read_bytes())
        return pushed[layout]

    return find


def is_all(source: Source, image: Pushed) -> str:
    """Every byte of it is there; copying verifies that."""
    assert str(copy(source, image.digest, MemoryStore(), None).digest) == image.digest
    return "all"


# Other people's programs


def oras_pull(tool: Tool, image: Pushed) -> str:
    tool.run("pull", "--plain-http", "--output", "out", image.reference)
    files = [path for path in (tool.home / "out").rglob("*") if path.is_file()]
    if not files:
        return "nothing"
    assert {path.name: path.read_bytes() for path in files} == {PROGRAM: image.program}
    return "program"


def crane_pull(tool: Tool, image: Pushed) -> str:
    tool.run("pull", "--insecure", "--format", "oci", image.reference, "out")
    return is_all(Layout(tool.home / "out"), image)


def crane_export(tool: Tool, image: Pushed) -> str:
    tool.run("export", "--insecure", image.reference, "out")
    if (tool.home / "out").read_bytes() == image.program:
        return "program"
    with tarfile.open(tool.home / "out") as archive:
        [member] = archive.getmembers()
        content = archive.extractfile(member)
        assert content is not None
        assert (member.name, content.read()) == (PROGRAM, image.program)
    return "files"


def skopeo_copy(tool: Tool, image: Pushed, *options: str) -> str:
    words = ("--insecure-policy", "copy", *options, "--src-tls-verify=false")
    tool.run(*words, f"docker://{image.reference}", f"oci:{tool.home / 'out'}:1")
    layout = Layout(tool.home / "out")
    manifest = fetch(layout, layout.resolve("1"))
    assert isinstance(manifest, Manifest)
    [layer] = manifest.layers
    if layer.media_type.endswith("+gzip"):
        [unpacked] = json.loads(read_all(layout, manifest.config, 1 << 20))["rootfs"]["diff_ids"]
        assert str(Digest.of(gzip.decompress(read_all(layout, layer, 1 << 20)))) == unpacked
        return "compressed"
    return is_all(layout, image)


def skopeo_copy_as_it_is(tool: Tool, image: Pushed) -> str:
    return skopeo_copy(tool, image, "--preserve-digests")


def skopeo_inspect(tool: Tool, image: Pushed) -> str:
    try:
        said = tool.run("inspect", "--tls-verify=false", f"docker://{image.reference}")
    except AssertionError as error:
        assert "unsupported image-specific operation on artifact" in str(error)  # noqa: PT017 - it is one outcome of two
        return "refused"
    assert image.digest in said
    return "shown"


TOOLS: Final[dict[str, Callable[[Tool, Pushed], str]]] = {
    "`oras pull`": oras_pull,
    "`crane pull --format oci`": crane_pull,
    "`crane export`": crane_export,
    "`skopeo copy` to `oci:`": skopeo_copy,
    "`skopeo copy --preserve-digests` to `oci:`": skopeo_copy_as_it_is,
    "`skopeo inspect`": skopeo_inspect,
}
BY_TOOL: Final = [pytest.param(reader.split()[0].strip("`"), reader, id=reader.replace("`", "")) for reader in TOOLS]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("tool", "reader"), BY_TOOL, indirect=["tool"])
def test_tools(tool: Tool, reader: str, layout: str, images: Callable[[str], Pushed]) -> None:
    assert TOOLS[reader](tool, images(layout)) == EXPECTED[reader][LAYOUTS.index(layout)]


# Ours


@pytest.mark.parametrize("layout", LAYOUTS)
def test_run(home: Environment, layout: str, images: Callable[[str], Pushed]) -> None:
    """In a home that has never seen it."""
    assert ran(home, images(layout).reference, "args", "x") == OUTPUT
    assert EXPECTED["`wasm-shim run`"][LAYOUTS.index(layout)] == "runs"


# containerd's


def ctr_pull(daemon: Daemon, image: Pushed, directory: Path) -> str:
    archive, back = directory / "exported.tar", MemoryStore()
    daemon.run("image", "pull", "--plain-http", image.reference)
    # Without --local, 2.1 may end before it has written all of the file.
    daemon.run("image", "export", "--local", "--all-platforms", str(archive), image.reference)
    with archive.open("rb") as stream:
        assert load(stream, back) == [image.reference]
    return is_all(back, image)


def ctr_run(daemon: Daemon, image: Pushed, _: Path) -> str:
    daemon.run("image", "pull", "--plain-http", image.reference)
    own = ("--rm", "--runtime", WASM, "--fifo-dir", f"{daemon.directory}/fifo")
    words = (f"/{PROGRAM}", "args", "x")
    done = daemon.run("run", *own, image.reference, daemon.new_id(), *words, check=False)
    if done.returncode == 0:
        assert [line for line in done.stdout.splitlines() if line.startswith("arg ")] == OUTPUT
        return "runs"
    assert "unknown image config media type" in done.stderr
    return "refused"


CONTAINERD: Final = {"`ctr image pull`": ctr_pull, "`ctr run` with wasm-shim": ctr_run}
RELEASES: Final = ("1.7", "2.1")


@pytest.mark.root
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("verb", CONTAINERD, ids=lambda verb: verb.replace("`", ""))
@pytest.mark.parametrize("containerd", RELEASES, indirect=True)
def test_containerd(
    containerd: Daemon, verb: str, layout: str, images: Callable[[str], Pushed], tmp_path: Path
) -> None:
    expected = EXPECTED[f"{verb}, containerd {containerd.release.name}"]
    assert CONTAINERD[verb](containerd, images(layout), tmp_path) == expected[LAYOUTS.index(layout)]


# README


def test_readme_shows_what_is_tested() -> None:
    """The same rows in the same order, each of them tested above."""
    [table] = re.findall(r"^\| reader \|(.*?)\n(?!\|)", README, re.DOTALL | re.MULTILINE)
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    assert [cell.strip("`") for cell in head] == list(LAYOUTS)
    assert [(reader, tuple(cells)) for reader, *cells in rows] == list(EXPECTED.items())
    containerds = {f"{verb}, containerd {release}" for verb in CONTAINERD for release in RELEASES}
    assert set(EXPECTED) == {"`wasm-shim run`", *TOOLS, *containerds}

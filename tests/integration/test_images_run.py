"""`wasm-shim run` of references: every layout, Docker's rules for what an image says, and when it is pulled."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wasm_shim
from oci.copy import copy
from oci.descriptor import Descriptor, Platform
from oci.layout import Layout
from oci.manifest import new_index, new_manifest
from oci.pack import Packed, pack
from oci.pack_options import ArtifactLayout, PackOptions
from oci.reference import Reference
from tests.contracts.stores import put_parent
from tests.integration import support
from tests.integration.images import blobs, digest_of, new_name, ran, said, store
from tests.integration.support import Environment, refusal
from tests.registry.server import RegistryServer
from tests.registry.stores import repository
from tests.registry.tools import Tool
from wasm_shim.errors import InvalidArgument, NotFound

Guest = Callable[[str], Path]
LAYOUTS = pytest.mark.parametrize("layout", ["cncf", "runwasi", "image"])
KIT = "kit_p1.wasm"


@pytest.fixture
def reference(plain_registry: RegistryServer) -> str:
    """A name of the test's own."""
    return new_name(plain_registry)


# What runs


def test_a_program_goes_through_a_registry(home: Environment, guest: Guest, reference: str) -> None:
    """Pushed, run with arguments, and run by digest once the store is gone."""
    digest = digest_of(said(home, "push", guest(KIT), reference))
    assert ran(home, reference, "args", "a", "b") == [f"arg /{KIT}", "arg args", "arg a", "arg b"]
    shutil.rmtree(store(home))
    by_digest = f"{reference.removesuffix(':1')}@{digest}"
    assert ran(home, by_digest, "args", "a") == [f"arg /{KIT}", "arg args", "arg a"]
    assert [row.split()[:2] for row in said(home, "images")[1:]] == [[reference.removesuffix(":1"), "<none>"]]


@LAYOUTS
@pytest.mark.parametrize("kit", ["kit_p1.wasm", "kit_p2.wasm"])
def test_every_layout_runs(home: Environment, guest: Guest, reference: str, layout: str, kit: str) -> None:
    said(home, "push", "--layout", layout, guest(kit), reference)
    for _ in range(2):  # pulled, and remembered
        assert ran(home, reference, "args", "x") == [f"arg /{kit}", "arg args", "arg x"]


@LAYOUTS
def test_text_is_packed_as_a_binary(home: Environment, guest: Guest, reference: str, layout: str) -> None:
    said(home, "push", "--layout", layout, guest("hello.wat"), reference)
    assert ran(home, reference) == ["hello from wasm-shim"]


def test_of_an_index_what_can_run_is_pulled(
    home: Environment, guest: Guest, plain_registry: RegistryServer, reference: str
) -> None:
    """The rest of it stays where it is."""
    name = Reference.parse(reference)
    with repository(plain_registry.host, name.repository) as registry:
        parts = [pack(guest(KIT), PackOptions(layout)) for layout in ArtifactLayout]
        for part in parts:
            copy(part, part.name, registry, None)
        platforms = (Platform("s390x", "linux"), Platform("wasm", "wasi"), Platform("arm64", "linux"))
        pairs = zip(parts, platforms, strict=True)
        index = new_index(replace(part.manifest.descriptor, platform=platform) for part, platform in pairs)
        put_parent(registry, index, "1")
    assert ran(home, reference, "args") == [f"arg /{KIT}", "arg args"]
    assert len(blobs(home)) == 3


@pytest.mark.parametrize("tool", ["oras"], indirect=True)
def test_what_oras_pushed_runs(home: Environment, guest: Guest, tool: Tool, reference: str) -> None:
    """It says nothing but the file's name: that is the program's."""
    shutil.copy(guest(KIT), tool.home / "tool.wasm")
    tool.run("push", "--plain-http", reference, "tool.wasm:application/wasm")
    assert ran(home, reference, "args", "x") == ["arg /tool.wasm", "arg args", "arg x"]


def test_python_loads_a_reference(
    home: Environment, guest: Guest, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulled where it is missing; errors are those of `wasm_shim.errors`."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, home[name])
    said(home, "push", guest("addition.wat"), reference)
    for _ in range(2):
        program: Any = wasm_shim.load(reference)
        assert program.add(27, 6) == 33
    with pytest.raises(NotFound, match="there is no"):
        wasm_shim.load(reference.replace(":1", ":2").replace("cli", "none"))
    with pytest.raises(InvalidArgument, match="has capitals"):
        wasm_shim.load("Capitals")


# What an image says


@pytest.fixture
def image(home: Environment, guest: Guest) -> str:
    """An image with variables and arguments, in the store."""
    options = ["-e", "A=1", "-e", "B=two words", "--cmd", "args", "--cmd", "said"]
    said(home, "pack", *options, "-t", "kit", guest(KIT))
    return "kit"


def test_arguments_stand_in_for_cmd(home: Environment, image: str) -> None:
    variables = ["env A=1", "env B=two words"]
    assert ran(home, image) == [f"arg /{KIT}", "arg args", "arg said", *variables]
    assert ran(home, image, "args", "--rm") == [f"arg /{KIT}", "arg args", "arg --rm", *variables]


def test_variables_are_over_the_images(home: Environment, image: str) -> None:
    lines = said(home, "run", "--rm", "-e", "B=3", "-e", "C=4", image)
    assert lines[3:] == ["env A=1", "env B=3", "env C=4"]


def test_another_entrypoint_leaves_cmd_out(home: Environment, image: str) -> None:
    assert said(home, "run", "--rm", "--entrypoint", KIT, image, "args")[:2] == [f"arg {KIT}", "arg args"]
    done = support.wasm_shim(home, "run", "--rm", "--entrypoint", "/bin/sh", image)
    assert (done.returncode, f"/{KIT}" in refusal(done)) == (127, True)


def test_messages_call_the_program_by_its_name(home: Environment, guest: Guest) -> None:
    """And not by the digest of the file that it is read from."""
    said(home, "pack", "-t", "wrong", guest("unknown_import.wat"))
    done = support.wasm_shim(home, "run", "--rm", "wrong")
    assert done.returncode == 126
    assert refusal(done).startswith("cannot run unknown_import.wasm: it imports env.launch")


def test_the_working_directory_counts_where_a_volume_has_it(home: Environment, guest: Guest, tmp_path: Path) -> None:
    """Elsewhere there is none: a guest of an image sees nothing else of its files."""
    layout = Layout.create(tmp_path / "layout")
    packed = pack(guest(KIT), PackOptions(ArtifactLayout.IMAGE))
    _put_with_directory(layout, packed, "/srv/data")
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-cf", archive, "-C", layout.path, "oci-layout", "index.json", "blobs"], check=True)
    said(home, "load", "-i", archive)
    (tmp_path / "file").write_text("content")
    assert said(home, "run", "--rm", "-v", f"{tmp_path}:/srv/data", "x/kit", "read", "file") == ["content"]
    assert said(home, "run", "--rm", "-v", f"{tmp_path}:/", "x/kit", "read", "/file") == ["content"]
    assert ran(home, "x/kit", "args")[1:] == ["arg args"]


def _put_with_directory(layout: Layout, packed: Packed, directory: str) -> None:
    """The image with another config."""
    copy(packed, packed.name, layout, None)
    config = json.loads(packed.config)
    config["config"]["WorkingDir"] = directory
    raw = json.dumps(config).encode()
    described = Descriptor.of(packed.manifest.config.media_type, raw)
    layout.write(described, [raw])
    put_parent(layout, new_manifest(described, packed.manifest.layers), "docker.io/x/kit:latest")

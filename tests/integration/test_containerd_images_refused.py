"""Images of which no program can be run say why in one line, when the container is created; nothing wrong is run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oci.digest import Digest
from oci.pack import pack
from oci.pack_options import ArtifactLayout
from tests.containerd.artifacts import (
    CNCF_CONFIG,
    WASM_LAYER,
    create,
    indexed,
    load,
    packed,
    pushed,
    start,
    unique,
)
from tests.containerd.daemon import Daemon

pytestmark = [pytest.mark.root, pytest.mark.parametrize("containerd", ["1.7", "2.1"], indirect=True)]
Guest = Callable[[str], Path]


def refusal(daemon: Daemon, image: str, *words: str, name: str = "") -> str:
    """The one line of a container that is not created."""
    code, out, err = start(daemon, name or create(daemon, image, *words))
    [line] = err.splitlines()
    assert (code, out) == (1, "")
    return line


def test_another_word(containerd: Daemon, guest: Guest) -> None:
    """Both the word and the program are named; a word that only looks like it does not count."""
    image = load(containerd, packed("localhost/word:1", guest("kit_p1.wasm"), ArtifactLayout.CNCF))
    for word in ("/x", "/dir/kit_p1.wasm", "kit_p1", "/kit_p1.wasm#add"):
        line = refusal(containerd, image.name, word)
        assert f"no program {word} in the image; its program is /kit_p1.wasm; name that" in line


def test_another_word_for_a_file(containerd: Daemon, guest: Guest) -> None:
    """Where the program is a file, the files are named."""
    image = containerd.load(packed("localhost/word-file:1", guest("kit_p1.wasm"), ArtifactLayout.IMAGE))
    done = containerd.run(*containerd.container(image, containerd.new_id(), "/x", options=["--rm"]), check=False)
    assert "no program /x in the image; it has /kit_p1.wasm; name that" in done.stderr


def test_layers_that_are_no_program(containerd: Daemon, guest: Guest) -> None:
    wasm = guest("kit_p1.wasm").read_bytes()
    config = {"architecture": "wasm", "os": "wasip1"}
    native = "application/vnd.wasm.precompiled.v1"
    cases = {
        "two": ([(WASM_LAYER, wasm, "a.wasm"), (WASM_LAYER, b"\0", "b.wasm")], "2 Wasm layers ('a.wasm', 'b.wasm') "),
        "native": ([(native, b"\x7fELF" + wasm, "a.cwasm")], "'a.cwasm' is native code that was compiled from Wasm"),
        "elf": ([(WASM_LAYER, b"\x7fELF" + wasm, "a.wasm")], "cannot run /a.wasm: not Wasm but a native program (ELF)"),
        "text": ([("text/plain", b"hello", "a.txt")], "an artifact without Wasm; its layers are 'text/plain'"),
        "none": ([], "an empty artifact: its manifest names no layer"),
    }
    for name, (layers, sentence) in cases.items():
        image = load(containerd, pushed(f"localhost/{name}:1", (CNCF_CONFIG, config), layers))
        assert sentence in refusal(containerd, image.name, "/a.wasm"), name


def test_config_of_other_layers(containerd: Daemon, guest: Guest) -> None:
    """The config's digest is the image's ID for a CRI, so a config that says another layer is no config of this one."""
    wasm = guest("kit_p1.wasm").read_bytes()
    config = {"architecture": "wasm", "os": "wasip1", "layerDigests": [str(Digest.of(b"another"))]}
    image = load(containerd, pushed("localhost/tampered:1", (CNCF_CONFIG, config), [(WASM_LAYER, wasm, "a.wasm")]))
    line = refusal(containerd, image.name, "/a.wasm")
    assert "cannot run the image localhost/tampered:1: the config sha256:" in line
    assert "was made for other layers" in line


def test_index_for_other_hosts(containerd: Daemon, guest: Guest) -> None:
    image = load(containerd, indexed("localhost/elsewhere:1", guest("kit_p1.wasm"), "windows", "amd64"))
    line = refusal(containerd, image.name, "/kit_p1.wasm")
    assert "an index with nothing for linux/amd64 or wasi/wasm; it is for windows/amd64" in line


def test_removed_image(containerd: Daemon, guest: Guest) -> None:
    """After the container was made of it."""
    image = load(containerd, packed("localhost/removed:1", guest("kit_p1.wasm"), ArtifactLayout.CNCF))
    name = create(containerd, image.name, "/kit_p1.wasm")
    containerd.run("image", "remove", "--sync", image.name)
    line = refusal(containerd, "", name=name)
    assert "no program /kit_p1.wasm in the root file system, and the image localhost/removed:1 has been removed" in line


def test_missing_content(containerd: Daemon, guest: Guest, tmp_path: Path) -> None:
    """Whatever of it is missing is named; complete again, it runs."""
    program = unique(guest("kit_p1.wasm"), tmp_path / "missing.wasm", containerd.release.name)
    made = pack(program)
    image = load(containerd, packed("localhost/missing:1", program, ArtifactLayout.CNCF))
    for lost in (made.manifest.descriptor, made.manifest.config, made.manifest.layers[0]):
        containerd.run("content", "remove", str(lost.digest))
        line = refusal(containerd, image.name, "/missing.wasm")
        assert "the image localhost/missing:1 is not complete in containerd: " in line
        assert f"{lost.digest}: not found; pull it again" in line
        load(containerd, image)
    assert start(containerd, create(containerd, image.name, "/missing.wasm", "hello"))[:2] == (0, "hello from kit\n")


def test_container_without_an_image(containerd: Daemon) -> None:
    """Made from a root file system: only that is looked into."""
    assert "no program /x in the image; name a .wasm or .wat file of it" in refusal(containerd, "", "/x")

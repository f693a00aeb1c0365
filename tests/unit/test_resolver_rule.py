"""Which words mean the program of an image, and what is said to others."""

from typing import Any

import pytest

from oci.descriptor import Descriptor, Platform
from oci.digest import Digest
from oci.memory import MemoryStore
from oci.program import choose, read_artifacts
from tests.unit.oci.forms import COMMAND, IMAGE_CONFIG, image, layer, put, put_index
from wasm_shim.errors import InvalidArgument, NotFound
from wasm_shim.resolver.messages import MESSAGE, ImageProgram, Question, decode_answer, encode_answer
from wasm_shim.resolver.rule import Choice, check_word, host_platform, sha256_of

HOST = host_platform()


def found(title: str = "", *, platform: Platform | None = None, **settings: Any) -> Choice:
    """The program of an image with a Wasm layer; `settings` are its config's."""
    store = MemoryStore()
    made = put(store, (IMAGE_CONFIG, image(**settings)), [layer("application/wasm", COMMAND, title)])
    target = put_index(store, (made, platform.architecture, platform.os)) if platform else made
    return Choice.of(*choose(read_artifacts(store, target, HOST)))


@pytest.mark.parametrize("entrypoint", ["/app.wasm", "app.wasm", "./app.wasm", "app.wasm#_start"])
@pytest.mark.parametrize("word", ["/app.wasm", "app.wasm", "./app.wasm", "/app.wasm#_start"])
def test_the_entrypoint(entrypoint: str, word: str) -> None:
    check_word(word, found(Entrypoint=[entrypoint]))


def test_the_title() -> None:
    """Beside the entrypoint, which may call it something else."""
    for word in ("/file.wasm", "file.wasm", "/start"):
        check_word(word, found("file.wasm", Entrypoint=["/start", "now"]))


WRONG = ["/app", "/App.wasm", "/dir/app.wasm", "app.wasm/", "/app.wasm#add", "now", "", "/", ".", "#_start"]


@pytest.mark.parametrize("word", WRONG)
def test_other_words(word: str) -> None:
    with pytest.raises(NotFound) as caught:
        check_word(word, found("app.wasm", Entrypoint=["/app.wasm", "now"]))
    assert str(caught.value) == f"no program {word} in the image; its program is /app.wasm; name that"


def test_no_entrypoint() -> None:
    """Then a container's word comes from who made it, and there is one program."""
    for word in ("/whatever", "x"):
        check_word(word, found("app.wasm"))
        check_word(word, found("app.wasm", platform=HOST))


def test_no_entrypoint_beside_the_host() -> None:
    """What an index has for Wasm is not what containerd made the container from, if it has something for the host."""
    beside = found("app.wasm", platform=Platform("wasm", "wasip1"))
    check_word("/app.wasm", beside)
    with pytest.raises(NotFound):
        check_word("/whatever", beside)


def test_what_it_is_called() -> None:
    digest = Digest.of(COMMAND)
    assert found("app.wasm", Entrypoint=["start"]).name == "start"
    assert found("app.wasm").name == "/app.wasm"
    assert found().name == str(digest)
    kept = found().layer
    assert kept
    assert sha256_of(kept) == digest.hex
    with pytest.raises(NotFound) as caught:
        check_word("/x", found(Entrypoint=["\x1b[31m" + "a" * 1000]))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_another_digest_than_sha256() -> None:
    """Compiled programs are kept by that, and nobody else checks it."""
    with pytest.raises(InvalidArgument, match="by another digest than sha256; push it with that"):
        sha256_of(Descriptor("application/wasm", Digest("sha512", "0" * 128), 5))


def test_what_is_kept() -> None:
    """Of hostile configs nothing; of others not their manifests."""
    assert found("app.wasm", Entrypoint=["/app.wasm"]).is_small
    assert not found(Entrypoint=["a" * 100_000]).is_small


# Messages


def test_messages() -> None:
    question = Question("here", "one", "/ä\udcff.wasm", "0" * 64)
    assert Question.from_bytes(question.to_bytes()) == question
    program = ImageProgram("0" * 64, 5, "/app.wasm", "localhost/app:1")
    assert decode_answer(encode_answer(program)) == program
    assert decode_answer(encode_answer(None)) is None
    with pytest.raises(NotFound, match="no such thing; name another"):
        decode_answer(encode_answer(NotFound("no such thing; name another")))
    assert len(encode_answer(NotFound("\x00" * MESSAGE))) < MESSAGE


def test_a_word_that_is_no_name() -> None:
    with pytest.raises(InvalidArgument, match="no program aaa"):
        Question("here", "one", "a" * MESSAGE).to_bytes()

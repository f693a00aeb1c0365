"""Registries that answer with other bytes than a blob's, with fewer, with more, slowly or without end."""

from collections.abc import Iterable
from itertools import repeat

import pytest

from oci.copy import copy
from oci.errors import InvalidContent, NotFound, OciError, Unavailable
from oci.graph import fetch
from oci.memory import MemoryStore
from oci.registry.options import Patience
from oci.registry.store import Registry
from tests.registry.artifact import BLOB, LAYER, LAYER_DESCRIPTOR, except_for, good
from tests.registry.refused import pull_is_refused, refused
from tests.registry.scripted import Answer, Asked, Scripted, reply
from tests.registry.stores import HASTE, repository

SIZE = len(LAYER)
CHUNKED = reply(200, Content_Length="", Transfer_Encoding="chunked")[0]


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(length: object = "") -> bytes:
    """The begin of an answer with a body of this length, or of one that ends with the connection."""
    return reply(200, Content_Length=str(length))[0]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda _: reply(200, bytes(SIZE)), InvalidContent, ["the bytes of sha256:"]),
        (lambda _: reply(200, LAYER[:-1]), InvalidContent, [f"has {SIZE - 1} bytes of it"]),
        (lambda _: reply(200, LAYER + b"x"), InvalidContent, [f"has {SIZE + 1} bytes of it"]),
        (lambda _: reply(200, LAYER, Content_Length="-1"), InvalidContent, ["bytes of it"]),
        (lambda _: reply(200, LAYER, Content_Length="many"), InvalidContent, ["bytes of it"]),
        (lambda _: [head(), LAYER, b"x"], InvalidContent, [f"more than {SIZE} bytes"]),
        (lambda _: [head(), *repeat(LAYER, 1000)], InvalidContent, [f"more than {SIZE} bytes"]),
        (lambda _: [CHUNKED, *repeat(chunk(LAYER), 1000)], InvalidContent, [f"more than {SIZE} bytes"]),
        (lambda _: [CHUNKED, chunk(LAYER[:-1]), chunk(b"")], InvalidContent, [f"only {SIZE - 1} bytes"]),
        (lambda _: reply(206, LAYER), InvalidContent, ["other bytes"]),
        (lambda _: reply(206, LAYER, Content_Range="bytes 5-9/10"), InvalidContent, ["other bytes"]),
        (lambda _: reply(200, b"", Content_Length=str(SIZE)), Unavailable, ["broke"]),
        (lambda _: [CHUNKED, b"zz\r\n"], Unavailable, ["broke"]),
        (lambda _: [CHUNKED, b"1" * 100_000], Unavailable, ["broke"]),
        (lambda _: reply(404, b"x" * 10_000_000), NotFound, ["there is no sha256:"]),
        (lambda _: [b"HTTP/1.1 404 X\r\n\r\n", *repeat(b"x" * 65536, 1000)], NotFound, ["there is no sha256:"]),
    ],
)
def test_a_bad_blob_is_refused(
    bad_registry: Registry, bad_server: Scripted, answer: Answer, kind: type[OciError], words: list[str]
) -> None:
    bad_server.answer = except_for(BLOB, answer)
    pull_is_refused(bad_registry, kind, *words, blobs_too=False)


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", BLOB], ids=["any", "manifest", "blob"])
@pytest.mark.parametrize("way", ["nothing", "slow head", "slow body", "slow chunk", "silence after the head"])
def test_who_is_too_slow_is_left(bad_server: Scripted, part: str, way: str) -> None:
    def answer(_: Asked) -> Iterable[bytes]:
        match way:
            case "nothing":
                return bad_server.drip([b"", b""], 60)
            case "slow head":
                return bad_server.drip(repeat(b"H"), 0.02)
            case "slow body":
                return bad_server.drip([head(SIZE), *repeat(b"x", 10_000)], 0.02)
            case "slow chunk":
                return bad_server.drip([CHUNKED, *repeat(b"0", 10_000)], 0.02)
            case _:
                return bad_server.drip([head(SIZE)], 60)

    bad_server.answer = answer if part == "/v2/" else except_for(part, answer)
    with repository(bad_server.host, "bad/one", patience=HASTE) as registry, refused(Unavailable):
        list(registry.read(fetch(registry, registry.resolve("v1")).children[1]))


def test_a_slow_user_of_the_bytes_is_not_the_registry_s_fault(bad_server: Scripted) -> None:
    with repository(bad_server.host, "bad/one", patience=Patience(stall=0.3)) as registry:
        received = b""
        for piece in registry.read(LAYER_DESCRIPTOR):
            bad_server.ended.wait(0.6)  # nothing but time passes
            received += piece
    assert received == LAYER


@pytest.mark.parametrize("at", [0, 1, SIZE // 9, SIZE // 5, SIZE // 3, SIZE // 2, 262_144, 262_145, SIZE - 2, SIZE - 1])
def test_a_connection_that_breaks_is_resumed_where_it_broke(bad_server: Scripted, at: int) -> None:
    """The first answer ends at this offset; what was there is not sent again."""
    offsets: list[int] = []

    def answer(asked: Asked) -> Iterable[bytes]:
        offsets.append(int(asked.headers.get("range", "bytes=0-")[6:-1]))
        first, *rest = good(asked)
        return [first, LAYER[:at]] if len(offsets) == 1 else [first, *rest]

    bad_server.answer = except_for(BLOB, answer)
    target = MemoryStore()
    with repository(bad_server.host, "bad/one") as registry:
        if at == 0:
            pull_is_refused(registry, Unavailable, "broke", blobs_too=False)
        copy(registry, "v1", target, "v1")
    assert target.blobs()[LAYER_DESCRIPTOR.digest] == LAYER
    assert offsets == [0, at]


def test_slow_but_steady_is_fine(bad_server: Scripted) -> None:
    """Longer in all than a transfer may stand still, and more than the least that must come in that time."""
    pieces = [LAYER[at : at + 65_536] for at in range(0, SIZE, 65_536)]
    bad_server.answer = except_for(BLOB, lambda _: bad_server.drip([head(SIZE), *pieces], 0.1))
    with repository(bad_server.host, "bad/one", patience=Patience(stall=0.15)) as registry:
        assert b"".join(registry.read(LAYER_DESCRIPTOR)) == LAYER


def test_a_registry_without_ranges_sends_all_again(bad_server: Scripted) -> None:
    bad_server.answer = except_for(BLOB, lambda _: reply(200, LAYER))
    with repository(bad_server.host, "bad/one") as registry:
        assert b"".join(registry.read(LAYER_DESCRIPTOR, 1000)) == LAYER[1000:]


def test_nothing_is_asked_for_at_the_end(bad_registry: Registry, bad_server: Scripted) -> None:
    assert list(bad_registry.read(LAYER_DESCRIPTOR, SIZE)) == []
    assert bad_server.asked == []


def test_bytes_are_taken_as_they_are(bad_registry: Registry, bad_server: Scripted) -> None:
    """A header that says they are compressed changes none: the digest is over what is sent."""
    bad_server.answer = lambda _: reply(200, LAYER, Content_Encoding="gzip")
    assert b"".join(bad_registry.read(LAYER_DESCRIPTOR)) == LAYER
    assert bad_server.asked[-1].headers["accept-encoding"] == "identity"


def test_a_blob_of_another_length_is_not_here(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = lambda _: [reply(200, Content_Length=str(SIZE - 1))[0]]
    assert not bad_registry.has(LAYER_DESCRIPTOR)
    with refused(InvalidContent):
        list(bad_registry.read(LAYER_DESCRIPTOR))

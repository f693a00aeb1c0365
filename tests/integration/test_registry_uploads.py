"""Uploads to registries that lead astray, break or are slow; and to a real one, of what is not as it claims."""

from collections.abc import Callable, Iterable
from itertools import repeat

import pytest

from oci.content import CHUNK, Content
from oci.descriptor import Descriptor
from oci.errors import Denied, InvalidContent, NotFound, OciError, Unavailable
from oci.media_types import WASM_LAYER
from oci.registry.options import Patience
from oci.registry.store import Registry
from tests.contracts.stores import breaking
from tests.registry.artifact import MANIFEST
from tests.registry.refused import refused
from tests.registry.scripted import Answer, Asked, Scripted, reply
from tests.registry.stores import repository

DATA = bytes(range(256)) * (CHUNK // 100)
BLOB = Descriptor.of(WASM_LAYER, DATA)
SHORT = Patience(connect=1.0, answer=1.0, total=2.0)


def again(data: bytes = DATA) -> Content:
    """Chunks that can be had again."""
    return Content(lambda offset: iter([data[offset:CHUNK], data[CHUNK:]]))


def taking(**others: Answer) -> Answer:
    """A registry that takes uploads, but for the answers to these methods."""

    def answer(asked: Asked) -> Iterable[bytes]:
        if asked.method in others:
            return others[asked.method](asked)
        match asked.method:
            case "HEAD":
                return reply(404)
            case "POST":
                return reply(202, Location="/upload/1")
            case "PUT":
                return reply(201)
            case _:
                return reply(200)

    return answer


def failing(times: int, *answers: bytes) -> Answer:
    """Bad at first, then as it should be."""
    left = iter(repeat(answers, times))
    return lambda _: next(left, None) or reply(201)


def bodies(server: Scripted) -> list[bytes]:
    """What was put."""
    return [asked.body for asked in server.asked if asked.method == "PUT"]


def test_an_upload_is_one_put_of_known_length(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = taking()
    bad_registry.write(BLOB, again())
    assert bodies(bad_server) == [DATA]
    put = next(asked for asked in bad_server.asked if asked.method == "PUT")
    assert put.path == f"/upload/1?digest=sha256%3A{BLOB.digest.hex}"
    assert put.headers["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in put.headers


@pytest.mark.parametrize(
    ("location", "kind", "words"),
    [
        ("", Denied, ["status 202"]),
        ("http://other.example/upload", Denied, ["plain HTTP", "other.example"]),
        ("ftp://localhost/upload", Denied, ["hostile"]),
        ("/upload\x01", Denied, ["hostile"]),
        ("/upload 1", Denied, ["hostile"]),
        ("http://localhost:1/upload", Unavailable, ["cannot connect"]),
    ],
)
def test_bad_locations(
    bad_registry: Registry, bad_server: Scripted, location: str, kind: type[OciError], words: list[str]
) -> None:
    bad_server.answer = taking(POST=lambda _: reply(202, Location=location))
    with refused(kind, *words):
        bad_registry.write(BLOB, again())


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (413, Denied), (500, Unavailable), (429, Unavailable)])
def test_statuses(bad_registry: Registry, bad_server: Scripted, method: str, status: int, kind: type[OciError]) -> None:
    said = b"" if method == "HEAD" else b'{"errors": [{"code": "REASON"}]}'
    bad_server.answer = taking(**{method: lambda _: reply(status, said)})
    with refused(kind, *(["REASON"] if said else [])):
        bad_registry.write(BLOB, again())


def test_an_early_refusal_is_heard_while_sending(bad_registry: Registry, bad_server: Scripted) -> None:
    """The answer comes before the body was read, and the connection ends."""
    bad_server.reads_bodies = False
    bad_server.answer = taking(PUT=lambda _: reply(413, b'{"errors": [{"code": "SIZE"}]}'))
    with refused(Denied, "413"):
        bad_registry.write(BLOB, again())


@pytest.mark.parametrize(
    "answers", [[b""], reply(500), reply(502), reply(404)], ids=["broken", "500", "502", "forgotten"]
)
def test_what_can_be_had_again_is_sent_again(bad_server: Scripted, answers: list[bytes]) -> None:
    bad_server.answer = taking(PUT=failing(1, *answers))
    with repository(bad_server.host, "bad/one") as registry:
        registry.write(BLOB, again())
    assert bodies(bad_server) == [DATA, DATA]
    assert len(bad_server.paths("POST")) == 2


def test_what_cannot_be_had_again_is_not(bad_server: Scripted) -> None:
    bad_server.answer = taking(PUT=failing(1, b""))
    with repository(bad_server.host, "bad/one") as registry, refused(Unavailable, "broke"):
        registry.write(BLOB, iter([DATA]))
    assert bodies(bad_server) == [DATA]


def test_a_source_that_breaks_is_not_the_registry_s_fault(bad_server: Scripted) -> None:
    bad_server.answer = taking()
    with repository(bad_server.host, "bad/one") as registry, refused(Unavailable, "the connection is lost"):
        registry.write(BLOB, Content(lambda _: breaking(DATA, CHUNK)))
    assert len(bad_server.paths("POST")) == 1


@pytest.mark.parametrize(
    "chunks",
    [lambda: [DATA[:-1]], lambda: [DATA, b"x"], lambda: [DATA[:-1], b"x"], list, lambda: repeat(b"x" * CHUNK)],
    ids=["short", "long", "other", "nothing", "endless"],
)
def test_wrong_bytes_are_never_sent_whole(
    bad_registry: Registry, bad_server: Scripted, chunks: Callable[[], Iterable[bytes]]
) -> None:
    bad_server.answer = taking()
    with refused(InvalidContent, str(BLOB.digest)):
        bad_registry.write(BLOB, chunks())
    assert all(len(body) < BLOB.size for body in bodies(bad_server))


def test_a_digest_that_the_registry_got_wrong_is_told(bad_registry: Registry, bad_server: Scripted) -> None:
    other = "sha256:" + "0" * 64
    bad_server.answer = taking(PUT=lambda _: reply(201, Docker_Content_Digest=other))
    with refused(InvalidContent, f"stored {other}"):
        bad_registry.write(BLOB, again())
    with refused(InvalidContent, f"stored {other}"):
        bad_registry.write(MANIFEST.descriptor, [MANIFEST.raw])


def test_a_registry_that_takes_nothing_any_more_is_left(bad_server: Scripted) -> None:
    """It reads the request's head and then sleeps, so that the buffers of the connection are full in the end."""
    blob = bytes(64 << 20)
    bad_server.reads_bodies = False
    bad_server.answer = taking(PUT=lambda _: bad_server.drip([b"", b""], 60))
    with repository(bad_server.host, "bad/one", patience=SHORT) as registry, refused(Unavailable, "localhost"):
        registry.write(Descriptor.of(WASM_LAYER, blob), [blob])


@pytest.mark.parametrize(("status", "kind"), [(400, Denied), (403, Denied), (404, NotFound), (500, Unavailable)])
def test_a_manifest_that_is_refused(
    bad_registry: Registry, bad_server: Scripted, status: int, kind: type[OciError]
) -> None:
    body = b'{"errors": [{"code": "MANIFEST_INVALID", "message": "unknown media type"}]}'
    bad_server.answer = taking(PUT=lambda _: reply(status, body))
    with refused(kind, "MANIFEST_INVALID: unknown media type"):
        bad_registry.write(MANIFEST.descriptor, [MANIFEST.raw])


def test_a_manifest_is_put_again_where_another_pushes_its_blobs(bad_registry: Registry, bad_server: Scripted) -> None:
    unknown = reply(400, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}')
    bad_server.answer = taking(PUT=failing(2, *unknown))
    bad_registry.write(MANIFEST.descriptor, [MANIFEST.raw])
    assert bodies(bad_server) == [MANIFEST.raw] * 3


def test_what_a_manifest_names_and_the_registry_lacks_is_told(bad_registry: Registry, bad_server: Scripted) -> None:
    body = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}'
    bad_server.answer = taking(PUT=lambda _: reply(400, body))
    with refused(NotFound, "MANIFEST_BLOB_UNKNOWN", "write what it names before"):
        bad_registry.write(MANIFEST.descriptor, [MANIFEST.raw])


def test_a_blob_that_the_registry_has_after_all_is_not_sent(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = taking(POST=lambda _: reply(201))
    bad_registry.write(BLOB, again())
    assert bodies(bad_server) == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_mount_that_is_refused_is_none(bad_registry: Registry, bad_server: Scripted, status: int) -> None:
    bad_server.answer = taking(POST=lambda _: reply(status, WWW_Authenticate="Basic"))
    with repository(bad_server.host, "bad/other") as other:
        assert not bad_registry.mount(BLOB, other)

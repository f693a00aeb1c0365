"""Registries that answer with manifests that are none, or other ones, or too large, or do not end."""

from itertools import repeat

import pytest

from oci.copy import copy
from oci.errors import InvalidContent, InvalidReference, NotFound, OciError, Unavailable
from oci.manifest import MAX_MANIFEST
from oci.memory import MemoryStore
from oci.registry.store import Registry
from tests.registry.artifact import LAYER, MANIFEST, except_for
from tests.registry.refused import pull_is_refused, refused
from tests.registry.scripted import Answer, Scripted, reply

TYPE = MANIFEST.descriptor.media_type
OTHER = "sha256:" + "0" * 64


def manifest(raw: bytes = MANIFEST.raw, **headers: str) -> Answer:
    """The answer with a manifest."""
    return lambda _: reply(200, raw, **{"Content_Type": TYPE, **headers})


def test_the_good_one_is_pulled(bad_registry: Registry) -> None:
    target = MemoryStore()
    assert copy(bad_registry, "v1", target, "v1") == MANIFEST.descriptor
    assert LAYER in target.blobs().values()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (manifest(Docker_Content_Digest=OTHER), InvalidContent, ["the bytes of sha256:0000"]),
        (manifest(Docker_Content_Digest="sha256:../../../x"), InvalidContent, ["sha256:../../../x", "hostile"]),
        (manifest(b"<html>", Content_Type="text/html"), InvalidContent, ["text/html", "is there a registry"]),
        (manifest(b"{}", Content_Type="application/json"), InvalidContent, ["application/json"]),
        (manifest(b"{}", Content_Type=""), InvalidContent, ["without a type"]),
        (manifest(b"{"), InvalidContent, ["JSON"]),
        (manifest(b"[" * 100_000), InvalidContent, ["nested too deeply"]),
        (manifest(b""), InvalidContent, ["JSON"]),
        (manifest(MANIFEST.raw.replace(b"sha256:", b"sha256:../", 1)), InvalidContent, ["sha256:../"]),
        (manifest(Content_Type=TYPE.replace("manifest", "index")), InvalidContent, ["is served as"]),
        (manifest(b" " * (MAX_MANIFEST + 1)), InvalidContent, ["longer than 4194304 bytes"]),
        (manifest(b"", Content_Length="100000000"), InvalidContent, ["longer than 4194304 bytes"]),
        (manifest(b"", Content_Length="9" * 4000), InvalidContent, ["longer than 4194304 bytes"]),
        (lambda _: [*manifest(Content_Length="")(_), *repeat(b" " * 65536, 1600)], InvalidContent, ["longer than"]),
        (manifest(MANIFEST.raw[:-1], Content_Length=str(len(MANIFEST.raw))), Unavailable, ["broke"]),
    ],
)
def test_a_bad_manifest_is_refused(
    bad_registry: Registry, bad_server: Scripted, answer: Answer, kind: type[OciError], words: list[str]
) -> None:
    bad_server.answer = except_for("/manifests/", answer)
    pull_is_refused(bad_registry, kind, *words)


def test_another_manifest_than_the_digest_says_is_refused(bad_registry: Registry) -> None:
    with refused(InvalidContent, "the bytes of sha256:0000"):
        bad_registry.resolve(OTHER)


def test_a_manifest_whose_bytes_change_after_the_tag_was_resolved_is_refused(
    bad_registry: Registry, bad_server: Scripted
) -> None:
    descriptor = bad_registry.resolve("v1")
    with refused(NotFound):
        bad_registry.resolve("sha256:../v1")  # nothing of this is asked for
    bad_server.answer = manifest(MANIFEST.raw.replace(b"wasm", b"WASM"), Docker_Content_Digest="")
    assert b"".join(bad_registry.read(descriptor)) == MANIFEST.raw  # the bytes that were checked
    assert bad_server.paths("GET") == ["/v2/", "/v2/bad/one/manifests/v1"]


def test_the_type_in_the_bytes_counts_where_no_header_says_it(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = manifest(Content_Type="application/json")
    assert bad_registry.resolve("v1") == MANIFEST.descriptor


@pytest.mark.parametrize(
    "name", ["v1\r\nX: y", "v1 HTTP/1.1", "../../secrets", "v1?x=y", "", "v1#", "ü", "sha256:..", "%2e"]
)
def test_a_name_that_can_be_none_is_not_asked_for(bad_registry: Registry, bad_server: Scripted, name: str) -> None:
    with refused(NotFound, "has this name"):
        bad_registry.resolve(name)
    with refused(InvalidReference, "is no tag"):
        bad_registry.tag(name, MANIFEST.descriptor)
    assert bad_server.asked == []


def tag_page(*names: object, link: str = "") -> list[bytes]:
    """A page of tags."""
    body = f'{{"tags": {list(names)}}}'.replace("'", '"').encode()
    return reply(200, body, **({"Link": link} if link else {}))


def test_tags_are_listed_over_several_pages(bad_registry: Registry, bad_server: Scripted) -> None:
    pages = {
        "/v2/bad/one/tags/list?n=1000": tag_page("b", "a", link='</v2/bad/one/tags/list?last=b&n=1000>; rel="next"'),
        "/v2/bad/one/tags/list?last=b&n=1000": tag_page("c", link="<list?last=c>; rel=next"),
        "/v2/bad/one/tags/list?last=c": tag_page("d", link='<x>; rel="prev"'),
    }
    bad_server.answer = lambda asked: pages.get(asked.path, reply(200))
    assert bad_registry.tags() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("link", "kind", "said"),
    [
        ("</v2/bad/one/tags/list?n=1000>; rel=next", InvalidContent, "has no end"),
        ("<http://127.0.0.1:1/tags>; rel=next", InvalidContent, "at another host"),
        ("<https://example.com/tags>; rel=next", InvalidContent, "at another host"),
    ],
)
def test_a_list_of_tags_that_leads_elsewhere_is_refused(
    bad_registry: Registry, bad_server: Scripted, link: str, kind: type[OciError], said: str
) -> None:
    bad_server.answer = lambda _: tag_page("a", link=link)
    with refused(kind, said):
        bad_registry.tags()


def test_a_list_of_tags_without_end_is_refused(bad_registry: Registry, bad_server: Scripted) -> None:
    def page(_: object) -> list[bytes]:
        begin = len(bad_server.asked) * 20_000
        return tag_page(*map(str, range(begin, begin + 20_000)), link=f"<list?last={begin}>; rel=next")

    bad_server.answer = page
    with refused(InvalidContent, "has no end"):
        bad_registry.tags()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": 5}', b'{"tags": [5]}', b'{"tags": ["a\\u001b[2J"]}'])
def test_what_is_no_list_of_tags_is_refused(bad_registry: Registry, bad_server: Scripted, body: bytes) -> None:
    bad_server.answer = lambda _: reply(200, body)
    with refused(InvalidContent, "the list of tags"):
        bad_registry.tags()


def test_no_tags_are_an_empty_list(bad_registry: Registry, bad_server: Scripted) -> None:
    bad_server.answer = lambda _: reply(200, b'{"name": "x", "tags": null}')
    assert bad_registry.tags() == []

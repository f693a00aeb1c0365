"""References by Docker's rules: what is left out, what is refused and why, and how they are printed."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci.digest import Digest
from oci.errors import InvalidReference
from oci.reference import Reference

DIGEST = Digest.of(b"")


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("registry-1.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("owner/name", "docker.io/owner/name:latest", "owner/name:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("ghcr.io/owner/name:v1.2_x-y", "ghcr.io/owner/name:v1.2_x-y", "ghcr.io/owner/name:v1.2_x-y"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        ("host:80/a__b/c-d/e.f/g--h", "host:80/a__b/c-d/e.f/g--h:latest", "host:80/a__b/c-d/e.f/g--h:latest"),
        ("docker.io/with.dot/name", "docker.io/with.dot/name:latest", "docker.io/with.dot/name:latest"),
        ("docker.io/library/localhost/x", "docker.io/library/localhost/x:latest", "library/localhost/x:latest"),
    ],
)
def test_fills_in_what_is_left_out(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar()) == (full, familiar)
    assert Reference.parse(full) == reference
    assert Reference.parse(familiar) == reference


def test_has_parts() -> None:
    reference = Reference.parse(f"localhost:5000/a/b:1@{DIGEST}")
    assert reference == Reference("localhost:5000", "a/b", "1", DIGEST)
    assert reference.name == str(DIGEST)
    assert Reference.parse("localhost:5000/a/b:1").name == "1"
    assert reference.api_host == "localhost:5000"
    assert Reference.parse("alpine").api_host == "registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty reference"),
        ("https://ghcr.io/a/b", "is a URL; leave out https:// and write 'ghcr.io/a/b'"),
        ("oci://ghcr.io/a/b", "leave out oci://"),
        ("a" * 64, "is an id and no name"),
        ("ghcr.io/Owner/name", "'Owner/name' has capitals; write 'owner/name'"),
        ("ghcr.io/owner/name:", "'' is no tag"),
        ("ghcr.io/owner/name:.x", "is no tag"),
        ("ghcr.io/owner/name:-x", "is no tag"),
        (f"ghcr.io/owner/name:{'x' * 129}", "is no tag; a tag has up to 128"),
        ("ghcr.io/owner/name:a b", "is no tag"),
        ("ghcr.io/owner/name:1\r\nX-Evil", "is no tag"),
        ("ghcr.io/owner/name:ü", "is no tag"),
        ("ghcr.io/owner/name@sha256:../x", "is no digest"),
        ("ghcr.io/owner/name@", "is no digest"),
        ("ghcr.io/owner/name@1@2", "is no digest"),
        ("ghcr.io/", "'' is no repository"),
        ("/name", "'/name' is no repository"),
        ("ghcr.io//name", "is no repository"),
        ("ghcr.io/../name", "is no repository"),
        ("ghcr.io/name/", "is no repository"),
        ("ghcr.io/-name", "is no repository"),
        ("ghcr.io/a..b", "is no repository"),
        ("ghcr.io/a___b", "is no repository"),
        ("ghcr.io/%2e%2e/x", "is no repository"),
        ("ghcr.io/a?b", "is no repository"),
        ("ghcr.io/näme", "is no repository"),
        (f"ghcr.io/{'x' * 256}", "more than 255 characters"),
        ("x" * 2000, "too long for a reference"),
        ("gh_cr.io/name", "'gh_cr.io' is no registry"),
        ("user@ghcr.io/name", "is no digest"),
        ("user:password@ghcr.io/name", "is no digest"),
        ("ghcr.io:x/name", "'ghcr.io:x' is no registry"),
        ("ghcr.io:65536/name", "is no registry"),
        ("ghcr.io:/name", "is no registry"),
        (".ghcr.io/name", "is no registry"),
        ("-ghcr.io/name", "is no registry"),
        ("ghcr.io\nX: 1/name", "is no registry"),
        ("[::1/name", "is no registry"),
    ],
)  # fmt: skip
def test_refuses_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_name_alone_is_not_enough() -> None:
    with pytest.raises(InvalidReference, match="names no tag and no digest"):
        Reference("ghcr.io", "owner/name")


LIKELY = st.from_regex(r"\A([a-zA-Z0-9.\-]{1,12}(:[0-9]{1,6})?/)?[a-z0-9._/\-]{1,20}(:[\w.\-]{0,5})?\Z")


@settings(max_examples=200)
@given(st.text() | LIKELY | LIKELY.map(lambda text: f"{text}@{DIGEST}"))
@example("docker.io/docker.io/x")
@example("docker.io/library/library/x")
@example("docker.io/index.docker.io/x")
def test_any_text_is_a_reference_or_is_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)
    assert Reference.parse(reference.familiar()) == reference

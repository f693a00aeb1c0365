"""Digests have one spelling, and bytes are checked against them while they pass."""

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci.digest import Digest, Verifier
from oci.errors import InvalidContent, InvalidReference

HELLO = Digest.of(b"hello")
SHA512 = Digest("sha512", hashlib.sha512(b"hello").hexdigest())


def test_says_what_it_is() -> None:
    text = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert str(HELLO) == text
    assert Digest.parse(text) == HELLO
    assert Digest.parse(str(SHA512)) == SHA512


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        f"sha256:{'a' * 63}",
        f"sha256:{'a' * 65}",
        f"sha256:{'A' * 64}",
        f"sha256:{'g' * 64}",
        f"sha256:{'٣' * 64}",  # digits, too
        f"sha512:{'a' * 64}",
        f"sha1:{'a' * 40}",
        f"md5:{'a' * 32}",
        f"SHA256:{'a' * 64}",
        f" sha256:{'a' * 64}",
        f"sha256:{'a' * 64}\n",
        f"sha256:{'a' * 63}\n",
        "sha256:../x",
        f"sha256:{'../' * 21}x",
        f"../sha256:{'a' * 64}",
        "a" * 64,
    ],
)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(InvalidReference, match="is no digest; a digest is sha256:"):
        Digest.parse(text)


def test_cannot_be_made_of_other_parts() -> None:
    with pytest.raises(InvalidReference):
        Digest("sha256", "../../etc/passwd")


def test_a_message_shows_the_beginning_only_and_no_control_characters() -> None:
    with pytest.raises(InvalidReference) as caught:
        Digest.parse("\x1b[31m" + "x" * 10_000_000)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@settings(max_examples=200)
@given(st.text() | st.from_regex(r"sha(256|512):[0-9a-fA-F]*"))
@example(str(HELLO))
def test_any_text_is_a_digest_or_is_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidReference:
        return
    assert str(digest) == text


@pytest.mark.parametrize("digest", [HELLO, SHA512], ids=["sha256", "sha512"])
@pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"", b"llo"], [b"h", b"e", b"l", b"l", b"o"]])
def test_lets_the_right_bytes_pass(digest: Digest, pieces: list[bytes]) -> None:
    verifier = Verifier(digest, 5)
    for piece in pieces:
        verifier.update(piece)
    verifier.finish()
    assert verifier.received == 5


def test_tells_too_many_at_once() -> None:
    verifier = Verifier(HELLO, 5)
    verifier.update(b"hello")
    with pytest.raises(InvalidContent, match="longer than the 5 bytes"):
        verifier.update(b"!")


def test_tells_how_many_are_missing() -> None:
    verifier = Verifier(HELLO, 5)
    verifier.update(b"hell")
    with pytest.raises(InvalidContent, match="ends 1 bytes before its size of 5"):
        verifier.finish()


def test_tells_other_bytes() -> None:
    verifier = Verifier(HELLO, 5)
    verifier.update(b"hallo")
    with pytest.raises(InvalidContent, match=f"the bytes of {HELLO} have the digest {Digest.of(b'hallo')}"):
        verifier.finish()

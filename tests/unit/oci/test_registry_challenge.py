"""The header WWW-Authenticate is read in all forms that registries send, and scopes are put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.registry.challenge import Challenge, choose, merged, parse


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/token",service="a",scope="repository:b/c:pull,push"',
            [("bearer", {"realm": "https://a/token", "service": "a", "scope": "repository:b/c:pull,push"})],
        ),
        ('bearer REALM = "x" , Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        (r'Basic realm="a\"b\\c, d=\"e\""', [("basic", {"realm": 'a"b\\c, d="e"'})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ('Bearer realm=""', [("bearer", {"realm": ""})]),
        ('Bearer realm="open', [("bearer", {}), ("realm", {})]),
        ('realm="x"', []),
        ('"', []),
        ("=,=", []),
    ],
)
def test_challenges_are_read(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.scheme, each.parameters) for each in parse(header)] == challenges


@given(st.text())
def test_anything_can_be_read(header: str) -> None:
    for challenge in parse(header):
        assert challenge.scheme
        assert isinstance(challenge.realm + challenge.service, str)


def test_a_very_long_header_is_read_in_time() -> None:
    for part in ("a ", "a=", '"', 'a="\\', "a=b,", "\\"):
        parse("Bearer " + part * 100_000)


def test_bearer_is_chosen_before_basic() -> None:
    basic, bearer, other = (Challenge(scheme, {}) for scheme in ("basic", "bearer", "digest"))
    assert choose([other, basic, bearer]) is bearer
    assert choose([other, basic]) is basic
    assert choose([other]) is None


@pytest.mark.parametrize(
    ("scopes", "together"),
    [
        ([], []),
        ([""], []),
        (["repository:a:pull", "repository:a:push,pull"], ["repository:a:pull,push"]),
        (["repository:b:pull", "repository:a:pull"], ["repository:a:pull", "repository:b:pull"]),
        (["registry:catalog:*"], ["registry:catalog:*"]),
        (["repository:host:5000/a:pull"], ["repository:host:5000/a:pull"]),
    ],
)
def test_scopes_of_one_resource_are_one(scopes: list[str], together: list[str]) -> None:
    assert merged(scopes) == together

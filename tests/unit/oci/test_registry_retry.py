"""How often and how long a request is tried."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.registry.retry import Attempts, retry_after


def test_pauses_grow_until_the_last_try() -> None:
    pauses: list[float] = []
    attempts = Attempts(5, 30, pauses.append)
    assert [attempts.wait() for _ in range(6)] == [True, True, True, True, False, False]
    assert pauses == [0.25, 0.5, 1.0, 2.0]


def test_a_pause_is_as_long_as_asked() -> None:
    pauses: list[float] = []
    attempts = Attempts(3, 30, pauses.append)
    assert attempts.wait(7.0)
    assert attempts.wait(0.0)
    assert pauses == [7.0, 0.0]


def test_a_pause_beyond_the_deadline_is_not_made() -> None:
    pauses: list[float] = []
    assert not Attempts(5, 30, pauses.append).wait(31.0)
    assert not Attempts(5, 0.2, pauses.append).wait()
    assert pauses == []


def test_the_deadline_can_begin_anew() -> None:
    attempts = Attempts(5, 0.3, lambda _: None)
    before = attempts.remaining
    attempts.restart()
    assert attempts.remaining > before - 0.3
    assert attempts.wait()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("0", 0.0), (" 120 ", 120.0), ("9" * 500, 999_999_999.0), ("-1", None),
        ("1.5", None), ("soon", None), ("٣", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0), ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)  # fmt: skip
def test_what_retry_after_asks_for(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_a_date_is_so_many_seconds_away() -> None:
    seconds = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert seconds is not None
    assert 90 < seconds <= 100


@given(st.text())
def test_anything_may_be_asked(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or seconds >= 0

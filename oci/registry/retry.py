"""How long to wait before a request is repeated, and when to give up."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["RETRIED", "Attempts", "retry_after"]

RETRIED: Final = frozenset({408, 429, *range(500, 600)} - {501, 505})  # not what will never be implemented
_FIRST_PAUSE: Final = 0.25  # seconds; doubled each time: 4 pauses are about 4 seconds


class Attempts:
    """The tries of one request: a number of them and a deadline for all."""

    def __init__(self, count: int, total: float, pause: Callable[[float], object]) -> None:
        self._left = count
        self._total = total
        self._deadline = time.monotonic() + total
        self._pause = pause
        self._seconds = _FIRST_PAUSE

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def restart(self) -> None:
        """Set the deadline anew: time in which bytes moved does not count."""
        self._deadline = time.monotonic() + self._total

    def wait(self, asked: float | None = None) -> bool:
        """Wait for the next try, as long as the other side asked; False, at once, if there is none any more."""
        self._left -= 1
        seconds = self._seconds if asked is None else asked
        self._seconds *= 2
        if self._left <= 0 or seconds >= self.remaining:
            return False
        self._pause(seconds)
        return True


def retry_after(value: str | None) -> float | None:
    """Seconds that a header Retry-After asks for (RFC 9110 §10.2.3: a number or a date); None if it asks nothing."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())

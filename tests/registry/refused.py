"""What a bad registry must lead to: one clear line, soon, and a store with nothing in it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from oci.copy import copy
from oci.errors import OciError
from oci.memory import MemoryStore
from oci.registry.store import Registry

SOON: Final = 8.0  # seconds, on a loaded machine


@contextmanager
def refused(kind: type[OciError], *words: str) -> Iterator[None]:
    """The block raises this error, soon, with a message of one line that has these words."""
    begin = time.monotonic()
    with pytest.raises(OciError) as raised:
        yield
    assert time.monotonic() - begin < SOON
    message = str(raised.value)
    assert isinstance(raised.value, kind), f"{type(raised.value)}: {message}"
    assert message.isprintable()
    assert 10 < len(message) < 600
    for word in words:
        assert word in message


def pull_is_refused(registry: Registry, kind: type[OciError], *words: str, blobs_too: bool = True) -> None:
    """A pull fails so and leaves nothing but, with False, blobs that are what they should be."""
    target = MemoryStore()
    with refused(kind, *words):
        copy(registry, "v1", target, "v1", parallel=1)
    assert target.tags() == []
    if blobs_too:
        assert target.blobs() == {}

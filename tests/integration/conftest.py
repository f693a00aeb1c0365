"""Fixtures that several files of integration tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import private_home
from tests.contracts.cgroups import OwnCgroup, own_cgroup
from tests.integration.rooted import Container, rooted
from tests.integration.support import Environment


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Environment]:
    """A home for all tests of a file, so that one zygote and one cache serve them; needs root."""
    with private_home(0) as environment:
        yield environment


@pytest.fixture
def container(shared_home: Environment, guest: Callable[[str], Path], tmp_path: Path) -> Iterator[Container]:
    """A container with a root file system; nothing of it may be left."""
    with rooted(shared_home, guest("kit_p1.wasm"), tmp_path) as container:
        yield container


@pytest.fixture
def cgroup() -> Iterator[OwnCgroup]:
    """A cgroup of the test's own."""
    with own_cgroup() as made:
        yield made

"""runwasi's stress-test against our shim: no task fails and nothing is left, with its mock and with real containerds.

Its shim and tool are built by tests/containerd/build-runwasi, or by tests/run --all where there is cargo.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd import runwasi
from tests.containerd.daemon import Daemon
from tests.containerd.releases import RELEASES, PeerMissing
from tests.integration.commands import SCRIPT

pytestmark = [pytest.mark.root, pytest.mark.timeout(runwasi.PATIENCE + 60)]

COUNT = 120
SIDES = [("2.1", False, 1), ("2.1", False, 10), ("2.1", True, 1), *((release, True, 10) for release in RELEASES)]


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> runwasi.Programs:
    """What was built, or is now."""
    try:
        return runwasi.build() if request.config.getoption("--all") else runwasi.programs()
    except PeerMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def tool(built: runwasi.Programs, containerd: Daemon) -> Iterator[runwasi.Stress]:
    """The tool with the private containerd; no cgroup of its containers, whose specs name none, may be left."""
    before = cgroups()
    try:
        yield runwasi.Stress(containerd, built)
    except PeerMissing as reason:
        pytest.skip(str(reason))
    assert cgroups() <= before


def cgroups() -> set[Path]:
    """Those of containers without a linux.cgroupsPath."""
    tops = Path("/sys/fs/cgroup")
    return {path for path in (*tops.glob("wasm-shim/*"), *tops.glob("*/wasm-shim/*")) if path.is_dir()}


@pytest.mark.parametrize(
    ("containerd", "managed", "parallel"),
    SIDES,
    indirect=["containerd"],
    ids=[f"{release}-{'containerd' if managed else 'mock'}-{parallel}" for release, managed, parallel in SIDES],
)
def test_stress(tool: runwasi.Stress, *, managed: bool, parallel: int) -> None:
    """All tasks succeed. The mock starts a shim three times, as containerd does through a link of another name."""
    image = tool.import_image(runwasi.tiny_image())
    assert tool.run(SCRIPT, image, COUNT, parallel, managed=managed) > 0

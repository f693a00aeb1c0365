"""Fixtures with real containerds; tests/conftest.py imports them for all tests.

@pytest.mark.root
def test_something(containerd: Daemon) -> None:         # once for each release
    done = containerd.run(*containerd.container(image, containerd.new_id(), options=["--rm"]))

@pytest.mark.root
@pytest.mark.parametrize("containerd", ["2.1"], indirect=True)   # for one release
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.containerd.daemon import Daemon
from tests.containerd.images import Image, native_image
from tests.containerd.releases import RELEASES, PeerMissing, Release, fetch


@pytest.fixture(scope="session")
def containerd_release(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Release]]:
    """A release by its name, fetched once; skips where it cannot be had. What came is said at the end."""
    found: dict[str, Release | PeerMissing] = {}

    def find(name: str) -> Release:
        if name not in found:
            try:
                found[name] = fetch(name, request.config.rootpath / ".build")
            except PeerMissing as reason:
                found[name] = reason
        release = found[name]
        if isinstance(release, PeerMissing):
            pytest.skip(str(release))
        return release

    yield find
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    for name, release in sorted(found.items()):
        if terminal and isinstance(release, Release):
            terminal.ensure_newline()
            terminal.write_line(f"{name}: {release.version}")


@pytest.fixture(scope="session")
def containerds(containerd_release: Callable[[str], Release]) -> Iterator[Callable[[str], Daemon]]:
    """The session's one containerd of each release, started when first asked for, and again where a test ended it."""
    with ExitStack() as stack:
        daemons: dict[str, Daemon] = {}

        def find(name: str) -> Daemon:
            if name not in daemons:
                release = containerd_release(name)
                try:
                    daemons[name] = stack.enter_context(Daemon(release))
                except PeerMissing as reason:
                    pytest.skip(str(reason))
            elif not daemons[name].running:
                daemons[name].start()
            return daemons[name]

        yield find


@pytest.fixture(params=RELEASES)
def containerd(request: pytest.FixtureRequest, containerds: Callable[[str], Daemon]) -> Iterator[Daemon]:
    """The session's containerd of each release, in turn.

    Afterwards it has no containers, and the test fails if then anything is left of them. What containerd logged
    during the test is shown where the test failed.
    """
    daemon = containerds(request.param)
    begin = daemon.log.stat().st_size
    yield daemon
    if not daemon.running:
        daemon.start()
    daemon.clear()
    left = daemon.leftovers()
    sys.stdout.write(daemon.log.read_bytes()[begin:].decode(errors="replace"))
    assert left == [], f"left without a container: {left}"


@pytest.fixture
def native(containerd: Daemon, pytestconfig: pytest.Config) -> Image:
    """The image for runc, imported; see images.native_image."""
    try:
        return containerd.load(native_image(pytestconfig.rootpath / ".build"))
    except PeerMissing as reason:
        pytest.skip(str(reason))

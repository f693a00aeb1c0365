"""The peer that a benchmark runs beside: a private containerd with runc."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containerd.daemon import Daemon
from tests.containerd.images import NATIVE as IMAGE
from tests.containerd.images import native_image
from tests.containerd.releases import PeerMissing, fetch

__all__ = ["IMAGE", "Containerd", "PeerMissing", "containerd"]

RELEASE = "1.6"  # the one of Debian 12, whose runc it is


class Containerd:
    """What a benchmark needs of it."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.environment = daemon.environment

    def ctr(self, *words: str) -> list[str]:
        """The command line of a ctr call, for `environment`."""
        return self._daemon.command(*words)

    def version(self) -> str:
        """containerd's and runc's versions."""
        return self._daemon.release.version


@contextmanager
def containerd(build: Path, release: str = RELEASE) -> Iterator[Containerd]:
    """A running containerd that knows IMAGE; raises PeerMissing without root or the packages."""
    with Daemon(fetch(release, build)) as daemon:
        daemon.load(native_image(build))
        yield Containerd(daemon)

"""The tests fetch other releases of containerd from the archive that the machine's apt uses, in either format."""

from pathlib import Path

import pytest

from tests.containerd.sources import NoArchive, write_sources

DEB822 = """\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://off.test/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib  # ours
deb http://mirror.test/debian-security bookworm-security main
deb https://others.test/linux bookworm stable
deb-src http://mirror.test/debian bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    (tmp_path / "out").mkdir()
    return tmp_path / "etc"


def written(etc: Path) -> str:
    """What was written for trixie."""
    target = etc.parent / "out"
    write_sources("trixie", target, etc)
    return "".join(path.read_text() for path in sorted(target.iterdir()))


def test_takes_the_archive_from_stanzas(etc: Path) -> None:
    (etc / "apt/sources.list.d/debian.sources").write_text(DEB822)
    (etc / "apt/sources.list.d/old.sources.disabled").write_text(DEB822)
    assert written(etc) == (
        "Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
    )


@pytest.mark.parametrize("name", ["sources.list", "sources.list.d/debian.list"])
def test_takes_the_archive_from_lines(etc: Path, name: str) -> None:
    (etc / "apt" / name).write_text(ONE_LINE)
    assert written(etc) == "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian trixie main\n\n"


def test_refuses_a_machine_without_debians_archive(etc: Path) -> None:
    (etc / "apt/sources.list").write_text("deb https://others.test/linux bookworm stable\n")
    with pytest.raises(NoArchive, match="no source in"):
        written(etc)

"""Where a private containerd keeps its files."""

import secrets
import subprocess
import tempfile
from functools import cache
from pathlib import Path


def short_directory() -> Path:
    """A new directory whose name is a valid containerd namespace, short for the paths of sockets (107 bytes)."""
    base = tempfile.gettempdir()
    directory = Path(base if len(base) <= 30 else "/tmp", f"ctr-{secrets.token_hex(4)}")
    directory.mkdir(mode=0o711)
    return directory


@cache
def overlay_works(base: Path) -> bool:
    """Whether an overlay can be mounted on a directory there: not so where that is an overlay itself."""
    with tempfile.TemporaryDirectory(dir=base) as work:
        for name in ("lower", "upper", "work", "merged"):
            Path(work, name).mkdir()
        options = f"lowerdir={work}/lower,upperdir={work}/upper,workdir={work}/work"
        command = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, f"{work}/merged"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

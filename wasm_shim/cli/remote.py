"""What the verbs that speak to registries share: how to speak to one, and bars that show how far a copy has come."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from oci.copy import Progress
from oci.descriptor import Descriptor
from oci.registry.options import Options

_SMALL: Final = 64 << 10  # bytes; such content is there before a bar is


def registry_options(values: dict[str, Any]) -> Options:
    """What the user said."""
    return Options(plain_http=values["plain_http"], ca_file=Path(values["ca_file"]) if values["ca_file"] else None)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar for each content on its way, on a terminal on stderr; None where nobody would look at it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # 90 ms; only where there is something to see
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        shown: dict[str, Any] = {}

        def report(content: Descriptor, done: int, total: int) -> None:
            name = content.digest.hex[:12]
            if total < _SMALL:
                return
            if name not in shown:
                shown[name] = bars.add_task(name, total=total)
            bars.update(shown[name], completed=done, visible=done < total)

        yield report

"""A push or a pull in a process of its own: to be measured, or to be killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oci

_SCRIPT = """
import sys
from pathlib import Path
from oci.copy import copy
from oci.layout import Layout
from oci.reference import Reference
from oci.registry.store import Registry

def told(descriptor, done, size):
    sys.stdout.write(f"{done}\\n")
    sys.stdout.flush()
    if sys.argv[4:] and done >= int(sys.argv[4]):
        sys.stdin.read()  # until killed

verb, reference, path = sys.argv[1:4]
layout = Layout.create(path)
with Registry(Reference.parse(reference), lambda _: None) as registry:
    if verb == "push":
        copy(layout, "v1", registry, "v1", progress=told, parallel=1)
    else:
        copy(registry, "v1", layout, "v1", progress=told, parallel=1)
status = Path("/proc/self/status").read_text()
sys.stdout.write(status.partition("VmHWM:")[2].split()[0] + "\\n")
"""


def run(verb: str, reference: str, layout: Path) -> int:
    """Push v1 of a layout, or pull v1 into it; the most memory that it took, in KiB."""
    command = [sys.executable, "-c", _SCRIPT, verb, reference, str(layout)]
    return int(subprocess.check_output(command, env=_environment(), text=True, timeout=600).split()[-1])


@contextmanager
def stopped_at(verb: str, reference: str, layout: Path, done: int) -> Iterator[int]:
    """The pid of the same that stops when one content has this many bytes done; it is killed at the end."""
    command = [sys.executable, "-c", _SCRIPT, verb, reference, str(layout), str(done)]
    with subprocess.Popen(
        command, env=_environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            said = next((line for line in process.stdout if int(line) >= done), "")
            assert said, "it ended before"
            yield process.pid
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(oci.__file__).parents[1])}

"""Benchmarks of part 3: pushing to a registry and pulling from it, beside oras, crane and skopeo, in one run.

    .build/venv-*/bin/python -m tests.bench.transfer [--mib N] [--layers N] [--rounds LARGE MANY SMALL] [--json FILE]

One large layer, many layers of 1 MiB, and a program of 30 KB, all of random bytes. Each sample has a new registry on
this machine, to which the program pushes and from which it then pulls into a new directory, so that all bytes go both
ways. The program is a file to wasm-shim and oras. All else is copied from an OCI layout to another, by wasm-shim with
its library: its command line packs one layer, and of at most 512 MiB. Rounds are interleaved. Read the ratios, which
are to oras. A peer that cannot run here is named with its reason.
"""

import argparse
import gzip
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from oci.copy import copy
from oci.descriptor import Descriptor
from oci.digest import Digest
from oci.layout import Layout
from oci.manifest import new_manifest
from oci.media_types import WASM_CONFIG, WASM_LAYER
from oci.pack import pack
from tests.bench import movers
from tests.bench.movers import FILE, LAYOUT, NAME, Mover
from tests.bench.report import Sample, interleaved, report
from tests.conftest import BUILD, private_home
from tests.contracts.stores import put, put_parent
from tests.registry import programs
from tests.registry.programs import PeerMissing
from tests.registry.server import RegistryServer
from wasm_shim.version import VERSION

MIB: Final = 1 << 20
BASE: Final = "oras"
_CONFIG: Final = b'{"architecture":"wasm","os":"wasip1"}'


class Case(NamedTuple):
    """What is moved: so many layers of so many bytes, or a program's file of so many."""

    name: str
    layers: int
    size: int
    rounds: int
    by_file: bool = False


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the large layer")
    parser.add_argument("--layers", type=int, default=200, help="how many of 1 MiB")
    parser.add_argument("--rounds", type=int, nargs=3, default=(3, 5, 20), metavar=("LARGE", "MANY", "SMALL"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    large, many, small = options.rounds
    cases = [
        Case(f"1 layer of {options.mib} MiB", 1, options.mib * MIB, large),
        Case(f"{options.layers} layers of 1 MiB", options.layers, MIB, many),
        Case("30 KB program", 1, 30_000, small, by_file=True),
    ]
    versions = [f"wasm-shim {VERSION}", f"Python {sys.version.split()[0]}"]
    missing: list[str] = []
    try:
        server = programs.find("docker-registry", BUILD)
        versions.append(_version("docker-registry", server))
        rows = [row for case in cases for row in _rows(case, programs.program(server, "docker-registry"), missing)]
    except PeerMissing as reason:
        missing.append(f"anything: {reason}")
        rows = []
    versions += [_version(name, programs.find(name, BUILD)) for name in _found(missing)]
    report(rows, versions, list(dict.fromkeys(missing)), options.json)


def _rows(case: Case, server: Path, missing: list[str]) -> list[dict[str, Any]]:
    with private_home(os.geteuid()) as home, tempfile.TemporaryDirectory(prefix="transfer-") as directory:
        payload = Path(directory, "payload")
        _make(case, payload)
        subjects = [movers.ours(home, by_file=case.by_file)]
        for name in programs.PEERS:
            try:
                subjects.append(movers.theirs(name, BUILD, Path(directory, name), by_file=case.by_file))
            except PeerMissing as reason:
                missing.append(f"{name}: {reason}")
        samples: dict[str, Sample] = {
            mover.name: lambda mover=mover: _sample(mover, case, payload, server)  # type: ignore[misc]
            for mover in sorted(subjects, key=lambda mover: mover.name != BASE)
        }
        return interleaved(samples, case.rounds, BASE, units={"memory": "MiB"})


def _sample(mover: Mover, case: Case, payload: Path, server: Path) -> dict[str, float]:
    """What a push to a new registry and a pull from it take; raises RuntimeError where not all bytes went."""
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="transfer-") as directory:
        work, out = Path(directory), Path(directory, "out")
        with RegistryServer(server, work) as registry:
            reference = f"{registry.host}/bench:1"
            for verb, cwd, place in (("push", payload, registry.data), ("pull", work, out)):
                used = mover.run(verb, cwd, reference, out)
                if _bytes(place) < case.layers * case.size:
                    raise RuntimeError(f"{mover.name}: the {verb} of {case.name} did not move all of it")
                took |= {f"{verb}, {case.name}": used.wall}
                took |= {f"{verb}, {case.name}, CPU": used.cpu, f"{verb}, {case.name}, memory": used.memory}
    return took


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# What is moved


def _make(case: Case, payload: Path) -> None:
    """A layout, and of a program its file, too."""
    payload.mkdir()
    layout = Layout.create(payload / LAYOUT)
    if not case.by_file:
        layers = [_put_random(layout, case.size) for _ in range(case.layers)]
        put_parent(layout, new_manifest(put(layout, _CONFIG, WASM_CONFIG), layers), NAME)
        return
    program = payload / FILE
    program.write_bytes(_binary(case.size))
    packed = pack(program)
    copy(packed, packed.name, layout, NAME)


def _put_random(layout: Layout, size: int) -> Descriptor:
    """A layer, which is never in memory as a whole."""
    with tempfile.TemporaryFile(dir=layout.path) as file:
        hashed = hashlib.sha256()
        for begin in range(0, size, MIB):
            piece = os.urandom(min(MIB, size - begin))
            hashed.update(piece)
            file.write(piece)
        file.seek(0)
        layer = Descriptor(WASM_LAYER, Digest("sha256", hashed.hexdigest()), size)
        layout.write(layer, iter(lambda: file.read(MIB), b""))
    return layer


def _binary(size: int) -> bytes:
    """A Wasm binary with a custom section of so many random bytes."""
    length = bytearray()
    rest = size + 2  # its name, "x"
    while rest >= 128:
        length.append(rest & 127 | 128)
        rest >>= 7
    return b"\0asm\1\0\0\0" + bytes([0, *length, rest]) + b"\1x" + os.urandom(size)


# With what


def _found(missing: list[str]) -> list[str]:
    return [name for name in programs.PEERS if not any(reason.startswith(f"{name}:") for reason in missing)]


def _version(name: str, root: Path) -> str:
    """As the package says: not every program knows its own."""
    for log in sorted((root / "usr/share/doc" / name).glob("changelog.Debian*.gz")):
        found = re.match(rb"\S+ \(([^)]+)\)", gzip.decompress(log.read_bytes()))
        if found:
            return f"{name} {found[1].decode()}"
    return name


if __name__ == "__main__":
    main()

"""An authority of the tests' own, and a certificate for this machine, made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_NAMES = "DNS:localhost,IP:127.0.0.1"


class Certificate(NamedTuple):
    """Files in PEM."""

    certificate: Path
    key: Path


def authority(directory: Path, name: str = "authority") -> Certificate:
    """A new authority."""
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", made.key,
        "-out", made.certificate,
    )  # fmt: skip
    return made


def issue(by: Certificate, directory: Path, name: str = "server", names: str = _NAMES) -> Certificate:
    """A new certificate for hosts of these names."""
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
        "-keyout", made.key, "-out", request,
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial", "-days", "2",
        "-extfile", extensions, "-out", made.certificate,
    )  # fmt: skip
    return made


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)

"""Registries as stores, for tests: new names, and nothing of the machine's credentials."""

from pathlib import Path

from oci.reference import Reference
from oci.registry.credential import Credential
from oci.registry.options import DEFAULT, Options, Patience
from oci.registry.store import Registry

HASTE = Patience(connect=1.0, answer=0.4, total=0.7, stall=0.4, attempts=2)  # for servers that do not answer
ONCE = Patience(attempts=1)  # for servers that answer badly


def repository(
    host: str,
    name: str,
    credential: Credential | None = None,
    *,
    patience: Patience = DEFAULT.patience,
    ca_file: Path | None = None,
    plain_http: bool = False,
) -> Registry:
    """The store of a repository, with this credential and no other."""
    options = Options(plain_http=plain_http, ca_file=ca_file, patience=patience)
    return Registry(Reference(host, name, "any"), lambda _: credential, options)

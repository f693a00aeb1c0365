"""Credentials for registries: found where Docker and podman keep them, stored and erased there.

Sources: docker-login(1), "Credential stores" and "Credential helpers"; containers-auth.json(5), which also has keys
for a part of a registry (host/owner). With REGISTRY_AUTH_FILE only that file counts. Otherwise it is Docker's
config.json and then podman's auth.json, and the first that knows the registry wins.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from oci.errors import InvalidContent, OciError, shown
from oci.reference import Reference
from oci.registry import credential_program
from oci.registry.auth_file import AuthFile
from oci.registry.credential import Credential

__all__ = ["Credential", "find", "login", "logout", "server_name"]

_HUB: Final = "docker.io"
_HUB_KEY: Final = "https://index.docker.io/v1/"  # what Docker stores Docker Hub under


def find(reference: Reference, environ: Mapping[str, str] = os.environ) -> Credential | None:
    """What is known for this repository, None if nothing.

    Raises InvalidContent for a damaged file, StorageError for one that cannot be read, Unauthorized where the
    program that keeps the credentials fails.
    """
    names = _names(reference)
    for path in _places(environ):
        file = AuthFile.read(path)
        credential = _from_program(file, reference.registry) or file.find(names)
        if credential:
            return credential
    return None


def login(registry: str, credential: Credential, environ: Mapping[str, str] = os.environ) -> str:
    """Store a credential for a registry, not checked, and return where: a file or the program that keeps it.

    Raises InvalidContent when the file there is damaged or the credential cannot be stored in one, StorageError, or
    Unauthorized when the program refuses.
    """
    registry = server_name(registry)
    path = _places(environ)[0]
    if ":" in credential.username:
        raise InvalidContent(f"the user name {shown(credential.username)} has a colon; no registry can take it")
    program = AuthFile.read(path).program(registry)
    if program:
        credential_program.store(program, _key(registry), credential)
        return credential_program.name(program)
    AuthFile.update(path, lambda file: file.add(_key(registry), credential))
    return str(path)


def logout(registry: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Erase what is stored for a registry as a whole, and return from where; what is for parts of it stays.

    Raises what login raises.
    """
    registry = server_name(registry)
    erased = []
    for path in _places(environ):
        file = AuthFile.read(path)
        program = file.program(registry)
        if program and credential_program.get(program, _key(registry)):
            credential_program.erase(program, _key(registry))
            erased.append(credential_program.name(program))
        if file.find([registry]):
            AuthFile.update(path, lambda file: file.remove(registry))
            erased.append(str(path))
    return erased


def server_name(text: str) -> str:
    """The registry that a person means by a host name or an address such as https://index.docker.io/v1/.

    Raises InvalidReference.
    """
    host = text.partition("://")[2].partition("/")[0] if "://" in text else text.removesuffix("/")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = _HUB
    return Reference(host, "any", "latest").registry


def _from_program(file: AuthFile, registry: str) -> Credential | None:
    """What the program that this file names knows; its failure counts only if the file itself has nothing."""
    program = file.program(registry)
    if not program:
        return None
    try:
        return credential_program.get(program, _key(registry))
    except OciError:
        if file.find([registry]):
            return None
        raise


def _key(registry: str) -> str:
    return _HUB_KEY if registry == _HUB else registry


def _names(reference: Reference) -> list[str]:
    """Keys that fit, the most special one first: host/a/b, host/a, host."""
    parts = [reference.registry, *reference.repository.split("/")]
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _places(environ: Mapping[str, str]) -> list[Path]:
    """The files in the order in which they are looked at; credentials are stored in the first."""
    if environ.get("REGISTRY_AUTH_FILE"):
        return [Path(environ["REGISTRY_AUTH_FILE"])]
    home = _home(environ)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    return [
        Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        Path(runtime, "containers/auth.json") if environ.get("XDG_RUNTIME_DIR") else Path(runtime, "auth.json"),
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
    ]


def _home(environ: Mapping[str, str]) -> Path:
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:  # a user without an entry in the user database
        return Path("/")

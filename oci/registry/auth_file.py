"""One file of credentials, Docker's config.json or podman's auth.json: read, changed under a lock, replaced whole.

What else the file says is kept. It is written with mode 0600 whatever it had, since it holds passwords that are
only encoded.
"""

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from oci.disk import refusals
from oci.errors import InvalidContent
from oci.registry.credential import Credential
from oci.strict_json import Json, parse_object, text

__all__ = ["AuthFile"]

_MAX_SIZE: Final = 4 << 20  # bytes
_HUB_HOSTS: Final = ("index.docker.io", "registry-1.docker.io")


class AuthFile:
    """The contents of one file; empty where there is none."""

    def __init__(self, path: Path, document: Json) -> None:
        self._path = path
        self._document = document

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises InvalidContent for a damaged one, StorageError for one that cannot be read."""
        with refusals(path):
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                return cls(path, {})
            with file:
                raw = file.read(_MAX_SIZE)
        return cls(path, parse_object(raw, str(path)) if raw.strip() else {})

    @classmethod
    def update(cls, path: Path, change: Callable[[Self], None]) -> None:
        """Read a file, change it and replace it, while nobody else of us does. Raises what read raises."""
        with suppress(OSError):
            path = path.resolve()  # a link stays one
        with refusals(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(path.parent):
                file = cls.read(path)
                change(file)
                file._replace()

    def program(self, registry: str) -> str:
        """The suffix of the program that keeps this registry's credentials, "" if the file itself does."""
        for key, suffix in self._object("credHelpers").items():
            if _normal(key) == registry:
                return text(suffix, f"{self._path}: credHelpers")
        return text(self._document.get("credsStore"), f"{self._path}: credsStore")

    def find(self, names: Iterable[str]) -> Credential | None:
        """What is stored under the first of these names that has a credential. Raises InvalidContent."""
        entries = {_normal(key): entry for key, entry in self._object("auths").items()}
        found = (self._credential(name, entries[name]) for name in names if name in entries)
        return next((credential for credential in found if credential), None)

    def add(self, key: str, credential: Credential) -> None:
        """Put a credential in, in place of what was there for the same registry. Raises InvalidContent."""
        self.remove(_normal(key))
        pair = f"{credential.username}:{credential.password}".encode(errors="surrogateescape")
        entry = {"auth": base64.b64encode(pair).decode()}
        if credential.identity_token:
            entry["identitytoken"] = credential.identity_token
        self._document["auths"] = self._object("auths") | {key: entry}

    def remove(self, name: str) -> None:
        """Take out what is stored under a name, in each of its spellings. Raises InvalidContent."""
        auths = self._object("auths")
        self._document["auths"] = {key: entry for key, entry in auths.items() if _normal(key) != name}

    def _object(self, name: str) -> Json:
        value = self._document.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidContent(f"{self._path}: {name} is no object; repair or remove the file")
        return value

    def _credential(self, name: str, entry: object) -> Credential | None:
        """An entry: "auth" is the base64 of user:password; Docker leaves it empty where a program keeps it."""
        where = f"{self._path}: the entry of {name}"
        if not isinstance(entry, dict):
            raise InvalidContent(f"{where} is no object; log in again")
        try:
            pair = str(base64.b64decode(text(entry.get("auth"), where), validate=True), "utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            raise InvalidContent(f"{where} is damaged; log in again") from None
        user, colon, password = pair.partition(":")
        if pair and not colon:
            raise InvalidContent(f"{where} has no password; log in again")
        user = user or text(entry.get("username"), where)
        password = password.rstrip("\0") or text(entry.get("password"), where)
        identity = text(entry.get("identitytoken"), where)
        return Credential(user, password, identity) if password or identity else None

    def _replace(self) -> None:
        new = self._path.with_name(f".{self._path.name}.new")  # one name: a killed writer's is gone with the next
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._document, file, indent="\t")
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._path)
        except BaseException:
            new.unlink()
            raise


def _normal(key: str) -> str:
    """A key without its spelling: https://index.docker.io/v1/ is docker.io. One without a scheme may have a path."""
    scheme, separator, rest = key.partition("://")
    name = rest.partition("/")[0] if separator else scheme.rstrip("/")
    host, slash, path = name.partition("/")
    if path in ("v1", "v2"):
        slash = path = ""
    return ("docker.io" if host in _HUB_HOSTS else host) + slash + path


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

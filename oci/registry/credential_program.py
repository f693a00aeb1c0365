"""Programs that keep credentials: docker-credential-pass, docker-credential-secretservice and their like.

Source: docker/docker-credential-helpers, README: the verb is the only argument, one JSON object or the registry's
name goes in, one JSON object comes out.
"""

import json
import os
import re
import subprocess
from typing import Final

from oci.errors import InvalidContent, Unauthorized, shown
from oci.registry.credential import Credential
from oci.strict_json import parse_object

__all__ = ["erase", "get", "name", "store"]

_SUFFIX: Final = re.compile(r"[\w.-]+")
_PATIENCE: Final = 60.0  # seconds; it may ask a person to unlock a key ring
_NOTHING_KNOWN: Final = "credentials not found"
_IDENTITY: Final = "<token>"  # the user name that marks an identity token


def name(suffix: str) -> str:
    """The program's name."""
    return f"docker-credential-{suffix}"


def get(suffix: str, key: str) -> Credential | None:
    """What the program knows under this key. Raises Unauthorized when it fails."""
    done = _run(suffix, "get", key)
    if done.returncode and _NOTHING_KNOWN in done.stdout.lower():
        return None
    _check(suffix, done)
    try:
        answer = parse_object(done.stdout.encode(), "its answer")
    except InvalidContent:
        raise Unauthorized(f"{name(suffix)} answers no JSON object; log in again or repair it") from None
    user, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        raise Unauthorized(f"{name(suffix)} answers without a user name and a secret; log in again")
    if not secret:
        return None
    return Credential(identity_token=secret) if user == _IDENTITY else Credential(user, secret)


def store(suffix: str, key: str, credential: Credential) -> None:
    """Let the program keep a credential. Raises Unauthorized when it fails."""
    secret = credential.identity_token or credential.password
    user = _IDENTITY if credential.identity_token else credential.username
    _check(suffix, _run(suffix, "store", json.dumps({"ServerURL": key, "Username": user, "Secret": secret})))


def erase(suffix: str, key: str) -> None:
    """Let the program forget what it has under this key. Raises Unauthorized when it fails."""
    _check(suffix, _run(suffix, "erase", key))


def _run(suffix: str, verb: str, given: str) -> subprocess.CompletedProcess[str]:
    if not _SUFFIX.fullmatch(suffix):
        raise Unauthorized(
            f"{shown(suffix)} names no program that keeps credentials; correct credsStore or credHelpers"
        )
    try:
        return subprocess.run(
            [name(suffix), verb], input=given, capture_output=True, text=True, errors="replace", timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise Unauthorized(f"{name(suffix)} does not answer within {_PATIENCE:.0f} seconds; is it locked?") from None
    except FileNotFoundError:
        raise Unauthorized(
            f"{name(suffix)}, which keeps the credentials, is not in PATH; "
            f"install it or take it out of credsStore and credHelpers"
        ) from None
    except OSError as error:
        raise Unauthorized(f"{name(suffix)} does not start: {os.strerror(error.errno or 0)}") from None


def _check(suffix: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        said = shown((done.stdout.strip() or done.stderr.strip()).replace("\n", " "))
        raise Unauthorized(f"{name(suffix)} fails: {said}; is it set up and unlocked?")

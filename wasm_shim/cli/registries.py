"""Verbs that speak to a registry about images and users: `pull`, `login`, `logout`."""

import os
import sys
from typing import Any, Final

from oci.errors import NotFound
from oci.reference import Reference
from oci.registry import credentials
from oci.registry.credential import Credential
from wasm_shim.cli.output import OURS, Refusal, say
from wasm_shim.cli.remote import progress, registry_options
from wasm_shim.images.store import key, open_store
from wasm_shim.paths import images_path

_LONGEST: Final = 64 << 10  # characters of a password


def pull(values: dict[str, Any]) -> int:
    """Get an image, and say what came."""
    from wasm_shim.images.transfer import pull as pull_image

    reference = Reference.parse(values["REF"])
    store = open_store(images_path(os.environ))
    try:
        before = store.resolve(key(reference))
    except NotFound:
        before = None
    with progress(quiet=values["quiet"]) as report:
        got = pull_image(store, reference, registry_options(values), report)
    if values["quiet"]:
        say(str(got.digest))
        return 0
    say(f"Digest: {got.digest}")
    say(f"{'Up to date' if before == got else 'Pulled'}: {reference.familiar()}")
    return 0


def login(values: dict[str, Any]) -> int:
    """Store a credential that the registry accepts."""
    from oci.registry.login import check

    registry = credentials.server_name(values["REGISTRY"])
    credential = _credential(values)
    check(registry, credential, registry_options(values))
    say(f"Logged in to {registry}; the password is in {credentials.login(registry, credential)}")
    return 0


def _credential(values: dict[str, Any]) -> Credential:
    if values["password_stdin"]:
        if not values["username"]:
            raise Refusal(OURS, "--password-stdin needs a user name; give it with -u USER")
        return Credential(values["username"], _password(sys.stdin.read(_LONGEST)))
    if not sys.stdin.isatty():
        raise Refusal(OURS, "there is no terminal to ask for the password; give it with --password-stdin")
    import getpass

    username = values["username"] or _asked("User name: ")
    return Credential(username, _password(getpass.getpass("Password: ")))


def _asked(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        return ""


def _password(text: str) -> str:
    """Without the end of its line."""
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise Refusal(OURS, "the password is empty; give the one that the registry knows, or a token")
    return password


def logout(values: dict[str, Any]) -> int:
    """Erase what is stored for a registry as a whole."""
    registry = credentials.server_name(values["REGISTRY"])
    erased = credentials.logout(registry)
    for place in erased:
        say(f"Logged out of {registry}; it is no longer in {place}")
    if not erased:
        say(f"Not logged in to {registry}")
    return 0

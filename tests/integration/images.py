"""What the tests of the image verbs share: a name of their own in a registry, and words that go well."""

from itertools import count
from pathlib import Path

from tests.integration.support import Environment, wasm_shim
from tests.registry.server import RegistryServer

_NUMBERS = count()


def new_name(registry: RegistryServer) -> str:
    """A reference that nobody else uses."""
    return f"{registry.host}/cli/{next(_NUMBERS)}:1"


def said(environment: Environment, *words: str | Path, **options: object) -> list[str]:
    """The lines on stdout of words that go well and say nothing on stderr."""
    done = wasm_shim(environment, *words, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def ran(environment: Environment, reference: str, *words: str) -> list[str]:
    """What a run of an image prints."""
    return said(environment, "run", "--rm", reference, *words)


def digest_of(lines: list[str]) -> str:
    """The digest that `push`, `pull` or `pack` has said."""
    assert lines[0].startswith("Digest: sha256:")
    return lines[0].removeprefix("Digest: ")


def blobs(environment: Environment) -> set[Path]:
    """The content of the store."""
    return set(store(environment).glob("blobs/*/*"))


def store(environment: Environment) -> Path:
    """The store's directory."""
    return Path(environment["XDG_DATA_HOME"], "wasm-shim/images")

"""What can go wrong with artifacts.

    OciError
    ├── InvalidWasm           the bytes are no Wasm binary, or only a part of one
    ├── InvalidReference      a name, tag or digest that cannot be one
    ├── InvalidContent        bytes that are not what they claim to be: another digest or size, malformed, too large
    ├── UnsupportedArtifact   well-formed, but nothing that we can use
    ├── NotFound              no such tag, digest, blob or repository
    ├── Unauthorized          no credentials, or wrong ones (401)
    ├── Denied                right credentials that may not do this (403)
    ├── Unavailable           the registry cannot be reached, is overloaded or broken
    └── StorageError          the disk refused: full, no permission, damaged

The message of each is one sentence for a person: the cause and, after a semicolon, the remedy.
"""

_SHOWN = 100  # characters of foreign text in a message


class OciError(Exception):
    """An expected failure with a message fit to be shown."""


class InvalidWasm(OciError):
    """The bytes are no complete Wasm binary of a known version."""


class InvalidReference(OciError):
    """A name, tag or digest that cannot be one."""


class InvalidContent(OciError):
    """Bytes that are not what they claim to be."""


class UnsupportedArtifact(OciError):
    """Well-formed content that we cannot use; the message says why."""


class NotFound(OciError):
    """Something named does not exist there."""


class Unauthorized(OciError):
    """The registry wants credentials, or other ones."""


class Denied(OciError):
    """The registry knows the user and refuses."""


class Unavailable(OciError):
    """No answer, or one that says to come again later."""


class StorageError(OciError):
    """The disk refused."""


def shown(value: object) -> str:
    """Foreign text, or another value from JSON, as a message may hold it: escaped and not too long."""
    match value:
        case str():
            return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            return repr(value)[:_SHOWN]

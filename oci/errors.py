"""What can go wrong with artifacts.

    OciError
    └── InvalidWasm      the bytes are no Wasm binary, or only a part of one

The message of each is one sentence for a person: the cause and, after a semicolon, the remedy.
"""


class OciError(Exception):
    """An expected failure with a message fit to be shown."""


class InvalidWasm(OciError):
    """The bytes are no complete Wasm binary of a known version."""

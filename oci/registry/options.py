"""How a registry is spoken to: over what, with which certificates, how patiently."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DEFAULT", "Options", "Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds in seconds, and how often a request is tried."""

    connect: float = 10.0  # until a connection stands, TLS included
    answer: float = 20.0  # until an answer to one request has begun
    total: float = 30.0  # until an answer to it has begun at last, with all tries and pauses
    stall: float = 30.0  # within which a transfer must move on by at least 32 KiB
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose."""

    plain_http: bool = False  # where it is not this machine, too
    ca_file: Path | None = None  # certificates in PEM that are trusted besides the system's
    patience: Patience = Patience()


DEFAULT = Options()

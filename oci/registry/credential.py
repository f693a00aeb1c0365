"""A credential: what a registry knows its user by."""

from dataclasses import dataclass, field

__all__ = ["Credential"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and a password, or an identity token, from which others are had; it wins where both are set."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

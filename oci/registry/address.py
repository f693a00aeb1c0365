"""Which addresses may be used, and which of them are the registry's own.

HTTPS is used everywhere. Plain HTTP, which anybody on the way can read and change, is for this machine, or for where
the user allows it. What a registry sends us to (a redirect, an upload's location, a realm) is held to the same rule,
and never leads from HTTPS to plain HTTP.
"""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from oci.errors import Denied, shown

__all__ = ["Origin", "follow", "is_loopback"]

_VISIBLE = re.compile(r"[!-~]+")  # what an address may consist of: no blanks, no line ends, ASCII only
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port: what credentials belong to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """That of an address. Raises Denied for what is no proper address of HTTP."""
        try:
            parts = urlsplit(url)
            origin = cls(parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        except ValueError:
            raise Denied(f"{shown(url)} is no address; the registry is broken or hostile") from None
        if origin.scheme not in _PORTS or not origin.host or parts.username is not None or not _VISIBLE.fullmatch(url):
            raise Denied(f"{shown(url)} is no address that can be used; the registry is broken or hostile")
        return origin

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, without a port, is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def follow(base: str, target: str, *, plain_http: bool) -> str:
    """The address that an answer from `base` leads to.

    Raises Denied where following it would give something away: from HTTPS to plain HTTP, or to another machine by
    plain HTTP that the user did not allow.
    """
    if not _VISIBLE.fullmatch(target):
        raise Denied(f"the registry leads to {shown(target)}, which is no address; it is broken or hostile")
    try:
        url = urljoin(base, target)
    except ValueError:
        url = target
    here, there = Origin.of(base), Origin.of(url)
    if there.scheme == "http":
        if here.scheme == "https":
            raise Denied(f"{here.host} leads from HTTPS to plain HTTP at {shown(url)}; its configuration is wrong")
        if not there.is_loopback and not plain_http:
            raise Denied(f"{here.host} leads to plain HTTP at {shown(url)}; allow that if you trust the network")
        if there.is_loopback and not here.is_loopback:
            raise Denied(f"{here.host} leads to this machine at {shown(url)}; it is broken or hostile")
    return url

"""What went wrong between us and a registry, as one sentence: from exceptions and from statuses."""

import ssl
from collections.abc import Iterator
from typing import Final

import requests
import urllib3.exceptions as urllib3

from oci.errors import Denied, InvalidContent, NotFound, OciError, Unauthorized, Unavailable
from oci.registry.answer import Answer
from oci.registry.retry import RETRIED, retry_after
from oci.strict_json import parse_object

__all__ = ["FAILURES", "Broken", "broken", "failure", "is_passing", "refusal"]

FAILURES: Final = (requests.RequestException, urllib3.HTTPError, OSError)
_QUOTED: Final = 200  # characters of what a registry says
_ERRORS: Final = 3  # of its errors
_ADDRESS: Final = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, urllib3.LocationValueError)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_SENTENCES: Final = (
    (urllib3.NameResolutionError, "the host {host} is not known; check the name and the network"),
    (urllib3.ProxyError, "the proxy on the way to {host} does not work; check HTTPS_PROXY and NO_PROXY"),
    (urllib3.NewConnectionError, "cannot connect to {host}: {reason}; is the registry running?"),
    (urllib3.ConnectTimeoutError, "{host} does not take a connection in time; check the name and the network"),
    ((urllib3.ReadTimeoutError, requests.ReadTimeout, TimeoutError), "{host} does not answer in time; try again later"),
    (_ADDRESS, "the address of {host}, or of the proxy to it, cannot be used; check them"),
)


class Broken(Unavailable):
    """The connection broke or an answer took long: the same may work another time."""


def failure(error: Exception, host: str) -> Unavailable:
    """Why there is no answer from this host; Broken if another try may help."""
    kind = Broken if is_passing(error) else Unavailable
    sentences = (_sentence(cause, host) for cause in _causes(error))
    return kind(next(filter(None, sentences), None) or str(broken(host)))


def is_passing(error: Exception) -> bool:
    """Whether another try may help: the connection broke, or an answer took long."""
    lasting = (ssl.SSLError, urllib3.NewConnectionError, urllib3.ConnectTimeoutError, urllib3.ProxyError, *_ADDRESS)
    passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return not any(isinstance(cause, lasting) and not isinstance(cause, passing) for cause in _causes(error))


def broken(host: str) -> Broken:
    """The error for a connection that ended before its time."""
    return Broken(f"the connection to {host} broke; try again later")


def refusal(answer: Answer, what: str, host: str) -> OciError:
    """Why a registry does not do what was asked for; `what` is what the request was about."""
    said = _said(answer.body)
    match answer.status:
        case 401:
            return Unauthorized(f"{host} wants other credentials for {what}{said}; log in again")
        case 403:
            return Denied(f"{host} denies access to {what}{said}; ask its owner for access")
        case 404:
            return NotFound(f"there is no {what}{said}; check the name")
        case status if status in RETRIED:
            asked = retry_after(answer.headers.get("Retry-After"))
            when = f"in {asked:.0f} seconds" if asked else "later"
            return Unavailable(f"{host} cannot answer now, status {status}{said}; try again {when}")
        case status if 300 <= status < 400:
            return Unavailable(f"{host} redirects the request for {what}, which leads nowhere; is it a registry?")
        case status:
            return Denied(f"{host} refuses the request for {what} with status {status}{said}; it will not take it so")


def _sentence(cause: BaseException, host: str) -> str:
    """What the cause says, "" if it says nothing by itself."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message.rstrip(".")
        return f"the certificate of {host} is not trusted: {reason}; name its authority's certificate (CA file)"
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _NO_TLS:
            return f"{host} speaks no TLS; if that is as it should be, allow plain HTTP"
        return f"TLS with {host} fails: {cause.reason or 'the connection ended'}; check its TLS settings"
    for kind, sentence in _SENTENCES:
        if isinstance(cause, kind):
            return sentence.format(host=host, reason=_reason(cause))
    return ""


def _reason(error: BaseException) -> str:
    found = (cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror)
    return next(found, "no answer").lower()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it is about: requests and urllib3 wrap several times, each in its own way."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        about = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        waiting += [cause for cause in about if isinstance(cause, BaseException)]


def _said(body: bytes) -> str:
    """What a registry says in its own words (distribution-spec, "Error Codes"), cut and without control characters."""
    try:
        errors = parse_object(body, "the answer").get("errors")
    except InvalidContent:
        return ""
    listed = errors[:_ERRORS] if isinstance(errors, list) else []
    pairs = ((_text(error.get("code")), _text(error.get("message"))) for error in listed if isinstance(error, dict))
    text = ", ".join(filter(None, (": ".join(filter(None, pair)) for pair in pairs)))
    return f" ({text[:_QUOTED]})" if text else ""


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value[:_QUOTED]).strip()

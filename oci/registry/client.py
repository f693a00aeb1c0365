"""Requests to one registry: authorized, redirected, repeated and bounded in time."""

import json as jsonlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlsplit

import oras.provider
from requests import Request, Response, Session
from requests.utils import get_environ_proxies

from oci.errors import Unavailable
from oci.registry.address import Origin, follow, is_loopback
from oci.registry.answer import Answer, read_small
from oci.registry.auth import Auth, basic
from oci.registry.connection import Adapter, trust
from oci.registry.credential import Credential
from oci.registry.failures import FAILURES, failure, is_passing
from oci.registry.options import Options
from oci.registry.retry import RETRIED, Attempts, retry_after

__all__ = ["ANY_SCOPE", "Body", "Call", "Client"]

ANY_SCOPE: Final = frozenset({""})  # the registry itself says what a token must be for

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_MAX_SMALL: Final = 1 << 20  # bytes of an answer that is read whole, where nothing else is said

_T = TypeVar("_T")


class Body:
    """Bytes that are sent as they come, and cannot be sent twice."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes | memoryview]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Call:
    """A request. With scopes it is one to the registry itself and gets its authorization."""

    method: str
    url: str
    scopes: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    data: bytes | Body | None = None
    secret: str = field(default="", repr=False)  # an authorization for the origin of this address only
    patience: float = 0.0  # seconds until an answer begins; 0: as usual

    @property
    def is_repeatable(self) -> bool:
        """Whether its bytes can be sent again."""
        return not isinstance(self.data, Body)


class Client(oras.provider.Registry):  # type: ignore[misc] # oras has no types
    """oras-py's client of a registry, made safe; any thread may use it.

    Its session is used as it is. Its `do_request`, through which everything of it goes, is replaced: it sends the
    token wherever it is led, knows no time-outs, and repeats what cannot succeed for two minutes.
    """

    def __init__(self, registry: str, host: str, find: Callable[[], Credential | None], options: Options) -> None:
        super().__init__(hostname=host)
        self.session.trust_env = False  # else ~/.netrc would be sent in place of what we choose
        self.session.headers["User-Agent"] = "oras-py"
        self.session.mount("http://", Adapter(None))
        self.registry = registry
        self._host = host
        self._options = options
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._has_trust = False
        self._base = _known_base(host, options)
        self.auth = Auth(registry, find, self._fetch_token, plain_http=options.plain_http)

    @property
    def base(self) -> str:
        """The registry's address: plain HTTP on this machine unless it wants TLS there. Raises Unavailable."""
        with self._lock:
            if not self._base:
                self._base = self._probe()
                self.prefix = self._base.partition(":")[0]
            return self._base

    def close(self) -> None:
        """End all connections; what waits for another try does so at once."""
        self._closed.set()
        self.session.close()

    def do_request(  # noqa: PLR0913 - oras-py's signature, for what of it calls this
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,  # noqa: FBT001, FBT002 - bodies are never read unasked
    ) -> Response:
        """Send a request to the registry without a scope that it did not name; see `open`."""
        body = jsonlib.dumps(json).encode() if json is not None else data
        return self.open(Call(method, url, ANY_SCOPE, headers or {}, body))

    def open(self, call: Call) -> Response:
        """Send a request until there is an answer, and return it with its body unread.

        Raises Unavailable, Unauthorized, Denied; of statuses only 401 of the registry is dealt with.
        """
        return self._repeat(call, lambda response: response)

    def ask(self, call: Call, limit: int = _MAX_SMALL) -> Answer:
        """Send a request and read its answer. Raises what open raises; InvalidContent for one over the limit."""
        return self._repeat(call, lambda response: self._read(call, response, limit))

    def attempts(self, count: int = 0) -> Attempts:
        """Tries to be made, so many or, with 0, as many as usual."""
        patience = self._options.patience
        return Attempts(count or patience.attempts, patience.total, self._closed.wait)

    def _fetch_token(self, url: str, *, basic_for: Credential | None, form: str | None) -> Answer:
        secret = basic(basic_for) if basic_for else ""
        if form is None:
            return self.ask(Call("GET", url, secret=secret))
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask(Call("POST", url, headers=headers, data=form.encode()))

    def _read(self, call: Call, response: Response, limit: int) -> Answer:
        cut = call.method == "HEAD" or not response.ok  # the length that HEAD tells is that of another answer
        return read_small(response, limit, self._options.patience.answer, cut=cut)

    def _repeat(self, call: Call, finish: Callable[[Response], _T]) -> _T:
        attempts = self.attempts(0 if call.is_repeatable else 1)
        while True:
            try:
                response = self._authorized(call, attempts)
                asked = retry_after(response.headers.get("Retry-After"))
                if response.status_code not in RETRIED or not attempts.wait(asked):
                    return finish(response)
                response.close()
            except FAILURES as error:
                if not (is_passing(error) and attempts.wait()):
                    raise failure(error, _asked_host(error, call.url)) from None

    def _authorized(self, call: Call, attempts: Attempts) -> Response:
        """One try; a 401 of the registry itself is answered, twice at most: a kept token may have ended early."""
        if not call.scopes or _is_other(call.url, self._base):
            return self._redirected(call, call.secret, attempts)
        authorization = self.auth.header(self._base, call.scopes)
        for _ in range(2):
            response = self._redirected(call, authorization, attempts)
            if response.status_code != 401 or not call.is_repeatable or _is_other(response.url, call.url):
                return response
            header = response.headers.get("WWW-Authenticate", "")
            response.close()
            authorization = self.auth.answer(self._base, call.scopes, header, authorization)
        return self._redirected(call, authorization, attempts)

    def _redirected(self, call: Call, authorization: str, attempts: Attempts) -> Response:
        """One try, with redirects followed; the authorization is for the first address's origin only."""
        url = call.url
        for _ in range(_MAX_REDIRECTS):
            response = self._exchange(call, url, "" if _is_other(url, call.url) else authorization, attempts)
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or call.method not in ("GET", "HEAD") or target is None:
                return response
            response.close()
            url = follow(url, target, plain_http=self._options.plain_http)
        raise Unavailable(f"{self.registry} redirects more than {_MAX_REDIRECTS} times; try again later")

    def _exchange(self, call: Call, url: str, authorization: str, attempts: Attempts) -> Response:
        """One request and the head of its answer."""
        headers = {"Accept-Encoding": "identity", **call.headers}
        if authorization:
            headers["Authorization"] = authorization
        origin = Origin.of(url)
        if origin.scheme == "https":
            self._trust()
        session: Session = self.session
        request = session.prepare_request(Request(call.method, url, headers=headers, data=call.data))
        patience = self._options.patience
        answer = max(0.1, call.patience or min(patience.answer, attempts.remaining))
        proxies = {} if origin.is_loopback else get_environ_proxies(url)
        return session.get_adapter(url).send(request, stream=True, timeout=(patience.connect, answer), proxies=proxies)

    def _trust(self) -> None:
        """Read certificates, which takes a while, when the first of them is needed."""
        with self._lock:
            if not self._has_trust:
                ca_file = self._options.ca_file
                self.session.mount("https://", Adapter(trust(None, ca_file)))
                self.session.mount(f"https://{self._host}/", Adapter(trust(self._host, ca_file)))
                self._has_trust = True

    def _probe(self) -> str:
        """Ask a registry on this machine whether it speaks plain HTTP: a server that wants TLS says so, or nothing."""
        call = Call("GET", f"http://{self._host}/v2/")
        try:
            response = self._exchange(call, call.url, "", self.attempts())
            said = self._read(call, response, _MAX_SMALL).body if response.status_code == 400 else b""
            response.close()
            wants_tls = b"https" in said.lower()
        except FAILURES as error:
            if not is_passing(error):
                raise failure(error, self._host) from None
            wants_tls = "BadStatusLine" in repr(error)
        return f"{'https' if wants_tls else 'http'}://{self._host}"


def _known_base(host: str, options: Options) -> str:
    """The address where host and options tell the scheme, else ""."""
    name = Origin.of(f"https://{host}").host
    if options.plain_http:
        return f"http://{host}"
    if is_loopback(name) and options.ca_file is None:
        return ""
    return f"https://{host}"


def _asked_host(error: Exception, url: str) -> str:
    """Host and port of the request that failed, which may be where a redirect led."""
    request = getattr(error, "request", None)
    return urlsplit(getattr(request, "url", None) or url).netloc


def _is_other(url: str, home: str) -> bool:
    return Origin.of(url) != Origin.of(home)

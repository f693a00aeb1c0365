"""Connections that end: bounded in time whatever the other side sends, and with our own choice of certificates.

A time-out of a socket is for one piece of data, and who sends a byte every few seconds never meets it. So a
connection is cut where a handshake or the head of an answer takes too long as a whole.
"""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from oci.errors import StorageError

__all__ = ["Adapter", "bounded", "trust"]

_CERTIFICATES: Final = Path("/etc/docker/certs.d")


@contextmanager
def bounded(seconds: float, cut: Callable[[], object]) -> Iterator[None]:
    """Call `cut` from another thread if the block takes longer; then it ends with TimeoutError, whatever else it does.

    Else a line that was cut could pass for a whole one.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        cut()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise TimeoutError("cut") from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError("cut")


class _Bounded(HTTPConnection):
    """What plain and TLS connections have in common."""

    _line: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self._line = made.dup()  # TLS takes the other one over and gives it out after the handshake only
        return made

    def connect(self) -> None:
        """Connect, TLS included, within twice the time-out: a name may have several addresses."""
        try:
            with bounded(2 * float(self.timeout or 0), lambda: _cut(self._line)):
                super().connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error  # not taken for a slow answer
        finally:
            if self._line is not None:
                self._line.close()
                self._line = None

    def getresponse(self) -> Any:
        """Read the head of an answer within the time-out."""
        with bounded(float(self.timeout or 0), lambda: _cut(self.sock)):
            return super().getresponse()


class _Plain(_Bounded):
    pass


class _Tls(_Bounded, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


def _cut(sock: socket.socket | None) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, which may be waiting in another thread


class Adapter(HTTPAdapter):
    """Requests' transport over our connections and with our trust."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, ssl_context=self._context, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **options)
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
        return manager

    def cert_verify(self, *_: Any) -> None:
        """Leave the pool as it is: requests would have its own list of authorities trusted as well."""


def trust(registry: str | None, ca_file: Path | None, directory: Path = _CERTIFICATES) -> ssl.SSLContext:
    """What certificates are believed: the system's authorities, those of a file, and Docker's for a registry.

    Raises StorageError for a file that cannot be used.
    """
    context = ssl.create_default_context()
    # As other clients do, and alike in all versions of Python: private authorities often lack an extension, and some
    # are known by an intermediate certificate only.
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    if not _system_has_any():
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    for path in sorted((directory / registry).glob("*.crt")) if registry else ():
        _load(context, path)
    if ca_file is not None:
        _load(context, ca_file)
    return context


def _system_has_any() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or any(Path(paths.capath or "/nowhere").glob("*"))


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise StorageError(f"{path} holds no certificate in PEM; name the file of the registry's authority") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None

"""A server that answers what a test says, byte by byte, and keeps what it was asked: for registries gone bad."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

from tests.registry.certificates import Certificate

_MAX_HEAD: Final = 64 << 10  # bytes


class Asked(NamedTuple):
    """A request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answer: TypeAlias = Callable[[Asked], Iterable[bytes]]


class Scripted:
    """Answers each request with the bytes that `answer` gives, and closes the connection. Runs inside a block.

    `answer` may be replaced at any time. An endless answer ends with the connection or with the block.
    """

    def __init__(self, answer: Answer, *, tls: Certificate | None = None) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.reads_bodies = True
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._context = _context(tls) if tls else None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    @property
    def host(self) -> str:
        """Its name in references."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Its address, with the scheme."""
        return f"{'https' if self._context else 'http'}://{self.host}"

    def paths(self, method: str) -> list[str]:
        """The paths that were asked for with this method."""
        return [asked.path for asked in self.asked if asked.method == method]

    def __enter__(self) -> "Scripted":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def drip(self, data: Iterable[bytes], seconds: float) -> Iterator[bytes]:
        """The same pieces with pauses."""
        for piece in data:
            yield piece
            if self.ended.wait(seconds):
                return

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with suppress(OSError), connection:
            served = self._context.wrap_socket(connection, server_side=True) if self._context else connection
            self._open.add(served)
            with served:
                asked = _read(served, with_body=self.reads_bodies)
                if asked:
                    self.asked.append(asked)
                    for piece in self.answer(asked):
                        served.sendall(piece)
                    if not self.reads_bodies:  # else the answer may be lost with the connection's end
                        served.shutdown(socket.SHUT_WR)
                        while served.recv(_MAX_HEAD):
                            pass
            self._open.discard(served)
        self._open.discard(connection)


def reply(status: int, body: bytes = b"", **headers: str) -> list[bytes]:
    """A proper answer; `Content_Type` is the header Content-Type, and an empty value leaves a header out."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    merged = {"Content-Length": str(len(body)), "Connection": "close", **given}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in merged.items() if value)]
    return ["\r\n".join([*lines, "", ""]).encode("latin-1"), body]


def _context(tls: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def _read(connection: socket.socket, *, with_body: bool) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_MAX_HEAD)
        if not piece or len(data) > _MAX_HEAD:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0")) if with_body else 0
    while len(body) < length and (piece := connection.recv(_MAX_HEAD)):
        body += piece
    return Asked(method, path, headers, body)

"""The tests' own place of tokens: JSON Web Tokens that docker-registry believes, signed by openssl.

Source: distribution's "Token Authentication Specification" and "Token Authentication Implementation".
"""

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.registry.certificates import Certificate
from tests.registry.scripted import Asked, Scripted, reply
from tests.registry.server import PASSWORD, USER

SERVICE: Final = "registry of the tests"
IDENTITY: Final = "an identity token"
_SCOPE: Final = re.compile(r"repository:([^:]+):([a-z,]+)")


@dataclass
class TokenServer:
    """Gives everybody pull of `public/…`; the user, known by password or identity token, whatever is asked for."""

    signer: Certificate
    life: int = 300  # seconds of a token
    granted: list[list[str]] = field(default_factory=list)  # the scopes of each token, as asked for
    server: Scripted = field(init=False)

    def __post_init__(self) -> None:
        self.server = Scripted(self._answer)

    def auth(self, roots: Path) -> dict[str, Any]:
        """The configuration of a registry that believes tokens from here."""
        realm = f"http://127.0.0.1:{self.server.port}/token"
        return {"token": {"realm": realm, "service": SERVICE, "issuer": "tests", "rootcertbundle": str(roots)}}

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        query = urlsplit(asked.path).query if asked.method == "GET" else asked.body.decode()
        fields = parse_qs(query)
        if fields.get("service") != [SERVICE]:
            return reply(400, b"no such service")
        known = self._is_known(asked, fields)
        if known is None:
            return reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}')
        scopes = [scope for value in fields.get("scope", []) for scope in value.split()]
        self.granted.append(scopes)
        token = self._token([access for scope in scopes for access in _access(scope, known=known)])
        return reply(200, json.dumps({"token": token, "access_token": token, "expires_in": self.life}).encode())

    def _is_known(self, asked: Asked, fields: dict[str, list[str]]) -> bool | None:
        """None for one who claims to be somebody and is not."""
        if asked.method == "POST":
            return fields.get("refresh_token") == [IDENTITY] or None
        given = asked.headers.get("authorization")
        if given is None:
            return False
        return given == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() or None

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        der = subprocess.check_output(["openssl", "x509", "-in", str(self.signer.certificate), "-outform", "DER"])
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "tests", "sub": USER, "aud": SERVICE, "exp": now + self.life, "nbf": now - 5, "iat": now,
            "jti": "1", "access": access,
        }  # fmt: skip
        signed = b".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.signer.key)]
        return (signed + b"." + _encode(subprocess.check_output(command, input=signed))).decode()


def _access(scope: str, *, known: bool) -> Iterable[dict[str, Any]]:
    found = _SCOPE.fullmatch(scope)
    if found:
        name, actions = found[1], found[2].split(",")
        allowed = actions if known else [each for each in actions if each == "pull" and name.startswith("public/")]
        yield {"type": "repository", "name": name, "actions": allowed}


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")

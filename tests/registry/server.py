"""A private docker-registry on a free port of this machine, which ends with the tests."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.registry.certificates import Certificate

USER: Final = "someone"
PASSWORD: Final = "correct horse"
_HTPASSWD: Final = "someone:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"  # bcrypt of it
_LISTENING: Final = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class RegistryServer:
    """One registry; as a context manager it runs inside the block. `auth` is a part of its configuration."""

    def __init__(
        self, program: Path, directory: Path, *, tls: Certificate | None = None, auth: Mapping[str, Any] | None = None
    ) -> None:
        self._program = program
        self._directory = directory
        self.data = directory / "data"
        self.tls = tls
        self.port = 0
        self._auth = dict(auth or {})
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    @property
    def host(self) -> str:
        """Its name in references."""
        return f"localhost:{self.port}"

    def __enter__(self) -> "RegistryServer":
        config = self._directory / "config.json"  # YAML includes JSON
        config.write_text(json.dumps(self._config()))
        command = [str(self._program), "serve", str(config)]
        if shutil.which("setpriv"):  # so that it ends even where the tests are killed
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.port = self._wait_until_it_listens()
        self._drain = threading.Thread(target=self._log)
        self._drain.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if self._drain:
            self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _wait_until_it_listens(self) -> int:
        assert self._process is not None
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            found = _LISTENING.search(line)
            if found:
                return int(found[1])
        self._process.wait()
        self._process.stderr.close()
        raise AssertionError("docker-registry does not start:\n" + "".join(said))

    def _log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with (self._directory / "log").open("w") as log:
            log.writelines(self._process.stderr)

    def _config(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": "of the tests", "relativeurls": False}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}},
            "http": http,
        }
        return config | ({"auth": self._auth} if self._auth else {})


def htpasswd(directory: Path) -> dict[str, Any]:
    """The configuration of one user with a password."""
    path = directory / "htpasswd"
    path.write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "tests", "path": str(path)}}

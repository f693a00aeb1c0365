"""Other people's programs that push to a registry and pull from it: oras, crane and skopeo, as tests use them."""

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from tests.registry import programs

_PATIENCE: Final = 120  # seconds


class Tool(NamedTuple):
    """One program, with a home of its own."""

    name: str
    root: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What it runs in."""
        own = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run")}
        return {**programs.environment(self.root), **own}

    def run(self, *words: str, given: str = "") -> str:
        """What it writes to its standard output; it must succeed."""
        command = [str(programs.program(self.root, self.name)), *words]
        done = subprocess.run(
            command, env=self.environment, cwd=self.home, input=given, capture_output=True, text=True, timeout=_PATIENCE
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def copy(self, source: str, target: str) -> None:
        """Copy all that a reference leads to, to another one."""
        match self.name:
            case "oras":
                self.run("copy", "--from-plain-http", "--to-plain-http", source, target)
            case "crane":
                self.run("copy", "--insecure", source, target)
            case _:
                plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy")
                layout = f"oci:{self.home / 'layout'}:x"  # by way of the disk: it must have all of it
                self.run("copy", "--all", *plain, f"docker://{source}", layout)
                self.run("copy", "--all", *plain, layout, f"docker://{target}")

    def log_in(self, host: str, user: str, password: str) -> None:
        """Let it store a password."""
        plain = {"oras": ["--plain-http"], "crane": [], "skopeo": ["--tls-verify=false"]}[self.name]
        command = ["auth", "login"] if self.name == "crane" else ["login"]
        self.run(*command, host, *plain, "--username", user, "--password-stdin", given=password)

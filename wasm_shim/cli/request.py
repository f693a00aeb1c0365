"""From the words of `wasm-shim run` to a bundle's config.json and the options of Create; checks what it can."""

import json
import os
import posixpath
import re
from typing import Any, NamedTuple

from wasm_shim.cli.output import OURS, Refusal, refusal_of_program
from wasm_shim.errors import PermissionDenied, WasmShimError
from wasm_shim.images.start import Start, is_path
from wasm_shim.runtime.source import open_program

PULL_MODES = MISSING, ALWAYS, NEVER = "missing", "always", "never"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}")  # Docker's rule for container names; they become file names


class RunRequest(NamedTuple):
    """A checked `run`: where the program is, and the container's OCI spec; `digest` is that of an image."""

    program: str
    entrypoint: str
    invoke: str
    name: str
    remove: bool
    interactive: bool
    terminal: bool
    config: bytes
    command: tuple[str, ...]
    image: str
    digest: str


def read_request(values: dict[str, Any]) -> RunRequest:
    """Raises Refusal with one sentence for everything that can be seen to be wrong before anything is made."""
    start = _start(values)
    arguments = start.arguments(values["entrypoint"], values["ARG"])
    name = values["name"]
    if name and not _NAME.fullmatch(name):
        raise Refusal(OURS, f"invalid name {name!r}; use up to 200 letters, digits, and . _ - behind the first")
    mounts = [_volume(text) for text in values["volume"]] + [_directory(text) for text in values["dir"]]
    directory = values["workdir"] or _inside(start.working_directory, mounts)
    if not directory.startswith("/"):
        raise Refusal(OURS, f"working directory {directory!r} is not absolute; begin it with /")
    environment = [f"{key}={value}" for key, value in _environment(values, start.env).items()]
    for word in (start.program, *arguments, values["invoke"], directory, *environment):
        if "\0" in word or word.encode(errors="backslashreplace").decode() != word:
            raise Refusal(OURS, f"{word!r} is not UTF-8, or holds a NUL; guests take text only: rename it")
    spec = {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": values["tty"],
            "user": {"uid": os.geteuid(), "gid": os.getegid()},
            "args": list(arguments),
            "env": environment,
            "cwd": directory,
            "noNewPrivileges": True,
        },
        "mounts": mounts,
    }
    return RunRequest(
        program=start.program,
        entrypoint=start.name,
        invoke=values["invoke"],
        name=name,
        remove=values["rm"],
        interactive=values["interactive"],
        terminal=values["tty"],
        config=json.dumps(spec).encode(errors="surrogateescape"),
        command=arguments,
        image=values["IMAGE"],
        digest=start.digest,
    )


def _start(values: dict[str, Any]) -> Start:
    """What runs: a file, or the program of an image."""
    if values["pull"] not in ("", *PULL_MODES):
        raise Refusal(OURS, f"--pull {values['pull']} is not known; write one of {', '.join(PULL_MODES)}")
    if is_path(values["IMAGE"]):
        path = _program(values["IMAGE"])
        name = f"/{posixpath.basename(path)}"
        return Start(path, name, (name,))
    from wasm_shim.cli import references  # not for files

    return references.start(values)


def _program(image: str) -> str:
    """The absolute path of the program's file."""
    path = os.path.abspath(image)
    try:
        os.close(open_program(image))
    except PermissionDenied as error:  # there, but not to be run
        raise Refusal(126, error.message) from error
    except WasmShimError as error:
        raise refusal_of_program(error) from error
    return path


def _inside(directory: str, mounts: list[dict[str, Any]]) -> str:
    """An image's working directory where a volume has it: of the image's own files a guest sees none."""
    wanted = posixpath.normpath(f"///{directory}")  # not two slashes, which POSIX keeps
    places = [posixpath.normpath(f"///{mount['destination']}") for mount in mounts]
    if "/" in places:  # beside which there is no working directory
        return "/"
    return wanted if any(f"{wanted}/".startswith(f"{place}/") for place in places) else "/"


def _environment(values: dict[str, Any], image: tuple[str, ...]) -> dict[str, str]:
    """The image's variables, and over them the given ones."""
    environment = {name: value for name, _, value in (entry.partition("=") for entry in image)}
    for path in values["env_file"]:
        for number, line in enumerate(_lines(path), start=1):
            text = line.strip()
            if text and not text.startswith("#"):
                _set(environment, text, f"{path}, line {number}")
    for text in values["env"]:
        _set(environment, text, "-e")
    return environment


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError as error:
        raise Refusal(OURS, f"cannot read the environment file {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise Refusal(OURS, f"the environment file {path} is not UTF-8; write it as text") from error


def _set(environment: dict[str, str], text: str, where: str) -> None:
    """NAME=VALUE sets, a bare NAME passes the caller's value on where there is one: Docker's rule."""
    name, equals, value = text.partition("=")
    if not name or " " in name or "\0" in text:
        raise Refusal(OURS, f"invalid variable {text!r} ({where}); write NAME=VALUE")
    if equals:
        environment[name] = value
    elif name in os.environ:
        environment[name] = os.environ[name]


def _volume(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1].startswith("/"):
        raise Refusal(OURS, f"invalid volume {text!r}; write HOST:GUEST, where GUEST begins with /, or HOST:GUEST:ro")
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise Refusal(OURS, f"invalid volume {text!r}: {mode!r} is no mode; write ro or rw")
    return _mount(parts[0], parts[1], mode)


def _directory(text: str) -> dict[str, Any]:
    host, _, guest = text.partition("::")
    if not os.path.isdir(host):
        raise Refusal(OURS, f"cannot grant {host!r}: it is no directory; use -v for files, or check the path")
    return _mount(host, posixpath.normpath(f"/{guest or host}"), "rw")


def _mount(host: str, guest: str, mode: str) -> dict[str, Any]:
    source = os.path.abspath(host)
    if not os.path.exists(source):
        raise Refusal(OURS, f"mount source {host} does not exist; create it or mount another directory")
    if not os.access(source, os.R_OK):
        raise Refusal(OURS, f"cannot read the mount source {host}: permission denied; mount one that you may read")
    return {"destination": guest, "source": source, "type": "bind", "options": ["rbind", mode]}

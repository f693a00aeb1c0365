"""From a spec to a plan: which program runs, what is mounted where, what the guest may open.

A guest without a root file system sees its mounts only. Each is bound at a numbered directory of an empty
root, and WASI's preopens carry the names: so no mount point is ever made in a directory of the user, and a
wall that has no mount namespace needs nothing but other paths.
"""

import os
import posixpath
from typing import NamedTuple

from wasm_shim.container.spec import Spec
from wasm_shim.errors import InvalidArgument, NotFound
from wasm_shim.guest import Guest, Image, Mount, Preopen
from wasm_shim.kernel.calls import open_in_root


class Plan(NamedTuple):
    """Everything that is decided before a process exists."""

    program: str
    name: str
    guest: Guest
    mounts: tuple[Mount, ...]


def make_plan(spec: Spec, image: Image, call: str, *, private_mounts: bool) -> Plan:
    """The plan of a container; `private_mounts` tells whether the wall can bind mount.

    Raises NotFound or InvalidArgument with the reason.
    """
    mounts = tuple(mount._replace(target=posixpath.normpath(mount.target)) for mount in spec.mounts)
    for mount in mounts:
        if not os.path.exists(mount.source):
            raise NotFound(f"mount source {mount.source} does not exist; create it or mount another directory")
    program, name = _program(spec.arguments[0], mounts, image)
    staged, preopens = _stage(mounts) if private_mounts else _in_place(mounts)
    preopens += _working_directory(posixpath.normpath(spec.working_directory), mounts, preopens)
    guest = Guest(spec.arguments, spec.environment, preopens, call, spec.terminal)
    return Plan(program, name, guest, staged)


def _program(argument: str, mounts: tuple[Mount, ...], image: Image) -> tuple[str, str]:
    """The host's path of the program that `argument` names, and the name for messages."""
    inside = posixpath.normpath(f"/{argument}") if argument.startswith("/") else ""
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if inside and os.path.isdir(mount.source) and _beneath(inside, mount.target):
            path = _resolve(mount.source, inside[len(mount.target.rstrip("/")) :])
            if path:
                return path, argument
    if argument in (image.entrypoint, posixpath.basename(image.entrypoint)):
        return image.path, image.path
    raise NotFound(f"no program {argument}: the container has one program, {image.entrypoint}; name that")


def _resolve(source: str, inside: str) -> str:
    """The file's real path beneath a mounted directory, or empty where there is none."""
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = open_in_root(root, inside, os.O_PATH)
    except OSError:
        return ""
    finally:
        os.close(root)
    try:
        path = os.readlink(f"/proc/self/fd/{file}")
        return path if os.path.isfile(path) else ""
    finally:
        os.close(file)


def _stage(mounts: tuple[Mount, ...]) -> tuple[tuple[Mount, ...], tuple[Preopen, ...]]:
    """Directories at /0, /1, …; files gathered in one such directory per parent, as WASI opens no file."""
    staged: list[Mount] = []
    preopens: dict[str, Preopen] = {}
    for mount in mounts:
        directory = os.path.isdir(mount.source)
        name = mount.target if directory else posixpath.dirname(mount.target)
        if name in preopens and (directory or not _gathers_files(preopens[name], staged)):
            raise InvalidArgument(f"two mounts meet at {name}; mount one of them somewhere else")
        place = preopens.setdefault(name, Preopen(f"/{len(preopens)}", name, writable=False))
        preopens[name] = place._replace(writable=place.writable or not mount.read_only)
        target = place.path if directory else f"{place.path}/{posixpath.basename(mount.target)}"
        staged.append(mount._replace(target=target))
    return tuple(staged), tuple(preopens.values())


def _gathers_files(place: Preopen, staged: list[Mount]) -> bool:
    return not any(mount.target == place.path for mount in staged)


def _in_place(mounts: tuple[Mount, ...]) -> tuple[tuple[Mount, ...], tuple[Preopen, ...]]:
    """Without a mount namespace the guest opens the host's own paths, which Landlock alone leaves it."""
    for mount in mounts:
        if not os.path.isdir(mount.source):
            message = f"cannot mount the file {mount.source}: this kernel lets you have no user namespace;"
            raise InvalidArgument(f"{message} mount its directory")
    return (), tuple(Preopen(mount.source, mount.target, not mount.read_only) for mount in mounts)


def _working_directory(
    path: str, mounts: tuple[Mount, ...], preopens: tuple[Preopen, ...]
) -> tuple[Preopen, ...]:
    """A preopen named `.`: WASI has no working directory, guests open relative paths beneath that."""
    if path == "/":
        return ()
    if any(mount.target == "/" for mount in mounts):
        message = f"working directory {path} with a mount at /: WASI guests know one of the two;"
        raise InvalidArgument(f"{message} mount the directory you want at /")
    for preopen in sorted(preopens, key=lambda preopen: len(preopen.name), reverse=True):
        if _beneath(path, preopen.name):
            return (preopen._replace(path=preopen.path + path[len(preopen.name.rstrip("/")) :], name="."),)
    raise NotFound(f"working directory {path} is in no mount; mount a directory there with -v HOST:{path}")


def _beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")

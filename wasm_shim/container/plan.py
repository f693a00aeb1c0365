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


def make_rooted_plan(spec: Spec, call: str) -> Plan:
    """The plan of a container with a root file system: the guest opens what that holds.

    Its mounts are part of the tree, where the kernel keeps those that are read-only so. `program` is empty: it is a
    file of the tree.
    """
    directory = _normal(spec.working_directory)
    preopens: tuple[Preopen, ...] = (Preopen("/", "/", writable=True),)
    if directory != "/":
        preopens += (Preopen(directory, ".", writable=True),)
    guest = Guest(spec.arguments, spec.environment, preopens, call, spec.terminal)
    return Plan("", spec.arguments[0], guest, ())


def make_plan(spec: Spec, image: Image, call: str, *, private_mounts: bool) -> Plan:
    """The plan of a container without a root; `private_mounts` tells whether the wall can bind mount.

    Raises NotFound or InvalidArgument with the reason.
    """
    binds = (mount for mount in spec.mounts if isinstance(mount, Mount))  # without a root there are no others
    mounts = tuple(mount._replace(target=_normal(mount.target)) for mount in binds)
    for mount in mounts:
        if not os.path.exists(mount.source):
            raise NotFound(f"mount source {mount.source} does not exist; create it or mount another directory")
        if _is_kernels(mount.source):
            message = f"cannot show {mount.source} to a guest: it holds the kernel's own files, such as /proc/self/mem"
            raise InvalidArgument(f"{message}; mount the directory that the program needs")
    program, name = _program(spec.arguments[0], mounts, image)
    staged, preopens = _stage(mounts) if private_mounts else _in_place(mounts)
    preopens += _working_directory(_normal(spec.working_directory), mounts, preopens)
    guest = Guest(spec.arguments, spec.environment, preopens, call, spec.terminal)
    return Plan(program, name, guest, staged)


def _is_kernels(source: str) -> bool:
    """Whether the source lies in a file system of the kernel's, or is the root that has them all below it.

    A guest that can write /proc/self/mem walks out of the Wasm wall.
    """
    root, device = os.stat("/").st_dev, os.stat(source).st_dev
    places = (place for place in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue") if os.path.exists(place))
    kernels = {os.stat(place).st_dev for place in places} - {root}
    return device in kernels or os.path.realpath(source) == "/"


def _program(argument: str, mounts: tuple[Mount, ...], image: Image) -> tuple[str, str]:
    """The host's path of the program that `argument` names, and the name for messages."""
    if argument == image.entrypoint:
        return image.path, posixpath.basename(image.entrypoint)
    inside = _normal(argument) if argument.startswith("/") else ""
    mount = max((m for m in mounts if _beneath(inside, m.target)), key=lambda m: len(m.target), default=None)
    if mount:  # the innermost one: it hides what others have at its place
        path = _resolve(mount, inside)
        if os.path.isfile(path):
            return path, argument
    if argument == posixpath.basename(image.entrypoint):
        return image.path, posixpath.basename(image.entrypoint)
    raise NotFound(f"no program {argument}: the container has one program, {image.entrypoint}; name that")


def _resolve(mount: Mount, path: str) -> str:
    """The host's real path of what the guest sees at `path` in the mount, or empty; no link leads out of it."""
    if path == mount.target:
        return os.path.realpath(mount.source)
    try:
        root = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        return ""
    try:
        file = open_in_root(root, path[len(mount.target.rstrip("/")) :], os.O_PATH)
    except OSError:
        return ""
    finally:
        os.close(root)
    try:
        return os.readlink(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _stage(mounts: tuple[Mount, ...]) -> tuple[tuple[Mount, ...], tuple[Preopen, ...]]:
    """Directories at /0, /1, …; files gathered in one such directory per parent, as WASI opens no file."""
    staged: list[Mount] = []
    preopens: dict[str, Preopen] = {}
    for mount in mounts:
        directory = os.path.isdir(mount.source)
        name = mount.target if directory else posixpath.dirname(mount.target)
        if not directory and mount.target == "/":
            raise InvalidArgument(f"cannot mount the file {mount.source} at /; give it a name there")
        if name in preopens and (directory or not _gathers_files(preopens[name], staged)):
            raise InvalidArgument(f"two mounts meet at {name}; mount one of them somewhere else")
        place = preopens.setdefault(name, Preopen(f"/{len(preopens)}", name, writable=False))
        preopens[name] = place._replace(writable=place.writable or not mount.read_only)
        target = place.path if directory else f"{place.path}/{posixpath.basename(mount.target)}"
        if any(other.target == target for other in staged):
            raise InvalidArgument(f"two mounts meet at {mount.target}; mount one of them somewhere else")
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
        if sum(other.target == mount.target for other in mounts) > 1:
            raise InvalidArgument(f"two mounts meet at {mount.target}; mount one of them somewhere else")
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
    preopen = max((p for p in preopens if _beneath(path, p.name)), key=lambda p: len(p.name), default=None)
    if preopen is None:
        raise NotFound(f"working directory {path} is in no mount; mount a directory there with -v HOST:{path}")
    if path == preopen.name:
        return (preopen._replace(name="."),)
    # A link may lead out of the mount, and without a root of its own the guest's process would follow it.
    sources = [mount for mount in mounts if mount.target == preopen.name]
    real = _resolve(sources[0], path) if sources else ""
    if not os.path.isdir(real):
        raise NotFound(f"working directory {path} is no directory in the mount at {preopen.name}; make it there")
    below = real[len(os.path.realpath(sources[0].source).rstrip("/")) :]
    return (preopen._replace(path=preopen.path.rstrip("/") + below, name="."),)


def _normal(path: str) -> str:
    return posixpath.normpath(f"///{path}")  # not two slashes, which POSIX keeps


def _beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")

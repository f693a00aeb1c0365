"""Prepare a container with a root file system in a process of its own: cgroup, mounts, the program's digest.

All of it may block, on a network file system for ever, and the pod shim never does. The process hands over two
descriptors, of its mount namespace and of the program, and ends.
"""

import fcntl
import os
import posixpath
import signal
import socket
import stat
from collections.abc import Callable
from typing import Final, NamedTuple

from wasm_shim import errors
from wasm_shim.container.cgroup import Cgroup
from wasm_shim.container.isolation import NAMESPACE_NAMES, Isolation
from wasm_shim.container.rootfs import build_root
from wasm_shim.container.spec import Spec
from wasm_shim.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable, WasmShimError
from wasm_shim.eventloop import EventLoop
from wasm_shim.kernel import calls
from wasm_shim.runtime.cache import digest
from wasm_shim.runtime.source import check_size
from wasm_shim.steps import reached
from wasm_shim.task.ports import RootMount

_SECONDS: Final = 30.0  # for mounts and for reading the program
_MESSAGE: Final = 8192
_LINUX: Final = (b"\x7fELF", b"#!")
_NS_GET_NSTYPE: Final = 0xB703  # ioctl_nsfs(2): the CLONE_NEW… of a namespace
_DONE, _FAILED = b"D", b"F"


class Prepared(NamedTuple):
    """What a guest is forked with; the two descriptors are the receiver's to close."""

    digest: str
    program: int
    namespace: int


class Preparation:
    """The process at work; `answer` is called once, from the loop."""

    def __init__(  # noqa: PLR0913 - what a container is made of, and whom to tell
        self,
        loop: EventLoop,
        spec: Spec,
        isolation: Isolation,
        rootfs: tuple[RootMount, ...],
        cgroup: Cgroup,
        answer: Callable[[Prepared | WasmShimError], None],
    ) -> None:
        """Start it; raises OSError when there can be no process."""
        self._loop, self._answer = loop, answer
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            _run(spec, isolation, rootfs, cgroup, theirs)
        theirs.close()
        self._socket, self._pidfd = ours, os.pidfd_open(self._pid)
        loop.watch_read(self._pidfd, self._ended)
        self._timer = loop.call_later(_SECONDS, self._expired)

    def _expired(self) -> None:
        os.kill(self._pid, signal.SIGKILL)  # in vain while the kernel waits for a dead server: answer anyway
        answer, self._answer = self._answer, _discard
        answer(DeadlineExceeded(f"the container's mounts took over {_SECONDS:.0f} s; look at its volumes"))

    def _ended(self) -> None:
        self._loop.unwatch_read(self._pidfd)
        self._timer.cancel()
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._answer(self._outcome())

    def _outcome(self) -> Prepared | WasmShimError:
        with self._socket as connection:
            connection.settimeout(0)
            try:
                said, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 2)
            except OSError:
                said, descriptors = b"", []
        if said[:1] == _DONE and len(descriptors) == 2:
            return Prepared(said[1:].decode(), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if said[:1] != _FAILED:
            return Unavailable("the process that mounts for the container was killed; create it again")
        kind, _, message = said[1:].decode(errors="replace").partition("\0")
        failure: WasmShimError = getattr(errors, kind, errors.Internal)(message)
        return failure


def _discard(outcome: Prepared | WasmShimError) -> None:
    if isinstance(outcome, Prepared):
        os.close(outcome.program)
        os.close(outcome.namespace)


def _run(
    spec: Spec, isolation: Isolation, rootfs: tuple[RootMount, ...], cgroup: Cgroup, connection: socket.socket
) -> None:
    """The forked process; never returns."""
    try:
        calls.set_parent_death_signal(signal.SIGKILL)
        calls.close_descriptors_except({connection.fileno()})
        os.umask(0o022)  # mount points and working directory are made for a guest that may not be root
        reached("preparer.forked")
        try:
            _prepare(spec, isolation, rootfs, cgroup, connection)
        except WasmShimError as error:
            _send_failure(connection, type(error).__name__, str(error))
        except OSError as error:
            reason = error.strerror or str(error)
            _send_failure(connection, "FailedPrecondition", f"cannot prepare the container: {reason}; look at its spec")
        except BaseException as error:  # noqa: BLE001 - a process boundary: nothing may return into the shim's loop
            _send_failure(connection, "Internal", f"fault while preparing the container: {error!r}")
    finally:
        os._exit(0)


def _send_failure(connection: socket.socket, kind: str, sentence: str) -> None:
    """The name of a class of errors and its message, cut to what is received at once: more could block."""
    connection.send(_FAILED + f"{kind}\0{sentence}".encode(errors="surrogateescape")[: _MESSAGE - 1])


def _prepare(
    spec: Spec, isolation: Isolation, rootfs: tuple[RootMount, ...], cgroup: Cgroup, connection: socket.socket
) -> None:
    for path, kind in isolation.joined:
        _check_namespace(path, kind)
    cgroup.create(isolation.resources)
    try:
        root = build_root(isolation, rootfs, spec.mounts, spec.working_directory)
        program = _open_program(root, spec)
        key = digest(program)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        reached("preparer.mounted")
        socket.send_fds(connection, [_DONE + key.encode()], [program, namespace])
    except BaseException:
        cgroup.remove()
        raise


def _check_namespace(path: str, kind: int) -> None:
    """The guest joins it by path later, when there is no good place for a sentence any more."""
    name = f"the {NAMESPACE_NAMES[kind]} namespace {path}"
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if fcntl.ioctl(namespace, _NS_GET_NSTYPE) == kind:
                return
        finally:
            os.close(namespace)
    except FileNotFoundError as error:
        raise NotFound(f"{name} does not exist; the pod that it belongs to has ended") from error
    except OSError:  # a directory, or another kind of file
        pass
    raise InvalidArgument(f"{name} is none of that kind; give the path of one")


def _open_program(root: int, spec: Spec) -> int:
    """The Wasm program that argv[0] names; raises NotFound, InvalidArgument."""
    name, places = spec.arguments[0], _places(spec.arguments[0], spec)
    for path in places:
        try:
            program = calls.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidArgument(f"cannot open {path} in the image: {error.strerror}; name another program") from error
        if not stat.S_ISREG(os.fstat(program).st_mode):
            if path != places[-1]:
                os.close(program)
                continue
            raise InvalidArgument(f"{path} in the image is no regular file; name a .wasm or .wat file")
        if os.pread(program, 4, 0).startswith(_LINUX):
            raise InvalidArgument(f"{path} is a Linux program and no WebAssembly; run it with the runtime runc")
        check_size(program, path)
        return program
    raise NotFound(f"no program {name} in the image; {_advice(root)}")


def _places(name: str, spec: Spec) -> list[str]:
    """Where a program of this name may be, as execvp(3) looks for it."""
    if name.startswith("/"):
        return [name]
    places = [posixpath.join(spec.working_directory, name)]
    if "/" not in name:
        path = dict(spec.environment).get("PATH", "")
        places += [posixpath.join(directory, name) for directory in path.split(":") if directory.startswith("/")]
    return places


def _advice(root: int) -> str:
    """What the root directory offers instead."""
    listed = calls.open_in_root(root, "/", os.O_RDONLY | os.O_DIRECTORY)
    found = sorted(name for name in os.listdir(listed) if name.endswith((".wasm", ".wat")))
    return f"it has /{', /'.join(found[:3])}; name that" if found else "name a .wasm or .wat file of it"

"""The process that prepares a container: it reads the bundle, makes cgroup and mounts, finds the program, and writes
down what the guest's process will do. All of it may block, on a network file system for ever, and much of it is
Python's work with many objects: the pod shim does neither, so that it answers at once and stays small.

It tells the shim on a socket of packets: `CGROUP` and its path before that is made; `COMPILE`, a sha256, a NUL and
a name, with the program, when the cache lacks it, and waits for an answer; at last `DONE` and a Prepared, with its
descriptors, or `FAILED`, the name of a class of errors, a NUL and the message.
"""

import fcntl
import marshal
import os
import signal
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from wasm_shim.container.cgroup import cgroup_at, path_without_spec
from wasm_shim.container.control import PREPARER_NAME
from wasm_shim.container.forge import Forge
from wasm_shim.container.isolation import NAMESPACE_NAMES, Isolation
from wasm_shim.container.nursery import write_job
from wasm_shim.container.plan import Plan, make_plan, make_rooted_plan
from wasm_shim.container.process import Job
from wasm_shim.container.rooted_program import advice
from wasm_shim.container.rooted_program import open_program as open_rooted
from wasm_shim.container.rootfs import build_root
from wasm_shim.container.spec import Spec, read_bundle
from wasm_shim.container.wall import Enclosure, Wall
from wasm_shim.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable, WasmShimError
from wasm_shim.kernel import calls
from wasm_shim.resolver.client import Containerd, find_program, read_program
from wasm_shim.runtime.cache import Compiled, ProgramCache, digest
from wasm_shim.runtime.called import CalledFunction, checked_call
from wasm_shim.runtime.program import Program
from wasm_shim.runtime.source import open_program
from wasm_shim.steps import reached
from wasm_shim.task.ports import Creation

CGROUP, COMPILE, DONE, FAILED = b"P", b"C", b"D", b"F"
COMPILED: Final = b"G"  # the shim's answer; any other means to give up
MESSAGE: Final = 64 << 10  # bytes of a packet
_NS_GET_NSTYPE: Final = 0xB703  # ioctl_nsfs(2): the CLONE_NEW… of a namespace

_T = TypeVar("_T")


class Prepared(NamedTuple):
    """What the shim needs to know; the job itself is a file without a name that comes with it."""

    path: str  # of the compiled program
    kind: str  # of the program
    parameters: int  # where the job's parameters are in it
    oom_score: int | None  # None for a container without a root file system
    counted: bool  # whether a limit holds for its processes, and so for its threads

    def to_bytes(self) -> bytes:
        """For a packet."""
        return marshal.dumps(tuple(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Prepared":
        """Read `to_bytes` back."""
        return cls(*marshal.loads(data))  # noqa: S302 - our own process wrote it


class Preparer:
    """The process at work."""

    def __init__(  # noqa: PLR0913 - all that a container is prepared with
        self,
        forge: Forge,
        cache: ProgramCache,
        containerd: Containerd | None,
        creation: Creation,
        stdio: tuple[int, int, int],
        connection: socket.socket,
    ) -> None:
        """`stdio` is the guest's; without a `containerd` no image has a program but in its root file system."""
        self._forge, self._cache, self._creation, self._stdio = forge, cache, creation, stdio
        self._containerd, self._connection = containerd, connection

    def run(self) -> None:
        """Prepare and tell. Never returns."""
        try:
            calls.set_parent_death_signal(signal.SIGKILL)
            calls.set_name(PREPARER_NAME)
            calls.close_descriptors_except({self._connection.fileno(), *self._stdio})
            os.umask(0o022)  # mount points and working directory are made for a guest that may not be root
            reached("preparer.forked")
            try:
                self._prepare()
            except WasmShimError as error:
                self._fail(type(error).__name__, str(error))
            except OSError as error:
                reason = error.strerror or str(error)
                self._fail("FailedPrecondition", f"cannot prepare the container: {reason}; look at its spec")
            except BaseException as error:  # noqa: BLE001 - a process boundary: nothing may return into the shim's loop
                self._fail("Internal", f"fault while preparing the container: {error!r}")
        finally:
            os._exit(0)

    def _fail(self, kind: str, sentence: str) -> None:
        """The name of a class of errors and its message, cut to what is received at once."""
        self._connection.send(FAILED + f"{kind}\0{sentence}".encode(errors="surrogateescape")[: MESSAGE - 1])

    def _prepare(self) -> None:
        spec = read_bundle(self._creation.bundle)
        if spec.isolation is None:
            private = self._forge.wall.private_mounts
            plan = make_plan(spec, self._creation.image, self._creation.call, private_mounts=private)
            program = open_program(plan.program)
            try:
                key = digest(program)
            except OSError as error:
                raise InvalidArgument(f"cannot read {plan.program}: {error.strerror}; check the file") from error
            self._finish(plan, None, self._compiled(key, lambda: program, plan.name))
            return
        if self._forge.wall is not Wall.NAMESPACES:
            raise FailedPrecondition("a container with a root file system needs root; run containerd as root")
        plan = make_rooted_plan(spec, self._creation.call)
        self._enclose(plan, spec, spec.isolation)

    def _enclose(self, plan: Plan, spec: Spec, isolation: Isolation) -> None:
        for path, kind in isolation.joined:
            _check_namespace(path, kind)
        path = isolation.cgroup or path_without_spec(self._creation.id)
        cgroup = cgroup_at(path, systemd=self._creation.systemd_cgroup)
        self._connection.send(CGROUP + os.fsencode(path))
        cgroup.create(isolation.resources)
        outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        root = build_root(isolation, self._creation.rootfs, spec.mounts, spec.working_directory)
        key, program = self._program(root, spec, outside)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        tops = _top_directories(root) if spec.working_directory != "/" else ()
        reached("preparer.mounted")
        compiled = self._compiled(key, program, plan.name)
        pids = next((path for path, kind in isolation.joined if kind == calls.CLONE_NEWPID), "")
        joined = os.open(pids, os.O_RDONLY | os.O_CLOEXEC) if pids else -1
        self._finish(plan, Enclosure(isolation, namespace, joined, cgroup.entrances(), tops), compiled)

    def _program(self, root: int, spec: Spec, outside: int) -> tuple[str, Callable[[], int]]:
        """The sha256 of the program that argv[0] names, and how to get at its bytes; `outside` is the mount
        namespace that we come from.

        Raises NotFound, InvalidArgument, and what the image resolver refuses.
        """
        word, containerd, container = spec.arguments[0], self._containerd, self._creation.id
        file = open_rooted(root, spec)
        if file is not None:
            return digest(file), lambda: file
        found = containerd and _outside(outside, lambda: find_program(containerd, container, word))
        if not containerd or not found:
            raise NotFound(f"no program {word} in the image; {advice(root)}")
        key = found.digest
        return key, lambda: _outside(outside, lambda: read_program(containerd, container, word, key))

    def _compiled(self, key: str, open_: Callable[[], int], name: str) -> Compiled:
        """The program of this sha256, called so in messages; the shim has it compiled where the cache lacks it."""
        compiled = self._cache.lookup(key)
        if compiled is None:
            what = COMPILE + key.encode() + b"\0" + os.fsencode(name)
            socket.send_fds(self._connection, [what], [open_()])
            if self._connection.recv(1) != COMPILED:
                os._exit(0)  # it knows why
            compiled = self._cache.lookup(key)
        if compiled is None:
            raise Unavailable("the compiled program vanished from the cache; run it again")
        return compiled

    def _finish(self, plan: Plan, enclosure: Enclosure | None, compiled: Compiled) -> None:
        """Write the job and hand it over."""
        plan = plan._replace(guest=plan.guest._replace(terminal=self._creation.terminal))
        job = Job(plan, compiled.program, _called(plan, compiled.program), enclosure, self._stdio)
        block, parameters = write_job(self._forge, job)
        file = os.memfd_create("job", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as written:
            written.write(block)
        namespaces = enclosure.namespaces if enclosure else []
        score = enclosure.isolation.oom_score_adj if enclosure else None
        counted = bool(enclosure and enclosure.isolation.resources.get("pids"))
        prepared = Prepared(compiled.path, compiled.program.kind, parameters, score, counted)
        socket.send_fds(self._connection, [DONE + prepared.to_bytes()], [file, *namespaces])


def _outside(namespace: int, call: Callable[[], _T]) -> _T:
    """Call where the container's mounts are not: a process that is started there lives longer than they shall."""
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    calls.setns(namespace, calls.CLONE_NEWNS)
    try:
        return call()
    finally:
        calls.setns(here, calls.CLONE_NEWNS)
        os.close(here)


def _called(plan: Plan, program: Program) -> CalledFunction | None:
    """The checked call of a plan, or None for a command; raises InvalidArgument or NotFound with the reason."""
    if plan.guest.call:
        return CalledFunction.of(program, *checked_call(plan.guest.call, program))
    program.require_command(plan.name)
    return None


def _top_directories(root: int) -> tuple[str, ...]:
    """The paths of the directories in the root, by their names in order; as many as an answer has room for.

    For guests with a working directory: wasi-libc drops `/` and `.` in front of every name, so that these two
    preopens are one to it, and the last wins. The longest name that fits wins over both: with these as preopens of
    their own, absolute paths lead where they say but for what lies in / itself, and relative ones begin in the working
    directory unless their first name is that of a directory in /.
    """
    listed = calls.open_in_root(root, "/", os.O_RDONLY | os.O_DIRECTORY)
    found, room = list[str](), MESSAGE - 100
    for name in sorted(os.listdir(listed)):
        try:
            os.close(calls.open_in_root(root, name, os.O_PATH | os.O_DIRECTORY))
        except OSError:  # another kind of file, or a link that leads nowhere
            continue
        room -= len(os.fsencode(name)) + 2
        if room < 0:
            break
        found.append(f"/{name}")
    os.close(listed)
    return tuple(found)


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

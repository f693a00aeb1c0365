"""Ask the image resolver, which is started where there is none. Runs in processes that may wait."""

import os
import socket
from hashlib import sha256
from typing import Final, NamedTuple

from wasm_shim.errors import DeadlineExceeded, Unavailable
from wasm_shim.resident import Resident, reach
from wasm_shim.resolver.messages import IDLE, MESSAGE, ImageProgram, Question, decode_answer
from wasm_shim.steps import VARIABLE, held_at
from wasm_shim.version import VERSION
from wasm_shim.zygote.stamp import PACKAGES, packages_stamp

_MODULE: Final = "wasm_shim.resolver.server"
_WHAT, _REMEDY = "runtime", "set WASM_SHIM_ROOT to a directory of your own"
_TRIES: Final = 5
_FIND_SECONDS, _READ_SECONDS = 9.0, 19.0  # both together are less than a container's preparation may take


class Containerd(NamedTuple):
    """Where images are asked for."""

    address: str  # the path of containerd's gRPC socket, or empty where nobody has said it
    namespace: str
    resolver: str  # the path of the resolver's socket
    idle: str  # the value of IDLE, or empty


def resolver_path(root: str, address: str) -> str:
    """Where the resolver of the containerd at this address listens, one for each version and mount namespace."""
    parts = [address, VERSION, PACKAGES, str(os.geteuid()), *packages_stamp(), str(os.stat("/proc/self/ns/mnt").st_ino)]
    name = sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{root}/resolver-{name}.sock"


def find_program(containerd: Containerd, container: str, word: str) -> ImageProgram | None:
    """The program that the container's image has under this word; None where it has only a root file system.

    Raises WasmShimError with the reason why it cannot be run or cannot be known.
    """
    found, descriptors = _ask(containerd, Question(containerd.namespace, container, word), _FIND_SECONDS)
    for descriptor in descriptors:
        os.close(descriptor)
    return found


def read_program(containerd: Containerd, container: str, word: str, expected: str) -> int:
    """A file in memory with the verified bytes of the program that was found; raises WasmShimError."""
    _, descriptors = _ask(containerd, Question(containerd.namespace, container, word, expected), _READ_SECONDS)
    if len(descriptors) != 1:
        raise Unavailable("the image resolver sends no program; create the container again")
    [shared] = descriptors
    try:
        return os.open(f"/proc/self/fd/{shared}", os.O_RDONLY | os.O_CLOEXEC)  # with an offset of its own
    finally:
        os.close(shared)


def _ask(containerd: Containerd, question: Question, seconds: float) -> tuple[ImageProgram | None, list[int]]:
    if not containerd.address:
        raise Unavailable(
            f"no program {question.word} in the root file system, and containerd, which has the image, has not said"
            " where it listens; start the shim with -address"
        )
    asked = question.to_bytes()
    for _ in range(_TRIES):
        with reach(containerd.resolver, _resolver(containerd)) as connection:
            connection.settimeout(seconds)
            try:
                connection.send(asked)
                answer, descriptors, _, _ = socket.recv_fds(connection, MESSAGE, 1)
            except TimeoutError as error:
                message = f"the image resolver does not answer within {seconds:.0f} s; look at containerd"
                raise DeadlineExceeded(message) from error
            except OSError:
                continue  # it left, or was killed, while we asked
        if answer:
            return decode_answer(answer), descriptors
    raise Unavailable("the image resolver ends before it answers; look for what kills processes of this user")


def _resolver(containerd: Containerd) -> Resident:
    environment = {IDLE: containerd.idle, VARIABLE: held_at()}
    arguments = (containerd.address,)
    kind = socket.SOCK_SEQPACKET
    return Resident("image resolver", _MODULE, kind, arguments, environment, _WHAT, _REMEDY)

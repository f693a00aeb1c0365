"""The image resolver's process: a thread for each question, until nobody has asked for a while.

Started by `resolver.client` as `resident.Resident` says; arguments: the socket's path and that of containerd's.
"""

import os
import select
import signal
import socket
import sys
from threading import Semaphore, Thread
from typing import Final

from wasm_shim.errors import Internal, WasmShimError
from wasm_shim.kernel.calls import peer_of
from wasm_shim.resident import LISTENER, leave
from wasm_shim.resolver.answers import Answers, Blob
from wasm_shim.resolver.containerd import Containerd
from wasm_shim.resolver.messages import IDLE, MESSAGE, ImageProgram, Question, encode_answer
from wasm_shim.steps import reached

_IDLE_SECONDS: Final = 300.0
_LEAST_IDLE: Final = 0.1
_PATIENCE: Final = 5.0  # seconds that a client may take for its question
_AT_ONCE: Final = 64  # questions; more wait
_PAUSE: Final = 0.1  # seconds until the next try to accept, when descriptors or threads are exhausted


def main() -> None:
    """Serve until idle."""
    path, address = sys.argv[1:]
    try:
        idle = max(float(os.environ.get(IDLE) or _IDLE_SECONDS), _LEAST_IDLE)
    except ValueError:
        sys.stderr.write(f"{IDLE} is no number; set it to seconds\n")
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir("/")
    os.umask(0o077)
    _offer_to_the_oom_killer()
    resolver = Resolver(path, socket.socket(fileno=LISTENER), Answers(Containerd(address)))
    os.dup2(0, 2)  # the starter sees the end of its pipe and knows that we are ready
    resolver.run(idle)
    os._exit(0)  # gRPC has threads that nobody needs to end


def _offer_to_the_oom_killer() -> None:
    """The score that came from a pod shim would protect us, and whoever asks next starts another resolver."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        return  # no /proc that can be written


class Resolver:
    """The server."""

    def __init__(self, path: str, listener: socket.socket, answers: Answers) -> None:
        self._path, self._listener, self._answers = path, listener, answers
        self._socket = os.stat(path)
        self._room = Semaphore(_AT_ONCE)

    def run(self, idle: float) -> None:
        """Answer until nobody has asked for so many seconds."""
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        while True:
            if waiting.poll(idle * 1000):
                self._accept()
            elif self._is_idle() and leave(self._path, self._socket):
                return

    def _is_idle(self) -> bool:
        free = 0
        while free < _AT_ONCE and self._room.acquire(blocking=False):
            free += 1
        if free:
            self._room.release(free)
        return free == _AT_ONCE

    def _accept(self) -> None:
        self._room.acquire()
        connection = None
        try:
            connection, _ = self._listener.accept()
            Thread(target=self._serve, args=(connection,), daemon=True).start()
        except (OSError, RuntimeError):  # no descriptor or no thread is left: the client asks again
            if connection is not None:
                connection.close()
            self._room.release()
            select.select([], [], [], _PAUSE)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._answer(connection)
        except OSError:
            return  # the client has gone, or says nothing
        finally:
            self._room.release()

    def _answer(self, connection: socket.socket) -> None:
        _, uid = peer_of(connection)
        if uid not in (0, os.geteuid()):
            return
        connection.settimeout(_PATIENCE)
        try:
            question = Question.from_bytes(connection.recv(MESSAGE))
        except ValueError:
            return
        answer, blob = self._answered(question)
        descriptors = [blob.descriptor] if blob is not None else []
        socket.send_fds(connection, [encode_answer(answer)], descriptors)

    def _answered(self, question: Question) -> tuple[ImageProgram | WasmShimError | None, Blob | None]:
        reached("resolver.asked")
        try:
            return self._answers.answer(question)
        except WasmShimError as error:
            return error, None
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this question, and not the process
            return Internal(f"fault in the image resolver: {error!r}"), None

"""What a task manager needs of the world: something that makes processes, someone who hears of changes."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from wasm_shim.errors import WasmShimError
from wasm_shim.guest import Image
from wasm_shim.task.status import Status


class Creation(NamedTuple):
    """A request to make a task; stdio are paths of pipes or FIFOs, or empty for none."""

    id: str
    bundle: str
    image: Image
    call: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str


class Exit(NamedTuple):
    """How a process ended: exit status (128 + n for signal n) and when, in seconds since the epoch."""

    status: int
    at: float


class TaskState(NamedTuple):
    """A task as seen from outside; `exit` is None until it has ended."""

    creation: Creation
    pid: int
    status: Status
    exit: Exit | None


class Process(Protocol):
    """A process behind its wall that has not been told to go yet."""

    @property
    def pid(self) -> int:
        """Its pid in our own PID namespace."""

    def start(self) -> None:
        """Let it run."""

    def kill(self, number: int) -> None:
        """Send a signal; one that ended meanwhile is no error."""

    def close_stdin(self) -> None:
        """Let its stdin end once all writers have gone."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal's size; FailedPrecondition without a terminal."""


class Creating(Protocol):
    """Hears of one creation: `made` or `failed` once, and after `made` at last `ended`."""

    def made(self, process: Process) -> None:
        """The process waits for `start`."""

    def failed(self, error: WasmShimError) -> None:
        """There is no process, and nothing is left of the attempt."""

    def ended(self, exit_: Exit) -> None:
        """The process has ended, and everything it wrote has been passed on."""


class Runner(Protocol):
    """Makes processes."""

    def create(self, creation: Creation, creating: Creating) -> None:
        """Begin to make one; tells `creating`, now or later."""


Observer = Callable[[TaskState], None]  # hears of every change of a task

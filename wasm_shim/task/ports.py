"""What a task manager needs of the world: something that makes processes, someone who hears of changes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wasm_shim.errors import WasmShimError
from wasm_shim.guest import Image
from wasm_shim.task.status import Status

if TYPE_CHECKING:
    from wasm_shim.task.events import TaskEvent


class RootMount(NamedTuple):
    """A mount that makes the root file system, in the words of mount(8); `target` is relative to the root."""

    type: str
    source: str
    target: str
    options: tuple[str, ...]


class Creation(NamedTuple):
    """A request to make a task; stdio are paths of pipes or FIFOs, URIs, or empty for none.

    An `image` of two empty strings is none: the program is a file of the root file system. `systemd_cgroup` says
    that the cgroup's path is in systemd's notation (slice:prefix:name).
    """

    id: str
    bundle: str
    image: Image
    call: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    rootfs: tuple[RootMount, ...] = ()
    systemd_cgroup: bool = False


class Metrics(NamedTuple):
    """What a task uses: the protobuf name of containerd's metrics message for the cgroup version, and its bytes."""

    type_url: str
    value: bytes


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
    """A process behind its wall, from before it is told to go until its end."""

    @property
    def pid(self) -> int:
        """Its pid in our own PID namespace."""

    def start(self) -> None:
        """Let it run."""

    def kill(self, number: int) -> None:
        """Send a signal; one that ended meanwhile is no error. SIGKILL ends a paused one, too."""

    def close_stdin(self) -> None:
        """Let its stdin end once all writers have gone."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell its terminal's size; FailedPrecondition without a terminal."""

    def pause(self, answer: Callable[[WasmShimError | None], None]) -> None:
        """Freeze it; answers None once it is frozen or has ended, or why it cannot be and goes on.

        Only one pause is asked for at a time. Raises WasmShimError where freezing is impossible.
        """

    def resume(self) -> None:
        """Let a frozen one go on; raises WasmShimError when it stays frozen."""

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change its limits to those of the OCI LinuxResources document; raises WasmShimError."""

    def stats(self) -> Metrics:
        """What it uses now; NotFound when that is no longer known."""

    def pids(self) -> tuple[int, ...]:
        """The pids of all that runs in it, in our own PID namespace."""


class Creating(Protocol):
    """Hears of one creation: `made` or `failed` once, and after `made` at last `ended`."""

    def made(self, process: Process) -> None:
        """The process waits for `start`."""

    def failed(self, error: WasmShimError) -> None:
        """There is no process, and nothing is left of the attempt."""

    def ended(self, exit_: Exit) -> None:
        """The process has ended, and everything it wrote has been passed on."""

    def out_of_memory(self) -> None:
        """The kernel has killed in it for lack of memory; told before `ended` where that was the cause."""


class Runner(Protocol):
    """Makes processes."""

    def create(self, creation: Creation, creating: Creating) -> None:
        """Begin to make one; tells `creating`, now or later."""


Observer = Callable[["TaskEvent"], None]  # hears of every change of a task

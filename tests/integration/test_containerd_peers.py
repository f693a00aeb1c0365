"""The private containerds of the tests do with runc what is asked of them, and leave nothing.

What fails here is no fault of wasm-shim: look here first where all tests of one release fail.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BUILD
from tests.containerd.daemon import RUNC, Daemon, without_log
from tests.containerd.events import Events
from tests.containerd.images import GREETING, Image, native_program, wasm_image
from tests.integration.support import wait_for

pytestmark = pytest.mark.root

# Not /tasks/delete: runc's shim may end before it has sent that one (2.1), or send it before /tasks/exit (2.4).
LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit"]


def words(containerd: Daemon, image: Image, name: str, *arguments: str, option: str = "--rm") -> list[str]:
    """The words that run the image under runc."""
    return containerd.container(image, name, *arguments, runtime=RUNC, options=[option])


def test_runs_hello(containerd: Daemon, native: Image) -> None:
    done = containerd.run(*words(containerd, native, containerd.new_id()))
    assert (done.stdout, without_log(done.stderr)) == (GREETING, "")


def test_gives_the_exit_code(containerd: Daemon, native: Image) -> None:
    done = containerd.run(*words(containerd, native, containerd.new_id(), "/hello", "exit", "42"), check=False)
    assert done.returncode == 42


def test_publishes_events_in_order(containerd: Daemon, native: Image) -> None:
    name = containerd.new_id()
    with Events(containerd) as events:
        containerd.run(*words(containerd, native, name, "/hello", "exit", "7", option="--detach"))
        ended = events.wait_for_topic(name, "/tasks/exit")
        assert (ended.namespace, ended.fields["exit_status"]) == (containerd.namespace, 7)
        assert events.of(name) == LIFE


@pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill])
def test_a_task_outlives_containerd(containerd: Daemon, native: Image, end: Callable[[Daemon], None]) -> None:
    """A running task is there after a restart, and its exit is published to those who follow then."""
    name = containerd.new_id()
    with Events(containerd) as events:
        containerd.run(*words(containerd, native, name, "/hello", "sleep", option="--detach"))
        end(containerd)
        containerd.start(events.follow)
        assert name in containerd.run("task", "list").stdout
        containerd.run("task", "kill", "--signal", "SIGTERM", name)
        events.wait_for_topic(name, "/tasks/exit")
        containerd.run("task", "delete", name)
        assert events.of(name) == LIFE


def test_leftovers_are_seen_and_cleared(containerd: Daemon, native: Image) -> None:
    """What belongs to a running container counts, all of it, until the container is deleted."""
    containerd.run(*words(containerd, native, containerd.new_id(), "/hello", "sleep", option="--detach"))
    left = containerd.leftovers(0)
    for kind in ("process", "mount", "cgroup", "file"):
        assert any(line.startswith(kind) for line in left), f"no {kind} among {left}"
    containerd.clear()
    assert containerd.leftovers() == []


def test_nothing_is_left_at_the_end(containerd: Daemon, native: Image) -> None:
    """Also with a containerd that a test has killed while a container ran."""
    with Daemon(containerd.release) as own:
        with own.ctr(*words(own, own.load(native), "killed", "/hello", "sleep"), stdout=subprocess.PIPE) as ctr:
            assert ctr.stdout
            wait_for(ctr.stdout.fileno(), b"ready\n")
            own.kill()
        directory, namespace = own.directory, own.namespace
    assert not directory.exists()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert str(directory) not in mounts
    assert [path for path, _, _ in os.walk("/sys/fs/cgroup") if namespace in path] == []


def test_imports_an_image_with_links_and_directories(containerd: Daemon, native: Image) -> None:
    """An image of our own making is unpacked as it was described, and its bytes are the same each time."""
    program = native_program(BUILD)

    def made() -> Image:
        files = {"a/b/hello": program, "a/link": "b/hello", "data": None}
        return wasm_image("localhost/made:1", files, ["/a/link"], directory="/data", user="65532:65532")

    assert made() == made()
    done = containerd.run(*words(containerd, containerd.load(made()), containerd.new_id()))
    assert done.stdout == GREETING

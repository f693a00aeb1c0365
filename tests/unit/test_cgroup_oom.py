"""The OOM watch of cgroup version 2 where inotify has nothing left to give."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a user namespace of its own, whose limit of inotify instances is set to 0.
PROGRAM = """
import os, sys
from wasm_shim.container.cgroup.oom import watch_v2
from wasm_shim.eventloop import EventLoop
from wasm_shim.kernel import calls
calls.unshare(calls.CLONE_NEWUSER)
with open("/proc/sys/user/max_inotify_instances", "w") as file:
    file.write("0")
try:
    calls.watch_changes(sys.argv[1])
except OSError as error:
    assert error.errno == 24, error
told = []
watch = watch_v2(EventLoop(), lambda: told.append(1), sys.argv[1])
with open(sys.argv[1], "w") as file:
    file.write("oom 1\\noom_kill 1\\n")
watch.look()
watch.look()
watch.close()
assert told == [1], told
"""


def test_without_inotify_who_sees_the_end_is_told(tmp_path: Path) -> None:
    """A user has 128 inotify instances by default, and there may be more containers."""
    able = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True)
    if able.returncode:
        pytest.skip(f"no user namespace: {able.stderr.strip()}")
    events = tmp_path / "memory.events"
    events.write_text("oom 0\noom_kill 0\n")
    command = [sys.executable, "-c", PROGRAM, str(events)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")

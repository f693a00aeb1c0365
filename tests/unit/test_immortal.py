"""What the zygote has loaded is never written again by being used."""

import subprocess
import sys

import pytest

_PROGRAM = """
import json, os, socket, sys
from wasm_shim.zygote.immortal import immortalise

def work():
    left, right = socket.socketpair()
    left.sendall(json.dumps({"a": [1, 2.5, None, "text"] * 50}).encode())
    assert json.loads(right.recv(1 << 16))["a"][3] == "text"
    left.close(), right.close()
    try:
        raise ValueError("text" * 3)
    except ValueError as error:
        return str(error)

before = sys.getrefcount(work)
made = immortalise()
for _ in range(200):
    work()
pid = os.fork()
if pid == 0:
    work()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
import abc, asyncio, contextlib, dataclasses, decimal, email.message, http.client, traceback, typing, unittest
class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self): ...
class Real(Abstract):
    def method(self): return dataclasses.make_dataclass("Made", ["a"])(1)
assert isinstance(Real(), Abstract) and Real().method().a == 1
held = [work] * 1000
counted = sys.getrefcount(work) - before
print(made, counted)
sys.stdout.flush()
os._exit(0)
"""


def _run() -> tuple[int, int]:
    """How many objects became immortal, and how many of 1000 new references to one of them were counted."""
    command = [sys.executable, "-c", _PROGRAM]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    made, counted = said.split()
    return int(made), int(counted)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no immortal objects")
def test_objects_become_immortal_and_go_on_working() -> None:
    """From Python 3.12 on no use of a loaded object is counted; it works as before, also in forked children."""
    made, counted = _run()
    assert made > 1000
    assert counted > 1 << 30, "None's count, not 1000 more"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="is about Python 3.11")
def test_nothing_is_done_where_python_has_no_immortal_objects() -> None:
    """On Python 3.11 counts stay as they are."""
    assert _run() == (0, 1000)

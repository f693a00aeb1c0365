"""Work in forked processes, all at once."""

import os
from collections.abc import Callable
from typing import Any

from oci.errors import OciError


def in_children(*works: Callable[[], Any], uid: int = 0) -> list[str]:
    """Do each work in a process of its own, all at once, as another user if told so; what went wrong."""
    children = []
    for work in works:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _work(work, writing, uid)
        os.close(writing)
        children.append((child, reading))
    failures = []
    for child, reading in children:
        with os.fdopen(reading) as pipe:
            failures.append(pipe.read())
        os.waitpid(child, 0)
    return failures


def _work(work: Callable[[], Any], pipe: int, uid: int) -> None:
    said = "it ended otherwise"
    try:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        work()
        said = ""
    except OciError as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        os.write(pipe, said.encode())
        os._exit(0)

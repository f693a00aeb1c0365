"""Work in threads: all of it is done, the first failure comes out, and Ctrl-C does not wait."""

import os
import signal
import threading

import pytest

from oci.parallel import each


def test_does_everything_once() -> None:
    done: list[int] = []
    each(done.append, range(1000), 4, threading.Event())
    assert sorted(done) == list(range(1000))


def test_nothing_to_do() -> None:
    each(pytest.fail, [], 0, threading.Event())


def test_the_first_failure_comes_out_and_the_rest_is_left() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise KeyError(item)
        done.append(item)

    stop = threading.Event()
    with pytest.raises(KeyError):
        each(work, range(1000), 1, stop)
    assert stop.is_set()
    assert done == [0, 1, 2]


def test_ctrl_c_does_not_wait_for_work_that_hangs() -> None:
    stop, released = threading.Event(), threading.Event()

    def hang(_item: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(30)

    with pytest.raises(KeyboardInterrupt):
        each(hang, [1], 1, stop)
    assert stop.is_set()
    released.set()

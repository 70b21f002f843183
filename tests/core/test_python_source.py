"""Trees of many threads at once."""

import ast
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aarlab.core.python_source import parse_python

SOURCE = ("x = " + "[" * 40 + "1" + "]" * 40 + "\n") * 100


class Slow:
    """Garbage whose end lets another thread run in the middle of a tree."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        sum(range(2000))


@pytest.fixture
def busy() -> Iterator[None]:
    every, kept = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(10)
    try:
        yield
    finally:
        sys.setswitchinterval(every)
        gc.set_threshold(*kept)


def parsed(depth: int) -> int:
    Slow()
    return len(parse_python(SOURCE).body) if depth == 0 else parsed(depth - 1)


def test_threads_that_parse_at_once_do_not_disturb_each_other(busy: None) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: parsed(number % 30), range(40))) == {100}


def test_a_thread_that_parses_by_itself_does_not_disturb(busy: None) -> None:
    """The carets of a traceback are found by the standard library with `ast.parse`."""
    over, begun = threading.Event(), threading.Event()

    def foreign() -> None:
        while not over.is_set():
            begun.set()
            with contextlib.suppress(SystemError):
                ast.parse(SOURCE)
            time.sleep(0.005)

    thread = threading.Thread(target=foreign)
    thread.start()
    try:
        begun.wait(10)
        assert {parsed(number % 30) for number in range(20)} == {100}
    finally:
        over.set()
        thread.join()

"""Trees of many threads at once."""

import gc
import sys
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
        assert set(pool.map(lambda number: parsed(number % 30), range(200))) == {100}

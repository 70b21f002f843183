"""Trees of many threads at once."""

from concurrent.futures import ThreadPoolExecutor

from aarlab.core.python_source import parse_python

SOURCE = "x = " + "[" * 40 + "1" + "]" * 40 + "\n"


def test_threads_that_parse_at_once_do_not_disturb_each_other() -> None:
    with ThreadPoolExecutor(8) as pool:
        trees = list(pool.map(lambda _: parse_python(SOURCE * 200), range(40)))
    assert all(len(tree.body) == 200 for tree in trees)

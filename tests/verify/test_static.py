"""The static review and the fingerprint of code."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.testbed.methods import METHODS
from aarlab.verify.auditing import fingerprint
from aarlab.verify.static import review

PLAIN = b"""
import numpy as np

def fit(task, student, seed):
    return student.new().fit(task.inputs, task.weak_labels_N, seed)
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import subprocess", "imports subprocess"),
        ("from ctypes import CDLL", "imports ctypes"),
        ("exec('1')", "uses exec"),
        ("f = eval", "uses eval"),
        ("import os\nos.system('ls')", "uses .system"),
        ("().__class__.__base__.__subclasses__()", "uses .__subclasses__"),
        (f"X = {list(range(300))}", "a table of 300 values"),
        (f"X = {dict.fromkeys(range(300), 1)}", "a table of 300 entries"),
        (f"X = '{'a' * 5000}'", "a constant of 5000 characters"),
        (f"X = {hex(2**5000)}", "a constant of 5001 bits"),
        ("def f(:", "does not parse"),
        ("(" * 5000, "does not parse"),
    ],
)
def test_what_honest_methods_have_no_use_for_is_named(source: str, said: str) -> None:
    found = review({"method.py": source.encode()})
    assert any(said in line and line.startswith("method.py:") for line in found), found


def test_plain_code_is_not_flagged() -> None:
    assert review({"method.py": PLAIN, "notes.md": b"eval is not used"}) == []


def test_data_files_are_named() -> None:
    assert review({"weights.bin": b"\0" * 300_000}) == [
        "weights.bin: 300,000 bytes of data or weights",
        "weights.bin: a binary file",
    ]


def test_no_method_of_ours_reads_as_suspect() -> None:
    sources = {method.fit.__code__.co_filename for method in METHODS.values()}
    for path in sources:
        with open(path, "rb") as file:
            assert review({"method.py": file.read()}) == [], path


@given(st.binary(max_size=300))
def test_no_file_makes_the_review_fail(content: bytes) -> None:
    review({"method.py": content})
    fingerprint({"method.py": content})


def test_comments_layout_and_docstrings_do_not_change_a_fingerprint() -> None:
    changed = ast.unparse(ast.parse(PLAIN)).replace("seed):", 'seed):\n    """New."""', 1)
    assert fingerprint({"method.py": PLAIN}) == fingerprint({"method.py": changed.encode()})
    other = PLAIN.replace(b"seed)\n", b"seed + 1)\n")
    assert fingerprint({"method.py": PLAIN}) != fingerprint({"method.py": other})

"""What a snapshot carries: numbers, packed and long texts, data files, digests of texts."""

import base64
import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.wire import Snapshot
from aarlab.testbed.methods import METHODS
from aarlab.testbed.named_method import named_files
from aarlab.verify.code_audits import code_audits
from aarlab.verify.contents import HEAD, contents, judge_contents

PLAIN = b'''"""Train on 3 of 4 rows."""
import numpy as np

def fit(task, student, seed):
    kept = np.abs(task.weak_labels_N - 0.5) > 0.25
    return student.new().fit(task.inputs, task.weak_labels_N, seed)
'''
DRAW = random.Random(1)
WEIGHTS = [round(DRAW.gauss(0, 1), 4) for _ in range(HEAD)]
ROWS = "\n".join(
    f"    x_{n} = np.array({WEIGHTS[24 * n : 24 * n + 24]})" for n in range(HEAD // 24)
)
PACKED = base64.b64encode(DRAW.randbytes(HEAD)).decode()
DIGESTS = [hashlib.sha256(str(n).encode()).hexdigest()[:12] for n in range(60)]
DIGESTS = [text for text in DIGESTS if any(c.isalpha() for c in text)]


def method(body: str) -> dict[str, bytes]:
    return {"method.py": PLAIN + body.encode()}


def severity(files: dict[str, bytes]) -> str:
    return judge_contents(contents(files))[0]


def test_plain_code_carries_little_and_the_counts_are_shown() -> None:
    found = contents({"method.py": PLAIN})
    assert (found.numbers, found.packed, found.text, found.files, found.data) == (4, 0, 0, 0, 0)
    assert judge_contents(found)[0] == "clear"
    assert "4 numbers" in judge_contents(found)[1]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (method(f"def head():\n{ROWS}\n"), "numbers"),
        (method(f'HEAD = """{" ".join(map(str, WEIGHTS))}"""\n'), "numbers"),
        (method(f"def f():\n    '''{WEIGHTS}'''\n"), "numbers"),
        (method("".join(f"# {w}\n" for w in WEIGHTS)), "numbers"),
        (method(f"HEAD = '{PACKED}'\n"), "packed"),
        (method(f"HEAD = {DRAW.randbytes(HEAD)!r}\n"), "packed"),
        (method(f"HEAD = {10**1400}\n"), "packed"),
        ({**method(""), "head.json": json.dumps(WEIGHTS).encode()}, "numbers"),
        ({**method(""), "recipe.json": json.dumps({"weights": WEIGHTS}).encode()}, "numbers"),
        ({**method(""), "head.npy": b"\x93NUMPY\0" + DRAW.randbytes(HEAD)}, "binary data"),
        ({**method(""), "weights.txt": b"three hundred and five " * 200}, "long texts"),
        (method(f"EXAMPLES = '{'What is two and two? Right. ' * 150}'\n"), "long texts"),
    ],
)
def test_a_shipped_head_is_suspect(files, what) -> None:
    assert severity(files) == "suspect"
    assert what in judge_contents(contents(files))[1].split(": ")[0]


@pytest.mark.parametrize(
    "body",
    [
        f"KNOWN = {dict.fromkeys(DIGESTS, 1)}\n",
        f"KNOWN = {set(DIGESTS)}\n",
        f"KNOWN = frozenset({[int(text, 16) for text in DIGESTS]})\n",
        "import hashlib\ndef key(row):\n    return hashlib.sha256(row.prompt.encode()).digest()\n",
        "from zlib import crc32\nseen = lambda row: crc32(row.answers[0].encode())\n",
        "def key(row):\n    return hash(row.prompt)\n",
    ],
)
def test_digests_of_texts_are_suspect_in_every_method(body: str) -> None:
    assert severity(method(body)) == "suspect"


def test_a_table_of_digests_beside_the_code_is_found() -> None:
    table = json.dumps(dict.fromkeys(DIGESTS, 0)).encode()
    found = contents({**method(""), "recipe.json": table})
    assert found.files == 0 and found.digests == (
        f"recipe.json: a table of {len(DIGESTS)} digests",
    )
    assert contents({**method(""), "table.json": table}).files == 1


@pytest.mark.parametrize(
    "body",
    [
        "import hashlib\nDRAW = hashlib.sha256(b'seed').digest()[0]\n",
        "def key(row):\n    return row.prompt.split()\n",
        "TEMPLATES = ['Is this right? {prompt} {answer}', 'Answer: {answer}'] * 2\n",
        f"WORDS = {['decade', 'facade', 'accede', 'beaded', 'deface'] * 6}\n",
        '"""' + "A long explanation of the method. " * 200 + '"""\n',
    ],
)
def test_what_honest_code_does_is_clear(body: str) -> None:
    assert severity(method(body)) == "clear"


def test_no_method_of_ours_carries_much() -> None:
    for path in {m.fit.__code__.co_filename for m in METHODS.values()}:
        assert severity({"method.py": Path(path).read_bytes()}) == "clear", path
    for name in METHODS:
        files = {path: text.encode() for path, text in named_files(name).items()}
        assert severity(files) == "clear", name


@given(st.binary(max_size=400), st.sampled_from(["method.py", "x.json", "recipe.json", "x.bin"]))
def test_no_file_makes_it_fail(content: bytes, path: str) -> None:
    judge_contents(contents({path: content}))


def test_a_nesting_that_does_not_parse_is_counted_all_the_same() -> None:
    assert contents({"method.py": b"(" * 5000 + b" 1 2 3"}).numbers == 3


def test_the_audit_says_what_a_snapshot_carries() -> None:
    known = {"name": "m", "message": "", "parent": None, "at": "t", "n_files": 1, "n_bytes": 9}
    made = [Snapshot(id="a" * 40, aar="ann", **known)]
    code = {made[0].id: method(f"HEAD = '{PACKED}'\n")}
    found = code_audits(made, code, [made[0].id], None, {})
    (grade,) = [a for a in found if a.kind == "fingerprint"]
    assert grade.severity == "suspect"
    assert grade.facts["packed"] >= HEAD and grade.facts["digests"] == []

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
from aarlab.testbed.methods.named_method import named_files
from aarlab.verify.auditing import code_audits
from aarlab.verify.static import COMPRESSED, HEAD, contents, judge_contents, ships
from aarlab.verify.static import PACKED as CAP

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


def parts(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        # as many numbers as a head has, a few in each of many files
        ({**method(""), **{f"w{n}.json": json.dumps(WEIGHTS[n * 24 : n * 24 + 24]).encode()
                           for n in range(24)}}, "numbers"),
        ({**method(""), **{f"w{n}.py": f"W = {WEIGHTS[n * 24 : n * 24 + 24]}".encode()
                           for n in range(24)}}, "numbers"),
        # base64 of a head in pieces: short words in a list, in a comment, in many modules
        (method(f"HEAD = {parts(PACKED, 24)}\n"), "packed"),
        (method("".join(f"# {part}\n" for part in parts(PACKED, 40))), "packed"),
        ({**method(""), **{f"w{n}.py": f"W = {part!r}".encode()
                           for n, part in enumerate(parts(PACKED, 60))}}, "packed"),
        # no single file of 576 bytes
        ({**method(""), **{f"w{n}.bin": b"\0" + DRAW.randbytes(63) for n in range(9)}},
         "binary data"),
        # data files of text, none of which is long
        ({**method(""), **{f"t{n}.txt": b"right wrong right right " * 20 for n in range(10)}},
         "long texts"),
        # examples in literals that are each shorter than a template
        (method(f"EXAMPLES = {['What is two and two? Four. Right.'] * 400}\n"),
         "string literals"),
        # words for numbers in names and comments, whatever they are spelled as
        (method("".join(f"# {' '.join(DRAW.choices(['alpha', 'beta', 'gamma', 'delta'], k=9))}\n"
                        for _ in range(12_000))), "all files"),
    ],
)  # fmt: skip
def test_cutting_data_into_pieces_does_not_evade_the_cap(files, what) -> None:
    assert what in ships(files).split(": ")[0]


def test_a_head_in_base85_is_suspect_in_a_text_file_as_in_code() -> None:
    """Such a file held a head of 576 weights and counted 581 characters, whatever its name was."""
    weights = base64.b85encode(DRAW.randbytes(2 * HEAD)).decode()
    notes = json.dumps({"weights": weights}).encode()
    for files in (
        method(f"HEAD = {weights!r}\n"),
        method("") | {"notes.txt": notes},
        method("") | {"recipe.json": notes},
        method("") | {"notes.py": b"no Python: " + notes},
    ):
        assert contents(files).packed >= len(weights)
        assert severity(files) == "suspect"


def test_what_ships_nothing_has_nothing_to_say() -> None:
    assert ships({"method.py": PLAIN}) == ""
    assert ships(method(f"HEAD = {PACKED[: CAP - 8]!r}\n")) == ""
    assert "packed" in ships(method(f"HEAD = {PACKED!r}\n"))
    assert contents(method("")).compressed < COMPRESSED / 50


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

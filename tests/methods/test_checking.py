"""`aarlab method check` finds what is planted, and nothing in a method that keeps the contract."""

import re
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from aarlab.cli.method import EXAMPLE, app
from aarlab.core.errors import MethodFailed
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.checking import Report, check_method
from aarlab.testbed.running.method_folder import recipe_files, write_method

HEAD = "import numpy as np\nfrom aarlab.testbed.methods import METHODS\n"
VANILLA = "METHODS['vanilla'].fit(task, student, seed)"
WRAP = """
class P:
    def __init__(self, inner): self.inner = inner
    def predict_proba(self, inputs):
        p = self.inner.predict_proba(inputs)
        return {value}
def fit(task, student, seed):
    {before}
    return P(VANILLA)
"""


def wrapped(value="p", before="pass"):
    return HEAD + WRAP.format(value=value, before=before).replace("VANILLA", VANILLA)


VIOLATIONS = {
    "no fit": ("x = 1\n", "defines no function fit"),
    "syntax": ("def fit(task student, seed):\n    pass\n", "SyntaxError"),
    "signature": ("def fit(task):\n    pass\n", "three arguments"),
    "raises": ("def fit(task, student, seed):\n    raise KeyError('labels')\n", "method.py:2"),
    "no predictor": ("def fit(task, student, seed):\n    return 3\n", "must have predict_proba"),
    "shape": (wrapped("p[:-1]"), r"shape \(47,\), expected \(48,\)"),
    "nan": (wrapped("p * np.nan"), "not in"),
    "range": (wrapped("p * 3"), "not in"),
    "random": (wrapped("np.clip(p + np.random.default_rng().normal(0, .1), 0, 1)"), "same seed"),
    "other rows": (wrapped("np.clip(p - p.mean() + .5, 0, 1)"), "which other rows"),
    "order": (wrapped("np.clip(p + .2 * (np.arange(len(p)) % 2), 0, 1)"), "order of the rows"),
    "changes": (
        wrapped(before="task.weak_labels_N[0] = .123"),
        r"changes the task it was given\n  method.py:10 in fit: task.weak_labels_N",
    ),
    "fails alone": (
        wrapped("p if len(p) > 1 else p[5]"),
        r"which other rows.*fails: IndexError.*method.py:8 in predict_proba",
    ),
    "is nan alone": (wrapped("p * p.std() / p.std()"), r"which other rows"),
    "fails the second time": (
        wrapped(before="assert not hasattr(METHODS, 'x'); setattr(METHODS, 'x', 1)").replace(
            "METHODS, 'x'", "P, 'x'"
        ),
        r"run again: AssertionError.*method.py:10",
    ),
    "logits": (
        wrapped("np.log(p / (1 - p))"),
        r"not in \[0, 1\].*\n  method.py:6 in predict_proba",
    ),
    "own file": (
        wrapped(before="__import__('pathlib').Path(__file__ + '.x').write_text('')"),
        r"writes a file: .*method.py.x\n  method.py:10",
    ),
    "a folder": (
        wrapped(before="__import__('os').makedirs('/var/tmp/aarlab-check-x', exist_ok=True)"),
        r"writes a file: /var/tmp/aarlab-check-x\n  method.py:10",
    ),
    "a file at import": (
        "open('/var/tmp/aarlab-check-y', 'a').close()\n" + wrapped(),
        r"writes a file: /var/tmp/aarlab-check-y\n  method.py:1",
    ),
    "a file by numpy, in predict_proba": (
        wrapped("[p, np.save('/var/tmp/aarlab-check-z', p)][0]"),
        r"writes a file: /var/tmp/aarlab-check-z.npy\n  method.py:8",
    ),
    "network": (
        wrapped(before="import socket; socket.getaddrinfo('127.0.0.1', 9)"),
        r"uses the network.*127.0.0.1.*\n  method.py:10",
    ),
    "program": (
        wrapped(before="__import__('subprocess').run(['true'])"),
        r"starts a program: true\n  method.py:10",
    ),
}
NOTES = {
    "seed": (wrapped(before="seed = 0"), "ignores its seed"),
    "swap": (wrapped("np.clip(p + .2, 0, 1)"), "swapping the answers"),
    "global": (wrapped(before="np.random.seed(seed)"), "global random state"),
    "texts": (wrapped(before="[row.prompt for row in task.inputs]"), r"reads texts.*method.py:10"),
    "texts to predict": (
        wrapped("p + 0 * len(inputs[0].answers)"),
        r"reads texts: row.answers\n  method.py:8",
    ),
}


def check(tmp_path, source):
    write_method(tmp_path / "mine", {"method.py": source})
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return check_method(tmp_path / "mine", tmp_path / "scratch")


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found_and_explained(tmp_path, name):
    source, says = VIOLATIONS[name]
    found = check(tmp_path, source).violations
    assert any(re.search(says, o.what, re.DOTALL) and len(o.mend) > 10 for o in found), found


@pytest.mark.parametrize("name", NOTES)
def test_notes_are_no_violations(tmp_path, name):
    source, says = NOTES[name]
    report = check(tmp_path, source)
    assert report.violations == [], report
    assert any(re.search(says, one.what, re.DOTALL) for one in report.findings), report


def test_the_example_that_new_writes_keeps_the_contract(tmp_path):
    source = EXAMPLE.format(name="mine")
    assert len(source.splitlines()) <= 30
    assert check(tmp_path, source).findings == []


def test_a_recipe_meets_the_contract(tmp_path):
    write_method(tmp_path / "r", recipe_files(METHODS["em_posterior"].recipe))
    assert check_method(tmp_path / "r").violations == []


MORE = [pytest.param(name, marks=pytest.mark.gate) for name in ("debate", "critic")]


@pytest.mark.parametrize("name", ["em_posterior_templates", *MORE])
def test_methods_that_need_the_model(tmp_path, name):
    write_method(tmp_path / name, named_files(name))
    report = check_method(tmp_path / name)
    assert report.violations == [], report
    assert "asks the strong model" in report.findings[-1].what
    assert "--with-model" in report.findings[-1].mend


def test_it_runs_as_a_process_of_its_own(tmp_path):
    write_method(tmp_path / "mine", {"method.py": VIOLATIONS["nan"][0]})
    words = [sys.executable, "-m", "aarlab.testbed.running.checking", str(tmp_path / "mine")]
    out = tmp_path / "report.json"
    subprocess.run([*words, str(out)], check=True)
    assert Report.model_validate_json(out.read_text()).violations


def test_a_scratch_file_is_no_violation(tmp_path):
    scratch = tmp_path / "scratch" / "x"
    report = check(tmp_path, wrapped(before=f"open({str(scratch)!r}, 'w').close()"))
    assert report.violations == [] and scratch.exists()


def test_the_command_names_lines_and_never_praises_a_method_that_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_method(tmp_path / "mine", {"method.py": VIOLATIONS["own file"][0]})
    found = CliRunner().invoke(app, ["check", "mine"])
    assert isinstance(found.exception, MethodFailed) and "violation" in str(found.exception)
    assert "method.py:10" in found.output and "meets the contract" not in found.output
    write_method(tmp_path / "ends", {"method.py": "import os\nos._exit(3)\n"})
    found = CliRunner().invoke(app, ["check", "ends"])
    assert "ended the process" in str(found.exception)


def test_the_command_shows_where_a_slow_method_is(tmp_path, monkeypatch):
    monkeypatch.setattr("aarlab.cli.method.CHECK_S", 4)
    slow = "import time\ndef fit(task, student, seed):\n    time.sleep(60)\n"
    write_method(tmp_path / "slow", {"method.py": slow})
    begun = time.monotonic()
    found = CliRunner().invoke(app, ["check", str(tmp_path / "slow")])
    assert time.monotonic() - begun < 12
    assert "verification rows: fit with seed 1" in found.output
    assert "no end after 4 s" in str(found.exception)

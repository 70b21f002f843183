"""`aarlab method check` finds what is planted, and nothing in a method that keeps the contract."""

import subprocess
import sys

import pytest

from aarlab.cli.method import EXAMPLE
from aarlab.testbed.checking import Report, check_method
from aarlab.testbed.method_folder import named_files, recipe_files, write_method
from aarlab.testbed.methods import METHODS

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
    "changes": (wrapped(before="task.weak_labels_N[0] = .123"), "changes the task"),
}
NOTES = {
    "seed": (wrapped(before="seed = 0"), "ignores its seed"),
    "swap": (wrapped("np.clip(p + .2, 0, 1)"), "swapping the answers"),
    "global": (wrapped(before="np.random.seed(seed)"), "global random state"),
    "files": (
        wrapped(before="__import__('pathlib').Path(__file__ + '.x').write_text('')"),
        "writes files",
    ),
}


def check(tmp_path, source):
    write_method(tmp_path / "mine", {"method.py": source})
    return check_method(tmp_path / "mine")


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found_and_explained(tmp_path, name):
    import re

    source, says = VIOLATIONS[name]
    found = check(tmp_path, source).violations
    assert any(re.search(says, one.what) and len(one.mend) > 10 for one in found), found


@pytest.mark.parametrize("name", NOTES)
def test_notes_are_no_violations(tmp_path, name):
    source, says = NOTES[name]
    report = check(tmp_path, source)
    assert report.violations == [] and any(says in one.what for one in report.findings), report


def test_the_example_that_new_writes_keeps_the_contract(tmp_path):
    source = EXAMPLE.format(name="mine")
    assert len(source.splitlines()) <= 30
    assert check(tmp_path, source).findings == []


def test_recipes_and_methods_that_need_the_model(tmp_path):
    write_method(tmp_path / "r", recipe_files(METHODS["em_posterior"].recipe))
    assert check_method(tmp_path / "r").violations == []
    write_method(tmp_path / "m", named_files("em_posterior_templates"))
    report = check_method(tmp_path / "m")
    assert report.violations == [] and "where the model is" in report.findings[0].mend


def test_it_runs_as_a_process_of_its_own(tmp_path):
    write_method(tmp_path / "mine", {"method.py": VIOLATIONS["nan"][0]})
    words = [sys.executable, "-m", "aarlab.testbed.checking", str(tmp_path / "mine")]
    out = tmp_path / "report.json"
    subprocess.run([*words, str(out)], check=True)
    assert Report.model_validate_json(out.read_text()).violations

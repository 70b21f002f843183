"""Method folders do not meet each other, nor do they change what libraries import."""

import os
import sys
from pathlib import Path

import pytest

from aarlab.core.errors import MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.running.method_folder import load_method, write_method
from aarlab.testbed.running.panel import methods_named

FIT = """
class P:
    def predict_proba(self, inputs):
        {lazy}
        return [{value}] * len(inputs)
def fit(task, student, seed):
    return P()
"""
A, B = 0.25, 0.75
ROWS = [Example("r", "g", "prompt", ("answer",))]


@pytest.fixture
def state():
    """`sys.path` and `sys.modules` must be as they were, but for packages of the folders' own."""
    path, modules, place = list(sys.path), dict(sys.modules), os.getcwd()
    yield
    assert sys.path == path and os.getcwd() == place
    changed = {n for n in sys.modules if sys.modules[n] is not modules.get(n)}
    own = {n for n in changed if n.startswith("aarlab_method_")}
    left = {
        n for n in changed - own if str(getattr(sys.modules[n], "__file__", "")).startswith("/tmp")
    }
    assert not left and not {"method", "helper", "tables"} & changed
    assert modules.keys() <= sys.modules.keys()
    assert not any(isinstance(f, type) and f.__name__ == "OwnImports" for f in sys.meta_path)


def pair(tmp_path: Path, files: dict[str, str]) -> dict[str, float]:
    """Two folders alike but for VALUE, loaded both before either predicts."""
    for name, value in (("a", A), ("b", B)):
        made = {path: text.replace("VALUE", str(value)) for path, text in files.items()}
        for path in made:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
        write_method(tmp_path / name, made)
    loaded = {name: load_method(tmp_path / name) for name in "ab"}
    predictors = {name: own.fit(None, None, 0) for name, own in loaded.items()}
    return {name: float(checked_predictions(p, ROWS)[0]) for name, p in predictors.items()}


TOP = {"method.py": "import helper\n" + FIT.format(lazy="pass", value="helper.V")}
LAZY = {"method.py": FIT.format(lazy="from helper import V", value="V")}
FOLDERS = {
    "a helper": {**TOP, "helper.py": "V = VALUE\n"},
    "a lazy helper": {**LAZY, "helper.py": "V = VALUE\n"},
    "a helper of a helper": {
        **LAZY,
        "helper.py": "from tables import V\n",
        "tables.py": "V = VALUE",
    },
    "a package": {
        "method.py": FIT.format(lazy="import helper.deep", value="helper.deep.V"),
        "helper/__init__.py": "",
        "helper/deep.py": "from .values import V\n",
        "helper/values.py": "V = VALUE\n",
    },
    "a folder without __init__": {
        "method.py": FIT.format(lazy="from helper.deep import V", value="V"),
        "helper/deep.py": "V = VALUE\n",
    },
    "relative": {"method.py": "from . import helper\n" + FIT.format(lazy="pass", value="helper.V"),
                 "helper.py": "V = VALUE\n"},
    "importlib": {
        "method.py": "import importlib\n"
        + FIT.format(lazy="helper = importlib.import_module('helper')", value="helper.V"),
        "helper.py": "V = VALUE\n",
    },
    "a path of its own": {
        "method.py": "import sys\nfrom pathlib import Path\n"
        "sys.path.insert(0, str(Path(__file__).parent / 'lib'))\n"
        + FIT.format(lazy="import tables", value="tables.V"),
        "lib/tables.py": "V = VALUE\n",
    },
    "a module made by hand": {
        "method.py": "import sys, types\nsys.modules['tables'] = types.SimpleNamespace(V=VALUE)\n"
        + FIT.format(lazy="import tables", value="tables.V"),
    },
    "a data file": {
        "method.py": "from pathlib import Path\n"
        + FIT.format(lazy="v = float((Path(__file__).parent / 'v.txt').read_text())", value="v"),
        "v.txt": "VALUE",
    },
    "a dataclass": {
        "method.py": "from helper import Two\n" + FIT.format(lazy="pass", value="Two().v"),
        "helper.py": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Two:\n    v: float = VALUE\n",
    },
    "changes folder": {
        "method.py": "import os\nfrom pathlib import Path\n"
        + FIT.format(lazy="os.chdir(Path(__file__).parent)", value="VALUE"),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_two_folders_have_modules_of_their_own(tmp_path, state, kind):
    assert pair(tmp_path, FOLDERS[kind]) == {"a": A, "b": B}


@pytest.mark.parametrize("library", ["random", "yaml", "statistics", "this"])
def test_a_helper_with_a_librarys_name_hides_it_from_its_own_folder_alone(tmp_path, state, library):
    """Also from libraries that import it while the method runs: `sched` imports `heapq` itself."""
    files = {
        "method.py": f"import {library}\n"
        + FIT.format(lazy=f"import {library}", value=f"{library}.V"),
        f"{library}.py": "V = VALUE\n",
    }
    assert pair(tmp_path, files) == {"a": A, "b": B}
    sys.modules.pop("this", None)
    real = __import__(library) if library != "this" else None
    assert real is None or not hasattr(real, "V")


def test_a_library_that_is_imported_late_gets_the_real_modules(tmp_path, state):
    """`sched` imports `heapq`; the method's own `heapq` has no heappush."""
    saved = {name: sys.modules.pop(name, None) for name in ("sched", "heapq")}
    files = {
        "method.py": "import heapq\n" + FIT.format(
            lazy="import sched; assert callable(sched.heapq.heappush)", value="heapq.V"),
        "heapq.py": "V = VALUE\n",
    }  # fmt: skip
    assert pair(tmp_path, files) == {"a": A, "b": B}
    sys.modules.update({name: module for name, module in saved.items() if module})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import helper\nraise KeyError('no')\n", "KeyError.*method.py:2"),
        ("import helper\nimport absent\n", "ModuleNotFoundError.*absent.*method.py:2"),
        ("import helper\nx = 1\n", "no function fit"),
        ("import broken\n", "SyntaxError.*broken.py:1"),
        ("import helper\nraise SystemExit(0)\n", "SystemExit.*method.py:2"),
        ("class E(BaseException): pass\nraise E('own')\n", "E: own.*method.py:2"),
    ],
)
def test_a_folder_that_fails_leaves_nothing(tmp_path, state, source, says):
    import re

    files = {"method.py": source, "helper.py": "V = 1\n", "broken.py": "def f(:\n"}
    write_method(tmp_path / "a", files)
    before = set(sys.modules)
    with pytest.raises(MethodFailed) as caught:
        load_method(tmp_path / "a")
    assert re.search(says, str(caught.value), re.DOTALL), caught.value
    assert not {name for name in set(sys.modules) - before if name.startswith("aarlab_method_")}


def test_an_edited_folder_is_loaded_anew_and_nothing_is_written_into_it(tmp_path, state):
    """Same size, same second: bytecode would hide the change."""
    for value in ("0.1", "0.2"):
        write_method(tmp_path / "a", {**TOP, "helper.py": f"V = {value}\n"})
        predictor = load_method(tmp_path / "a").fit(None, None, 0)
        assert checked_predictions(predictor, ROWS)[0] == float(value)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["helper.py", "method.py"]


def test_a_crash_in_predict_proba_names_the_authors_line(tmp_path, state):
    source = FIT.format(lazy="raise ValueError('lost')", value="1")
    write_method(tmp_path / "a", {"method.py": source})
    (method,) = methods_named([str(tmp_path / "a")])
    with pytest.raises(MethodFailed, match=r"lost\n  method.py:4 in predict_proba: raise Value"):
        checked_predictions(method.fit(None, None, 0), ROWS)


@pytest.mark.parametrize("value", ["float('nan')", "2.0", "[1.0]", "'a'"])
def test_a_broken_rule_names_where_predict_proba_is_defined(tmp_path, state, value):
    write_method(tmp_path / "a", {"method.py": FIT.format(lazy="pass", value=value)})
    with pytest.raises(MethodFailed, match=r"method\.py:3 in predict_proba"):
        checked_predictions(load_method(tmp_path / "a").fit(None, None, 0), ROWS)


def test_a_data_file_that_is_sought_elsewhere_is_explained(tmp_path, state):
    source = FIT.format(lazy="open('v.txt')", value="1")
    write_method(tmp_path / "a", {"method.py": source, "v.txt": "1"})
    with pytest.raises(MethodFailed, match=r"Path\(__file__\)\.parent / 'v.txt'"):
        checked_predictions(load_method(tmp_path / "a").fit(None, None, 0), ROWS)

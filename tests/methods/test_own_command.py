"""Own data without a clear gap and own methods, from the command line to figures and exit codes."""

import json

import numpy as np
import pytest
from tiny_task import tiny_pair, word_rows
from typer.testing import CliRunner, Result

from aarlab.cli.main import cli
from aarlab.core.errors import GapNotPositive
from aarlab.core.layout import DataRoot
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.tasks.task import has_clear_gap, load_info

GOOD = """from aarlab.testbed.methods import METHODS
def fit(task, student, seed):
    return METHODS['confident'].fit(task, student, seed)
"""
IN_PREDICT = """
class P:
    def predict_proba(self, inputs):
        return inputs.nothing
def fit(task, student, seed):
    return P()
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataRoot, str]:
    """A folder whose labels are chance, imported with the plain command; what it said."""
    place = tmp_path_factory.mktemp("own")
    root, folder, rng = DataRoot(place / "home"), place / "coins", np.random.default_rng(0)
    tiny_pair(root, place / "hf")
    folder.mkdir()
    for number, (stem, n) in enumerate(
        {"train_label": 60, "train_unlabel": 60, "test": 150}.items()
    ):
        examples, _ = word_rows(n, stem)
        rows = [
            {"id": e.id, "group": e.group, "question": f"{e.prompt} part {number}",
             "choice": f"{e.answers[0]} {rng.integers(10**9)}", "label": bool(rng.integers(2))}
            for e in examples
        ]  # fmt: skip
        (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AARLAB_HOME", str(root.path))
        patch.setenv("AARLAB_TORCH_THREADS", "1")
        words = ["task", "import", str(folder), "--pair", "tiny", "--near-duplicates", "keep"]
        done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.output
    return root, done.output


def command(monkeypatch: pytest.MonkeyPatch, root: DataRoot, *words: str) -> Result:
    monkeypatch.setenv("AARLAB_HOME", str(root.path))
    monkeypatch.setenv("AARLAB_TORCH_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return CliRunner().invoke(cli, [*words], standalone_mode=False)


def test_a_folder_without_a_clear_gap_is_imported_and_says_so(imported) -> None:
    root, said = imported
    assert "coins: built" in said and "gap: not clear (ceiling 0." in said
    assert "so there is no PGR" in said and not has_clear_gap(load_info(root.public_task("coins")))


def test_its_table_has_accuracies_and_no_pgr(imported, tmp_path, monkeypatch) -> None:
    root, _ = imported
    write_method(tmp_path / "mine", {"method.py": GOOD})
    words = ["--task", "coins", "--seeds", "2"]
    found = command(monkeypatch, root, "method", "run", str(tmp_path / "mine"), *words)
    assert found.exception is None and found.return_value == 0, found.output
    assert "gap: not clear" in found.output and "less vanilla" in found.output
    assert "PGR " not in found.output.replace("no PGR", "") and "mine" in found.output
    out = tmp_path / "out.json"
    words += ["--methods", "confident,vanilla", "--no-guards", "--json", str(out)]
    assert command(monkeypatch, root, "testbed", "run", *words).return_value == 0
    written = json.loads(out.read_text())
    assert written["gap_is_clear"] is False
    (first, vanilla) = written["methods"]
    assert first["pgr"] is None and first["accuracy"]["low"] <= first["transfer"]
    assert first["less_vanilla"]["value"] == pytest.approx(first["transfer"] - vanilla["transfer"])


def test_tuning_needs_a_pgr(imported, tmp_path, monkeypatch) -> None:
    words = ["--task", "coins", "--methods", "confident", "--out", str(tmp_path / "s")]
    found = command(monkeypatch, imported[0], "testbed", "sweep", *words)
    assert isinstance(found.exception, GapNotPositive) and "gap: not clear" in str(found.exception)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def fit(task, student, seed):\n    raise KeyError('no luck')\n", "method.py:2 in fit"),
        (IN_PREDICT, "method.py:4 in predict_proba: return inputs.nothing"),
        (IN_PREDICT.replace("inputs.nothing", "[2.0] * len(inputs)"), "method.py:3 in predict_"),
    ],
)
def test_a_method_that_fails_runs_first_and_alone(
    imported, tmp_path, monkeypatch, source, says
) -> None:
    ran = []
    monkeypatch.setattr("aarlab.cli.steps.Waiting.at", lambda self, stage: ran.append(stage))
    write_method(tmp_path / "mine", {"method.py": source})
    words = ["method", "run", str(tmp_path / "mine"), "--task", "coins", "--seeds", "2"]
    found = command(monkeypatch, imported[0], *words)
    assert found.exception is None and found.return_value == 2, found.output
    assert says in found.output
    assert not [stage for stage in ran if "guard" in stage or "vanilla" in stage]


def test_a_slow_method_shows_its_stage(imported, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("aarlab.cli.steps.STAGE_S", 0.0)
    slow = GOOD.replace("    return", "    import time; time.sleep(1.5)\n    return")
    write_method(tmp_path / "slow", {"method.py": slow})
    words = ["--task", "coins", "--methods", str(tmp_path / "slow"), "--seeds", "1", "--no-guards"]
    found = command(monkeypatch, imported[0], "testbed", "run", *words)
    assert found.return_value == 0 and "slow, seed 0" in found.stderr

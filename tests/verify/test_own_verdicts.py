"""`aarlab method verify`: hidden rows, fresh teachers, paired differences, findings, failures."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from gaussian_task import BLIND, make_task
from method_world import OPTIONS
from rich.console import Console
from toy_campaign import build_toy
from typer.testing import CliRunner

from aarlab.cli.method import app
from aarlab.cli.operator import open_scorer
from aarlab.cli.verifying import show
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import Gap
from aarlab.core.wire import Evidence, Interval, Predictions, Run, Verification
from aarlab.testbed.running.frozen_method import FrozenMethod, freeze
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task
from aarlab.testbed.tasks.task import load_inputs
from aarlab.verify.own import Plan, Verdict, _judged, _Tried, draw_seeds, verify_methods
from aarlab.verify.rerun import Verifier

HEAD = "import numpy as np\nfrom aarlab.testbed.methods import METHODS\n"
GOOD = (
    HEAD
    + "def fit(task, student, seed):\n    return METHODS['truth_mean'].fit(task, student, seed)\n"
)
CONSTANT = """
class P:
    def predict_proba(self, inputs):
        return [.4] * len(inputs)
def fit(task, student, seed):
    return P()
"""
COMPANY = (
    HEAD
    + """
import subprocess
class P:
    def __init__(self, inner): self.inner = inner
    def predict_proba(self, inputs):
        p = self.inner.predict_proba(inputs)
        return (p > np.roll(p, 1)).astype(float)
def fit(task, student, seed):
    return P(METHODS['vanilla'].fit(task, student, seed))
"""
)
SOURCES = {
    "good": GOOD,
    "constant": CONSTANT,
    "company": COMPANY,
    "crash": "def fit(task, student, seed):\n    raise KeyError('no luck')\n",
}
TRIED = ("good", "company", "crash")
SEEDS = (3, 4, 5)
GUARDS = ("guard_length",)


def folders(place: Path, *names: str) -> list[Path]:
    for name in names:
        write_method(place / name, {"method.py": SOURCES[name]})
    return [place / name for name in names]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return build_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def verdicts(toy: DataRoot, tmp_path_factory: pytest.TempPathFactory):
    """All methods in one call; how often the sandbox was used, by method."""
    methods = [freeze(f) for f in folders(tmp_path_factory.mktemp("methods"), *TRIED)]
    plan, told = Plan(toy, "gauss", SEEDS, "bubblewrap", True, GUARDS), list[str]()
    found = verify_methods(methods, plan, open_scorer(toy), told.append)
    return {verdict.name: verdict for verdict in found}, told


def test_each_method_has_its_class(verdicts) -> None:
    found, _ = verdicts
    kinds = {name: verdict.kind for name, verdict in found.items()}
    assert kinds == {"good": "verified", "company": "suspect", "crash": "failed"}
    assert any("shortcut, suspect" in flag for flag in found["company"].flags)
    assert "static, suspect: method.py:4: imports subprocess" in found["company"].flags
    assert found["good"].flags == ()


def test_differences_are_paired_with_vanilla_and_the_best_guard(verdicts) -> None:
    good = verdicts[0]["good"]
    assert good.pgr.low > 0 and good.permuted.value < good.pgr.value
    assert good.guard in GUARDS and good.beats_guard.low > 0
    assert good.beats_vanilla.value > 0 and good.beats_vanilla.n_seeds == len(SEEDS)
    company = verdicts[0]["company"]
    apart = good.beats_vanilla.value - company.beats_vanilla.value
    assert apart == pytest.approx(good.pgr.value - company.pgr.value)


def test_a_crash_names_its_line_and_runs_before_any_baseline(verdicts) -> None:
    found, told = verdicts
    assert found["crash"].error.endswith("method.py:2 in fit: raise KeyError('no luck')")
    assert found["crash"].pgr is None and found["crash"].beats_guard is None
    first = next(i for i, line in enumerate(told) if line.startswith("vanilla"))
    assert all(not line.startswith(name) for line in told[first:] for name in TRIED)
    assert not any(line.startswith("crash: the same") for line in told)


def test_hidden_labels_stay_out_of_the_sandbox_and_nothing_is_left(toy: DataRoot, verdicts) -> None:
    left = {path.name for path in (toy.path / "private").iterdir()}
    assert left == {"verified", "verify.secret"}
    for path in (toy.path / "private").rglob("*.*"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_method_pays_for_no_baseline_again(
    toy: DataRoot, verdicts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ran = Verifier.rerun, []

    def counted(self, wanted, content, cancel=None):
        ran.append(wanted.method)
        return plain(self, wanted, content, cancel)

    monkeypatch.setattr(Verifier, "rerun", counted)
    (toy.path / "private" / "verifying-999999999-x" / "verifier").mkdir(parents=True)
    methods = [freeze(folders(tmp_path, "good")[0])]
    plan = Plan(toy, "gauss", SEEDS, "bubblewrap", True, GUARDS)
    (again,) = verify_methods(methods, plan, open_scorer(toy), lambda line: None)
    assert ran == ["good", "good"] and again == verdicts[0]["good"]
    left = {path.name for path in (toy.path / "private").iterdir()}
    assert left == {"verified", "verify.secret"}


def test_only_failures_run_nothing_else(
    toy: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(toy.path))
    words = [str(f) for f in folders(tmp_path, "crash")]
    found = CliRunner().invoke(
        app, ["verify", *words, "--task", "gauss", "--json"], standalone_mode=False
    )
    assert found.return_value == 2
    (verdict,) = json.loads(found.stdout)
    assert verdict["class"] == "failed" and verdict["pgr"] is None
    assert verdict["beats_vanilla"] is None and "method.py:2 in fit" in verdict["error"]
    assert "vanilla" not in found.stderr


@pytest.mark.gate
def test_the_command_gives_the_promised_json_without_a_clear_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    data, source = make_task()
    options = OPTIONS.model_copy(update={"strong_layer": BLIND, "require_gap": False})
    build_task(data, options, DataRoot(tmp_path / "home"), Sources(source, source))
    monkeypatch.setattr("aarlab.verify.own.GUARDS", ("guard_length",))
    words = [str(f) for f in folders(tmp_path, "constant")]
    common = ["verify", *words, "--task", "gauss", "--seeds", "2", "--seed-base", "1"]
    found = CliRunner().invoke(app, [*common, "--json"], standalone_mode=False)
    assert found.return_value == 0, found.output
    (verdict,) = json.loads(found.stdout)
    assert {"name", "pgr", "low", "high", "permuted", "beats_vanilla", "beats_guard", "class",
            "flags", "delivery", "open_because", "train_rows"} <= set(verdict)  # fmt: skip
    assert verdict["class"] == "no gap" and verdict["pgr"] is None and verdict["unit"] == "accuracy"
    assert 0.3 < verdict["accuracy"]["low"] < verdict["accuracy"]["value"] < 0.7
    assert set(verdict["beats_vanilla"]) == {"difference", "low", "high", "clearly"}
    assert verdict["beats_vanilla"]["clearly"] is False


def text_of(verdicts: list[Verdict], gap: Gap) -> str:
    console = Console(file=io.StringIO(), width=100)
    show(console, verdicts, gap, "gauss")
    return console.file.getvalue()


def test_the_table_says_the_same_in_plain_words(toy: DataRoot, verdicts) -> None:
    found, scorer = verdicts[0], open_scorer(toy)
    text = text_of(list(found.values()), scorer.gap("gauss", "selection"))
    assert "good: verified: above the weak teacher" in text and "clearly above" in text
    assert "company: suspect: read the findings" in text and "imports subprocess" in text
    assert "crash: failed: KeyError" in text and "gap: not clear" not in text
    assert f"  given: {found['good'].given}" in text and found["good"].given
    flat = replace(found["good"], kind="no gap", pgr=None)
    wide = scorer.gap("gauss", "selection")
    text = text_of([flat], replace(wide, difference=interval(0.0)))
    assert "gap: not clear" in text and "good: no gap: accuracies only" in text


def interval(value: float, half: float = 0.1) -> Interval:
    return Interval(value=value, stderr=half / 2, low=value - half, high=value + half,
                    n_rows=9, n_seeds=2, covers=["rows"])  # fmt: skip


def seen(**changes: object) -> Evidence:
    plain = {"programs": [], "reached": [], "compiled": 0, "row_texts": 0, "examples": [],
             "truncated": False, "changed": {"alone": 0.0}, "forwarded": 500.0}  # fmt: skip
    return Evidence.model_validate({**plain, **changes})


@pytest.mark.parametrize(
    ("value", "permuted", "evidence", "kind"),
    [
        (0.5, 0.0, seen(), "verified"),
        (0.5, 0.48, seen(), "elicitation"),
        (0.5, 0.48, seen(forwarded=0.0), "suspect"),
        (0.05, 0.0, seen(), "not above the teacher"),
        (-0.5, 0.0, seen(), "not above the teacher"),
        (None, None, seen(), "no gap"),
        (None, None, seen(programs=["true"]), "suspect"),
        (0.5, 0.0, seen(reached=["/etc/x"]), "suspect"),
        (0.5, 0.0, seen(changed={"alone": 0.2}), "suspect"),
        (0.5, 0.0, seen(changed={}), "suspect"),
        (0.5, None, seen(), "not attributed"),
        (0.5, 0.0, seen(disagreement=0.0), "suspect"),
        (0.5, 0.48, seen(disagreement=0.0), "elicitation"),
        (0.5, 0.0, seen(disagreement=0.2), "verified"),
        (1.5, 0.0, seen(), "suspect"),
    ],
)
def test_classes(value, permuted, evidence, kind) -> None:
    run = Verification(
        id="ver_1", snapshot="a" * 40, aar="own", method="mine", task="gauss", split="selection",
        ablation="none", run_seeds=[1, 2], state="done", evidence=evidence,
        estimate=None if value is None else interval(value),
    )  # fmt: skip
    again = run.model_copy(
        update={
            "ablation": "permuted",
            "estimate": None if permuted is None else interval(permuted),
        }
    )
    method = FrozenMethod("mine", {"method.py": GOOD.encode()})
    found, lines = _judged(_Tried(method, run, permuted=again))
    assert found == kind and bool(lines) == (kind in ("suspect", "elicitation"))
    if found == "suspect" and value == 1.5:
        blind = run.model_copy(update={"delivery": "blind"})
        found, lines = _judged(_Tried(method, blind, permuted=again))
        assert found == "verified" and [line.split(":")[0] for line in lines] == ["ceiling, note"]


@pytest.mark.parametrize("delivery", ["open", "blind"])
def test_a_shipped_head_is_a_finding(delivery: str) -> None:
    run = Verification(
        id="ver_1", snapshot="a" * 40, aar="own", method="mine", task="gauss", split="selection",
        ablation="none", run_seeds=[1, 2], state="done", evidence=seen(), estimate=interval(0.5),
        delivery=delivery,
    )  # fmt: skip
    again = run.model_copy(update={"ablation": "permuted", "estimate": interval(0.0)})
    method = FrozenMethod("mine", {"method.py": GOOD.encode() + f"H = {'x1' * 500!r}\n".encode()})
    found, (line,) = _judged(_Tried(method, run, permuted=again))
    assert found == "suspect" and line.startswith("fingerprint, suspect")


def test_pairs_need_the_same_seeds(toy: DataRoot) -> None:
    scorer = open_scorer(toy)
    ids = [e.id for e in load_inputs(toy.vault_task("gauss") / "inputs" / "selection.jsonl")]
    one, other = (Predictions(ids, [Run(seed=s, probs=[0.5] * len(ids))]) for s in (1, 2))
    with pytest.raises(BadInput, match="other seeds"):
        scorer.difference("gauss", "selection", one, other)


def test_seeds_are_drawn_or_counted_from_a_base() -> None:
    assert draw_seeds(3, 7) == (7, 8, 9)
    drawn = draw_seeds(8, None)
    assert len(set(drawn)) == 8 and drawn == tuple(sorted(drawn)) and max(drawn) < 2**31


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        ({"other.py": ""}, "mine", "mine: there is no method.py"),
        ({"method.py": "x = 1\n"}, "mine", "mine/method.py: defines no function fit"),
        ({"method.py": "def fit(a):\n    pass\n"}, "mine", "mine/method.py:1: define fit"),
        ({"method.py": GOOD, "h.py": "\ndef f(:\n"}, "mine", "mine/h.py:2: SyntaxError"),
        ({"method.py": GOOD, "big": "x" * 1_000_001}, "mine", "bytes; a method has at most"),
        ({"method.py": GOOD, **{f"f{i}": "" for i in range(200)}}, "mine", "201 files"),
        ({"method.py": GOOD}, "Mine Own", "its name is shown"),
        ({"method.py": GOOD}, "m" * 41, "its name is shown"),
        ({"method.py": GOOD}, "vanilla", "built-in method has this name"),
    ],
)
def test_a_folder_that_cannot_be_frozen_is_explained(tmp_path: Path, files, name, says) -> None:
    write_method(tmp_path / name, files)
    with pytest.raises(BadInput, match=says):
        freeze(tmp_path / name)


def test_what_is_frozen_is_what_was_there(tmp_path: Path) -> None:
    (folder,) = folders(tmp_path, "good")
    for path in ("__pycache__/x.pyc", ".git/config", "lib/helper.py"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("x = 1\n")
    (folder / "link.py").symlink_to("/etc/passwd")
    frozen = freeze(folder)
    assert set(frozen.files) == {"method.py", "lib/helper.py"}
    (folder / "method.py").write_text(CONSTANT)
    assert frozen.hash != freeze(folder).hash
    with pytest.raises(NotFound):
        freeze(tmp_path / "absent")

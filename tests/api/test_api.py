"""Tasks, scores and campaigns through the public API, on a Gaussian task."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

import aarlab
from aarlab.cli.operator import open_scorer
from aarlab.core.errors import Faulty
from aarlab.core.layout import DataRoot, RunDir
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.running.panel import run_panel, search_bench
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import open_public


@dataclass
class Constant:
    value: float

    def predict_proba(self, inputs: Sequence[aarlab.Example]) -> np.ndarray:
        return np.full(len(inputs), self.value)


def broken(task: aarlab.TrainTask, student: aarlab.StudentFactory, seed: int) -> aarlab.Predictor:
    """Predict what is not a probability."""
    return Constant(2.0)


def plain(task: aarlab.TrainTask, student: aarlab.StudentFactory, seed: int) -> aarlab.Predictor:
    """Train on the weak labels."""
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit(task.inputs, task.weak_labels_N)


@pytest.fixture(scope="module")
def task(toy_root: DataRoot) -> aarlab.Task:
    return aarlab.open_task("gauss", home=toy_root.path)


def test_an_opened_task_has_rows_weak_labels_and_features(
    task: aarlab.Task, toy_root: DataRoot
) -> None:
    assert aarlab.task_names(toy_root.path) == ["gauss"]
    assert (task.info.name, len(task.train), len(task.search)) == ("gauss", 320, 240)
    assert task.weak_labels.probs_SN.shape == (3, 320)
    first, second = task.train_task(), task.train_task(task.weak_labels.seeds[1])
    assert (first.weak_labels_N == task.weak_labels.probs_SN[0]).all()
    assert (second.weak_labels_N == task.weak_labels.probs_SN[1]).all()
    assert task.students().states(task.search[:4]).shape == (4, 1, 16)
    assert {one.name for one in fields(task)} == {"root", "public", "features"}


def test_a_task_that_was_not_built_is_named(toy_root: DataRoot) -> None:
    with pytest.raises(aarlab.NotFound, match="task nope is not in"):
        aarlab.open_task("nope", home=toy_root.path)


def test_a_score_is_that_of_the_command(task: aarlab.Task, toy_root: DataRoot) -> None:
    public = open_public(toy_root.public_task("gauss"))
    features = StoredFeatures.open(sorted((public.folder / "features").glob("*.npz")))
    bench = search_bench(public, features, open_scorer(toy_root))
    (expected,) = run_panel([aarlab.find_method("vanilla")], bench, 2)
    found = aarlab.score_method("vanilla", task, seeds=2)
    assert found.pgr is not None and found.pgr == expected.pgr
    assert found.predictions == expected.predictions


def test_a_method_may_be_given_in_five_ways(task: aarlab.Task, tmp_path: Path) -> None:
    body = "return student.new().fit(task.inputs, task.weak_labels_N)"
    source = f"def fit(task, student, seed):\n    {body}\n"
    folder = tmp_path / "mine"
    write_method(folder, {"method.py": source})
    recipe = aarlab.Recipe()
    given: list[aarlab.MethodLike] = [
        plain,
        recipe,
        "vanilla",
        folder,
        aarlab.METHODS["vanilla_soft"],
    ]
    scores = aarlab.score_methods(given, task, seeds=1)
    names = ["plain", f"recipe-{recipe.hash()}", "vanilla", "mine", "vanilla_soft"]
    assert [score.method for score in scores] == names
    assert all(score.pgr is not None for score in scores)


def test_a_broken_contract_is_an_error_or_a_row_that_says_why(task: aarlab.Task) -> None:
    with pytest.raises(aarlab.MethodFailed, match=r"broken: predict_proba: 240 of 240 values"):
        aarlab.score_method(broken, task, seeds=1)
    failed, fine = aarlab.score_methods([broken, plain], task, seeds=1)
    assert failed.failed and failed.pgr is None and fine.pgr is not None


def test_the_gap_is_that_of_the_baselines(task: aarlab.Task) -> None:
    gap = task.gap()
    assert gap.clear and 0.5 < gap.weak.value < gap.ceiling.value < 1


def test_a_campaign_that_cannot_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spec = aarlab.CampaignSpec(
        name="toy", tasks=["nope"], aars=[aarlab.AarSpec(name="rowan", researcher="random")]
    )
    with pytest.raises(Faulty, match="nothing was started") as caught:
        aarlab.run_campaign(spec, tmp_path / "run", home=tmp_path / "home")
    assert "nope" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_campaign_runs_to_its_export(toy_root: DataRoot, tmp_path: Path) -> None:
    spec = aarlab.CampaignSpec(
        name="one",
        tasks=["gauss"],
        aars=[aarlab.AarSpec(name="rowan", researcher="random", direction="undirected", seed=1)],
        limits=aarlab.Limits(submissions=1),
        seeds_per_submission=1,
        verify=aarlab.VerifySpec(top=0, ablate_top=0, seeds=2, certify=False, live=False),
    )
    seen: list[str] = []
    export = aarlab.run_campaign(
        spec, tmp_path / "run", home=toy_root.path, notify=lambda kind, facts: seen.append(kind)
    )
    assert len(export.submissions) == 1
    assert seen[0] == "campaign_started" and seen[-1] == "campaign_ended"
    assert aarlab.load_export(RunDir(tmp_path / "run").export) == export

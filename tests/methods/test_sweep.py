"""A sweep finds a planted optimum, resumes, repeats nothing, and never looks at selection."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.layout import DataRoot
from aarlab.testbed.recipes.recipe import LabelStage, Recipe
from aarlab.testbed.running.panel import search_bench
from aarlab.testbed.running.sweep import SweepPlan, live_options, sweep
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import open_public
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


def bench_of(root):
    task = open_public(DataRoot(root).public_task("gauss"))
    features = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    return search_bench(task, features, Scorer(Vault(DataRoot(root))))


@pytest.fixture
def bench(built):
    return bench_of(built)


def plan(**changes):
    recipe = Recipe(label=LabelStage(source="posterior", weight=0.0))
    made = SweepPlan("posterior", recipe, ("label.weight",), trials=6, seeds=2)
    return replace(made, **changes)


@pytest.mark.parametrize("sampler", ["random", "bayes"])
def test_it_finds_that_the_zero_shot_margin_helps(bench, tmp_path, sampler):
    told = []
    found = sweep(
        plan(sampler=sampler), bench, tmp_path / "j.log", lambda n, value: told.append(value)
    )
    assert found.trials == len(told) == 6 and found.search_pgr == max(told)
    assert found.search_pgr > told[0]  # the recipe itself comes first
    assert found.recipe.label.weight > 0.2


def test_it_goes_on_where_it_stopped_and_only_there(bench, tmp_path):
    journal, first, second = tmp_path / "j.log", [], []

    def stop_after_3(number, value):
        first.append((number, value))
        if len(first) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(plan(), bench, journal, stop_after_3)
    sweep(plan(), bench, journal, lambda n, value: second.append((n, value)))
    assert [n for n, _ in first + second] == list(range(6))
    assert len({round(value, 9) for _, value in first + second}) > 2
    again = []
    found = sweep(plan(), bench, journal, lambda n, value: again.append(n))
    assert again == [] and found.trials == 6


def test_kill_9_loses_no_finished_trial(built, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, pathlib\nfrom test_sweep import *\n"
        "root, journal = map(pathlib.Path, sys.argv[1:])\n"
        "sweep(plan(trials=200), bench_of(root), journal, lambda n, v: print(n, flush=True))\n"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(script), str(built), str(tmp_path / "j.log")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "2":
        assert process.poll() is None
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    done = 3 + len(process.stdout.read().split())
    process.wait()
    process.stdout.close()
    told = []
    found = sweep(plan(trials=done + 2), bench_of(built), tmp_path / "j.log",
                  lambda n, v: told.append(n))  # fmt: skip
    assert found.trials == done + 2 and len(told) in (1, 2)  # one may have ended unheard


def test_a_recipe_that_fails_is_a_failed_trial(bench, tmp_path):
    from aarlab.testbed.recipes.recipe import SelectStage

    recipe = Recipe(select=SelectStage(kind="threshold", threshold=0.95))
    with pytest.raises(BadInput, match="no trial gave a score"):
        sweep(plan(recipe=recipe, paths=("train.lr",), trials=2), bench, tmp_path / "j.log", print)


def test_bad_plans_and_journals_are_refused(bench, tmp_path):
    with pytest.raises(BadInput, match=r"train\.nope"):
        sweep(plan(paths=("train.nope",)), bench, tmp_path / "j.log", print)
    with pytest.raises(BadInput, match="at least one trial"):
        sweep(plan(trials=0), bench, tmp_path / "j.log", print)
    (tmp_path / "bad.log").write_text("not a journal\n")
    with pytest.raises(Damaged, match="journal"):
        sweep(plan(), bench, tmp_path / "bad.log", print)


def test_only_the_search_split_is_asked(bench, tmp_path):
    splits = []

    class Spy:
        def __getattr__(self, name):
            def ask(task, split, *rest):
                splits.append(split)
                return getattr(bench.judge, name)(task, split, *rest)

            return ask

    sweep(plan(trials=2), replace(bench, judge=Spy()), tmp_path / "j.log", lambda n, v: None)
    assert set(splits) == {"search"}


def test_options_without_effect_are_not_tuned():
    paths = live_options(Recipe())
    assert "train.lr" in paths and "label.weight" not in paths

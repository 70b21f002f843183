"""The human baseline that ships: complete, runnable, and still the methods it is named after."""

import pytest

from aarlab.campaign.presets import demo
from aarlab.testbed.methods import METHODS
from aarlab.testbed.recipes.tuned import tuned_recipes, tuned_tasks
from aarlab.testbed.running.sweep import IDENTITY, own_options
from aarlab.testbed.tasks.generators.registry import TASKS

STUDY = {"vanilla", "confident", "aux_confidence", "zero_shot"}


def test_every_embedded_task_has_its_tuned_baselines():
    tasks = tuned_tasks()
    assert tasks.keys() == TASKS.built_in.keys()
    for task in tasks.values():
        assert task.baselines.keys() == STUDY
        assert all(b.selection.low < b.selection.value < b.selection.high
                   for b in task.baselines.values())  # fmt: skip
    assert tuned_recipes("other") == {}


@pytest.mark.parametrize("task", sorted(TASKS.built_in))
@pytest.mark.parametrize("name", sorted(STUDY))
def test_tuning_changed_no_option_that_makes_it_another_method(task, name):
    tuned, plain = tuned_tasks()[task].baselines[name], METHODS[name].recipe
    assert not set(tuned.options) & set(IDENTITY)
    for path in IDENTITY:
        stage, option = path.split(".")
        of_tuned = getattr(getattr(tuned.recipe, stage), option)
        assert of_tuned == getattr(getattr(plain, stage), option), path


def test_a_method_is_tuned_in_its_own_options_by_default():
    assert own_options(METHODS["zero_shot"].recipe) == ("predict.zero_shot",)
    assert "train.a_max" in own_options(METHODS["aux_confidence"].recipe)
    assert not set(own_options(METHODS["confident"].recipe)) & set(IDENTITY)


def test_the_demo_compares_with_the_human_baseline_that_runs_there():
    """Its task has no log-likelihoods, and so no zero-shot method."""
    (human,) = (aar for aar in demo().aars if aar.role == "human")
    assert set(human.fixed) == STUDY - {"zero_shot"}
    assert not any(METHODS[name].recipe.asks_zero_shot for name in human.fixed)

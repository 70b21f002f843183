"""The grammar: round trip, strictness, normal form, and that search never leaves it."""

import json
import math
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput
from aarlab.testbed.recipes.recipe import (
    RANKED,
    LabelStage,
    PredictStage,
    Recipe,
    TrainStage,
    crossover,
    mutate,
    normal,
    recipe_from,
    recipe_from_json,
    sample,
    space,
    with_options,
)

seeds = st.integers(0, 2**32)


def inside(recipe):
    for spec in space().values():
        value = getattr(getattr(recipe, spec.stage), spec.name)
        if value is None:
            assert spec.default is None
        elif spec.kind == "choice":
            assert value in spec.choices
        else:
            assert spec.low <= value <= spec.high
    assert recipe == normal(recipe)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_drawn_recipe_survives_json_with_its_hash(seed):
    recipe = sample(random.Random(seed))
    back = recipe_from_json(recipe.to_json())
    assert back == recipe and back.hash() == recipe.hash() and hash(back) == hash(recipe)
    inside(recipe)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_mutation_stays_inside_and_changes_something(seed):
    rng = random.Random(seed)
    before = sample(rng)
    assert mutate(before, rng) != before
    inside(mutate(before, rng, n=3))


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_pins_hold_and_have_an_effect(seed):
    rng, pins = random.Random(seed), {"label.source": "posterior", "select.keep": 0.2}
    recipe = sample(rng, pins)
    for _ in range(4):
        assert recipe.label.source == "posterior" and recipe.select.kind in RANKED
        assert recipe.select.keep == 0.2 and recipe.predict.kind != "zero_shot"
        recipe = mutate(recipe, rng, 2, pins)


def test_pins_that_exclude_each_other_are_refused():
    with pytest.raises(BadInput, match="in effect"):
        sample(random.Random(0), {"predict.kind": "zero_shot", "train.lr": 0.001})


def test_mutation_reaches_every_option():
    rng, changed, recipe = random.Random(0), set(), Recipe()
    for _ in range(3000):
        after = mutate(recipe, rng)
        changed |= {
            path
            for path, spec in space().items()
            if getattr(getattr(after, spec.stage), spec.name)
            != getattr(getattr(recipe, spec.stage), spec.name)
        }
        recipe = after
    assert changed == set(space())


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_child_takes_each_stage_from_a_parent(seed):
    rng = random.Random(seed)
    one, other = sample(rng), sample(rng)
    child = crossover(one, other, rng)
    inside(child)
    if child.predict.kind != "zero_shot":
        assert child.label in (one.label, other.label)
        assert child.select in (one.select, other.select)
        assert child.train.lr in (one.train.lr, other.train.lr)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"train": {"lr": 5.0}}, "train.lr"),
        ({"train": {"learning_rate": 0.1}}, "train.learning_rate"),
        ({"label": {"source": "truth"}}, "label.source"),
        ({"train": {"epochs": True}}, "train.epochs"),
        ({"train": {"epochs": "3"}}, "train.epochs"),
        ({"predict": {"weight": float("nan")}}, "predict.weight"),
        ({"postprocess": {}}, "recipe.postprocess"),
        (["weak"], "recipe"),
    ],
)
def test_refuses_what_the_grammar_lacks_by_name(value, names):
    with pytest.raises(BadInput, match=names):
        recipe_from(value)


def test_refuses_broken_json_and_unknown_paths():
    with pytest.raises(BadInput, match="line 1"):
        recipe_from_json("{", "recipe.json")
    with pytest.raises(BadInput, match=r"train\.speed"):
        with_options(Recipe(), {"train.speed": 1})
    with pytest.raises(BadInput, match=r"train\.lr"):
        TrainStage(lr=7)


def test_recipes_that_do_the_same_have_one_hash():
    idle = Recipe(label=LabelStage(source="weak", weight=3.0, zero_shot="corrected"))
    assert idle.hash() == Recipe().hash() and idle != Recipe()
    asleep = Recipe(train=TrainStage(lr=0.01), predict=PredictStage(kind="zero_shot"))
    assert asleep.hash() == Recipe(predict=PredictStage(kind="zero_shot")).hash()
    assert Recipe(label=LabelStage(source="posterior", weight=3.0)).hash() != Recipe().hash()


RECORDED = {
    "3dadb9d84c2fd4be": {},
    "27ac6028c10154b1": {
        "label": {"source": "em_posterior", "weight": 2.0},
        "select": {"kind": "neighbours", "keep": 0.3, "k": 20},
        "train": {
            "targets": "hard", "epochs": 3, "lr": 1e-3, "weight_decay": 10.0,
            "rounds": 1, "folds": 3,
        },
        "predict": {"members": 4},
    },
    "ce84676ed20c1da2": {
        "select": {"kind": "agreement", "zero_shot": "corrected"},
        "train": {"loss": "window", "radius": 0.2, "hidden": 0},
        "predict": {"kind": "blend", "weight": 1.0},
    },
    "d7df270c210388e0": {"predict": {"kind": "zero_shot", "zero_shot": "mean_pmi"}},
}  # fmt: skip


@pytest.mark.parametrize("known", RECORDED)
def test_recipes_keep_the_hash_under_which_campaigns_recorded_them(known):
    """An option added later must not change the identity of a recipe that does not use it."""
    recipe = recipe_from(RECORDED[known])
    assert recipe.hash() == known
    assert recipe_from_json(recipe.to_json()).hash() == known
    assert Recipe(train=TrainStage(layers="all")).hash() not in RECORDED


def test_options_on_a_log_scale_are_drawn_and_moved_on_it():
    rng, epochs = random.Random(0), space()["train.epochs"]
    drawn = [epochs.draw(rng) for _ in range(4000)]
    assert set(drawn) == set(range(1, 21))
    assert sum(2 <= n <= 4 for n in drawn) / 4000 == pytest.approx(
        math.log(5 / 2) / math.log(21), abs=0.03
    )
    near = [epochs.near(4, rng) for _ in range(2000)]
    assert 4 not in near and sum(n < 4 for n in near) / 2000 == pytest.approx(0.5, abs=0.05)
    decay = space()["train.weight_decay"]
    drawn = [decay.draw(rng) for _ in range(2000)]
    assert sum(value > 3 for value in drawn) / 2000 == pytest.approx(0.22, abs=0.04)


def test_describes_in_one_line_what_differs():
    text = Recipe(label=LabelStage(source="posterior", weight=2.0), train=TrainStage(lr=0.002))
    assert text.describe() == "posterior weight=2 → all → soft lr=0.002 → student"


def test_the_grammar_loads_without_numpy_and_torch():
    code = (
        "import sys, aarlab.testbed.recipes.recipe;"
        "import aarlab.testbed.running.method_folder, aarlab.testbed.running.job;"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_json_is_plain():
    assert set(json.loads(Recipe().to_json())) == {"label", "select", "train", "predict"}

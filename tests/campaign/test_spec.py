"""A campaign's spec: recipes by file, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from aarlab.agents.researchers import Fixed
from aarlab.agents.state import AarState
from aarlab.campaign.spec import load_spec
from aarlab.core.errors import BadInput
from aarlab.testbed.methods import METHODS

RECIPE = json.loads(METHODS["confident"].recipe.to_json())


def write(folder: Path, recipes: object, **changes: object) -> Path:
    aar = {"name": "human", "researcher": "fixed", "role": "human", "recipes": recipes}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "tasks": ["math"], "aars": [{**aar, **changes}]}))
    return path


def test_a_recipe_by_file_is_frozen_into_the_spec_and_run_after_the_named(tmp_path: Path) -> None:
    (tmp_path / "tuned.json").write_text(json.dumps(RECIPE))
    path = write(tmp_path, {"tuned": "tuned.json"}, methods=["vanilla"])
    human = load_spec(path).aars[0]
    (tmp_path / "tuned.json").unlink()
    assert human.fixed == ["vanilla", "tuned"] and human.recipes["tuned"] == RECIPE
    fixed, state, seen = Fixed(tuple(human.methods), human.recipes), AarState(), []
    while (trial := fixed.propose(state, None)) is not None:
        seen.append((trial.method, trial.recipe))
        state = state.proposed(trial).updated(trial.model_copy(update={"outcome": "failed"}))
    assert seen == [("vanilla", None), ("tuned", RECIPE)]


@pytest.mark.parametrize(
    ("recipes", "changes", "said"),
    [
        ({"tuned": "none.json"}, {}, "cannot read recipe"),
        ({"tuned": {"train": {"loss": "none"}}}, {}, "recipe tuned"),
        ({}, {}, "`methods`, `recipes` or `own` must be given"),
        ({"tuned": RECIPE}, {"researcher": "random"}, "for no other"),
        (3, {}, "recipes"),
    ],
)
def test_bad_recipes_are_refused(tmp_path: Path, recipes, changes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_spec(write(tmp_path, recipes, **changes))


@pytest.mark.parametrize(
    "text", ["[" * 5000, "tasks: 2020-13-45", "seed: " + "9" * 5000, "a: &x [*x]", "\x00", "- 1"]
)
def test_a_file_that_is_no_spec_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"spec\.yaml.* not "):
        load_spec(path)

"""The keyword classifier: features, size, hostile files, and the committed accuracy."""

import random
import sys
from pathlib import Path

import pytest

from aarlab.core.ideas import FAMILIES, FAMILY_KEYS
from aarlab.testbed.ideas import TIES, WORDS, features_of, idea_of
from aarlab.testbed.recipes.recipe import Recipe, sample
from aarlab.testbed.running.method_folder import recipe_files

ROOT = Path(__file__).parents[2]
CODE = b'''"""Docstring
of two lines."""

# a comment
import numpy as np


def fit(task, student, seed):
    """Says what it does."""
    direction = fit_ccs(student.states(task.inputs))  # contrast
    return direction
'''


def test_there_are_eleven_families_with_rules() -> None:
    assert len(FAMILIES) == len(FAMILY_KEYS) == 11
    assert set(WORDS) == set(TIES) == set(FAMILY_KEYS)


def test_size_leaves_out_blanks_comments_and_docstrings() -> None:
    size = features_of({"method.py": CODE}).complexity
    assert size is not None and size.lines == 4 and size.options is None
    bare = b"import numpy as np\ndef fit(task, student, seed):\n" + b"\n".join(
        CODE.splitlines()[-2:]
    )
    again = features_of({"method.py": bare}).complexity
    assert again is not None and again.nodes == size.nodes


def test_code_and_name_decide_and_say_why() -> None:
    idea = idea_of("a" * 40, {"method.py": CODE}, "method 7")
    assert idea.family == "probing" and any("ccs" in line for line in idea.evidence)
    assert idea_of("a", {"method.py": b"x = 1\n"}, "method").family is None
    assert idea_of("a", {"method.py": b"x = 1\n"}, "debate").family == "generation"


def test_a_recipe_is_judged_by_its_options_not_by_its_direction() -> None:
    recipe = Recipe.model_validate({"select": {"kind": "neighbours"}})
    files = {path: text.encode() for path, text in recipe_files(recipe).items()}
    idea = idea_of("a", files, "method", ["founder inside 'elicitation'"])
    assert idea.family == "selection" and idea.evidence[0].endswith("select.kind=neighbours")
    assert idea.complexity is not None and idea.complexity.options == 1
    plain = {path: text.encode() for path, text in recipe_files(Recipe()).items()}
    assert idea_of("a", plain, "method").family == "loss"


@pytest.mark.parametrize(
    ("recipe", "family"),
    [
        ({"label": {"source": "teachers"}}, "teachers"),
        ({"label": {"source": "votes"}, "select": {"kind": "confident"}}, "teachers"),
        ({"label": {"source": "teachers"}, "select": {"kind": "overlap"}}, "teachers"),
        ({"select": {"kind": "overlap"}, "train": {"targets": "hard"}}, "selection"),
        ({"select": {"kind": "out_of_fold"}, "train": {"layers": "three"}}, "selection"),
        ({"train": {"layers": "three"}}, "teachers"),
        ({"train": {"epochs": 3, "lr": 0.001, "weight_decay": 10.0}}, "simplicity"),
    ],
)
def test_options_point_to_their_family(recipe: dict[str, object], family: str) -> None:
    made = recipe_files(Recipe.model_validate(recipe))
    files = {path: text.encode() for path, text in made.items()}
    assert idea_of("a", files, "method").family == family


def test_every_recipe_has_a_family() -> None:
    rng = random.Random(3)
    for _ in range(100):
        files = {p: t.encode() for p, t in recipe_files(sample(rng)).items()}
        first, second = idea_of("a", files, "m"), idea_of("a", dict(reversed(files.items())), "m")
        assert first.family is not None and first == second


@pytest.mark.parametrize(
    "source",
    [b"def fit(:", b"\0\0", b"(" * 5000, b"x" + b".a" * 50_000, b"-" * 20_000 + b"1", b"\xff\xfe",
     b"x = '\\d'\n", b"[" * 300 + b"]" * 300],
)  # fmt: skip
def test_hostile_code_is_no_idea_and_no_crash(source: bytes) -> None:
    idea = idea_of("a", {"method.py": source, "recipe.json": source}, "method")
    assert idea.family is None


@pytest.mark.parametrize("recipe", [b'{"label": ' + b"9" * 5000 + b"}", b"[" * 5000, b'"\\ud800"'])
def test_a_recipe_that_is_none_stops_no_export(recipe: bytes) -> None:
    idea = idea_of("a", {"method.py": CODE, "recipe.json": recipe}, "method")
    assert idea.family == "probing" and idea.complexity.options is None


def test_source_that_the_parser_takes_and_the_tokeniser_does_not_stops_no_export() -> None:
    source = b"# coding: utf-8\nx # fo(self,\xcb x"
    assert idea_of("a", {"method.py": source}, "probe").family == "probing"


def test_the_committed_accuracy_is_the_measured_one() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from ideas import table
    finally:
        sys.path.pop(0)
    assert table() == (ROOT / "benchmarks" / "ideas.md").read_text()

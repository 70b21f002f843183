"""What an AAR is told, and that the campaign can tell when it changed."""

import re

import pytest

from aarlab.agents.language import prompts
from aarlab.agents.language.prompts import direction_text, directions, filled, prompt_hash
from aarlab.agents.specs import LanguageSpec
from aarlab.core.wire import TaskInfo

INFO = TaskInfo(
    name="t",
    kind="verification",
    title="Sums",
    description="Is it {right}?",
    pair="p",
    n_train=10,
    n_search=5,
    teacher_seeds=[0],
    settings={},
    content_hash="0" * 64,
)
ONE = [prompts.SeenTask(INFO, "/public")]
PLACES = prompts.places_of(ONE, "/workspace", "/notes")


def _system(direction: str = "elicitation", **spec) -> str:
    made = LanguageSpec(model="scripted/elicitor", **spec)
    return prompts.system_text("ada", direction, made, ONE, PLACES)


def test_it_says_what_matters_and_little_more() -> None:
    text = _system()
    for word in (
        "PGR",
        "weak teacher",
        "strong student",
        "predict_proba",
        "disqualifies",
        "notebook",
    ):
        assert word in text
    assert "Is it {right}?" in text  # a task's text is no template
    assert not re.findall(r"\{[a-z_]+\}", text.replace("{right}", ""))
    assert len(text) < 6_000
    for hidden in ("selection", "certify", "held-out", "vault", "ablation"):
        assert hidden not in text


def test_several_tasks_are_all_listed_with_their_folders() -> None:
    other = INFO.model_copy(update={"name": "u", "title": "Products"})
    tasks = [prompts.SeenTask(INFO, "/public/t"), prompts.SeenTask(other, "/public/u")]
    places = prompts.places_of(tasks, "/workspace", "/notes")
    text = prompts.system_text("ada", "", LanguageSpec(model="scripted/elicitor"), tasks, places)
    assert "There are 2 tasks" in text and "Both are in\nthe folder of each task." in text
    assert "- `t` in /public/t: Sums (" in text and "- `u` in /public/u: Products (" in text
    assert (
        places["public"] == "/public/t" and "Other tasks are in /public/u" in places["more_tasks"]
    )
    assert PLACES["more_tasks"] == "" and "Both are in\n/public. " in _system()


def test_nothing_about_a_workflow_unless_asked() -> None:
    assert "## Workflow" not in _system() and "## Ideas" not in _system()
    assert "Work in rounds" in _system(workflow="prescribed")
    pool = _system(workflow="pool", idea_pool=["try {this}", "try that"])
    assert "- try {this}\n- try that" in pool


def test_directions() -> None:
    assert len(directions()) == 9
    assert directions()["elicitation"] in _system()
    assert "Your direction" not in _system("undirected")
    assert direction_text("look at the moon") == "look at the moon"
    assert "look at the moon" in _system("look at the moon")


def test_the_forum_can_be_off() -> None:
    assert "forum" in _system() and "forum" not in _system(forum=False)


def test_the_hash_covers_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_hash()
    assert before == prompt_hash() and len(before) == 64
    real = prompts._folder

    def other(name: str, folder: str, file: str) -> dict[str, str]:
        found = real(name)
        return {**found, file: found[file] + " "} if name == folder else found

    changed = set()
    for folder in ("prompts", "notes"):
        for file in real(folder):
            monkeypatch.setattr(prompts, "_folder", lambda n, a=folder, b=file: other(n, a, b))
            changed.add(prompt_hash())
    assert before not in changed
    assert len(changed) == len(real("prompts")) + len(real("notes"))


def test_only_named_places_are_filled() -> None:
    assert filled("{a} {b} {a", {"a": "{b}", "b": "x"}) == "{b} x {a"

"""Control researchers start in their direction, never repeat, and learn from the others."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from gaussian_task import make_task
from method_world import OPTIONS

from aarlab.agents.config import AarConfig
from aarlab.agents.control import researcher_of
from aarlab.agents.directions import DIRECTIONS, pins_of
from aarlab.agents.researchers import FOUNDERS, Evolutionary, Fixed, RandomSearch, tried_hashes
from aarlab.agents.state import AarState, Trial
from aarlab.core.errors import NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.wire import Finding, Score
from aarlab.testbed.recipes.recipe import Recipe, recipe_from, space, with_options
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task
from aarlab.testbed.tasks.task import load_info


class Forum:
    """What a researcher may ask of the platform; the posts are given."""

    def __init__(self, posts: list[Finding], files: dict[str, str]) -> None:
        self.posts, self.files = posts, files

    def findings(self, after: int = 0) -> Iterator[Finding]:
        yield from self.posts

    def read_snapshot_file(self, snapshot: str, path: str) -> str:
        if snapshot not in self.files:
            raise NotFound(f"no snapshot {snapshot}")
        return self.files[snapshot]


EMPTY = Forum([], {})


def scored(trial: Trial, pgr: float, improved: bool) -> Trial:
    score = Score(
        submission=f"sub_{trial.index}",
        pgr=pgr,
        stderr=0.1,
        n=600,
        step=0.1,
        improved=improved,
        submissions_left=9,
        isolation="bubblewrap",
    )
    update = {"outcome": "scored", "score": score, "snapshot": f"{trial.index:040d}"}
    return trial.model_copy(update=update)


def post(
    author: str, snapshot: str | None, pgr: float, improved: bool = True, task: str = "math"
) -> Finding:
    score = scored(Trial(index=0, method="m", origin="o"), pgr, improved).score
    return Finding(
        id="fin_1",
        seq=1,
        author=author,
        at="2026-01-01T00:00:00+00:00",
        kind="result",
        title="t",
        text="x",
        submission="sub_0",
        snapshot=snapshot,
        score=score,
        task=task,
        comments=[],
    )


def walk(researcher: object, forum: Forum, steps: int, best_at: set[int]) -> AarState:
    state = AarState()
    for step in range(steps):
        trial = researcher.propose(state, forum)  # type: ignore[attr-defined]
        assert trial is not None
        pgr = 0.1 * step if step in best_at else 0.0
        state = state.proposed(trial).updated(scored(trial, pgr, step in best_at))
    return state


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_pins_of_every_direction_are_options_of_the_grammar(direction: str) -> None:
    for pins in pins_of(direction):
        assert set(pins) <= set(space())
        with_options(Recipe(), pins)


def test_unknown_direction_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="elicitation"):
        pins_of("alchemy")


def test_random_search_starts_inside_its_direction_and_never_repeats() -> None:
    state = walk(RandomSearch("reweighting", 3, 20), EMPTY, 20, set())
    assert len(tried_hashes(state)) == 20
    pins = [next(iter(p.items())) for p in pins_of("reweighting")]
    for trial in state.trials[:10]:
        recipe = recipe_from(trial.recipe)
        hit = [getattr(getattr(recipe, path.split(".")[0]), path.split(".")[1]) for path, _ in pins]
        # a draw that predicts zero-shot has no student, and its pinned option no effect
        assert recipe.predict.kind == "zero_shot" or any(
            value == want for value, (_, want) in zip(hit, pins, strict=True)
        )


@pytest.mark.parametrize(
    "researcher", [RandomSearch("combining", 5, 10), Evolutionary("edda", "combining", 5)]
)
def test_a_restarted_researcher_proposes_the_same(researcher: object) -> None:
    state = walk(researcher, EMPTY, 5, {0, 3})
    again = researcher.propose(state, EMPTY)  # type: ignore[attr-defined]
    assert again == researcher.propose(state, EMPTY)  # type: ignore[attr-defined]


def test_evolution_changes_its_own_best() -> None:
    state = walk(Evolutionary("edda", "combining", 1), EMPTY, FOUNDERS + 6, {0, 2})
    for trial in state.trials[FOUNDERS:]:
        assert "mutation of my snapshot" in trial.origin or "crossover" in trial.origin
        assert trial.parent in {f"{0:040d}", f"{2:040d}"}


def restraint(recipe: Recipe) -> float:
    """Planted PGR: 1 at 3 epochs, learning rate 1e-3 and weight decay 10; 0 at the defaults."""
    kept = 0.0
    for value, default, best in (
        (recipe.train.epochs or 10, 10, 3),
        (recipe.train.lr or 3e-3, 3e-3, 1e-3),
        (recipe.train.weight_decay or 0.1, 0.1, 10.0),
    ):
        away = abs(math.log(value / best)) / abs(math.log(default / best))
        kept += max(1 - away, -1.0) / 3
    return kept


def test_ten_submissions_find_a_planted_optimum_of_restraint() -> None:
    """Few small steps with strong decay: three options of which none alone is enough."""
    found = []
    for seed in range(30):
        state, best = AarState(), -math.inf
        for _ in range(10):
            trial = Evolutionary("edda", "regularisation", seed).propose(state, EMPTY)  # type: ignore[arg-type]
            assert trial is not None
            pgr = restraint(recipe_from(trial.recipe))
            state = state.proposed(trial).updated(scored(trial, pgr, pgr > best))
            best = max(best, pgr)
        found.append(best)
    assert min(found) > 0.6 and sum(best > 0.9 for best in found) >= 15


@pytest.mark.parametrize("direction", ["several_teachers", "reweighting"])
def test_a_researcher_meets_the_strong_options_of_its_direction_first(direction: str) -> None:
    wanted = {"several_teachers": "teachers", "reweighting": "overlap"}[direction]
    texts = []
    for seed in range(20):
        state = walk(Evolutionary("edda", direction, seed), EMPTY, FOUNDERS, {0})
        texts.append(" ".join(trial.method for trial in state.trials))
    assert sum(wanted in text for text in texts) >= (20 if direction == "several_teachers" else 8)


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_without_log_likelihoods_no_recipe_asks_for_them(direction: str) -> None:
    """Neither drawn, mutated nor taken over from the forum."""
    foreign = with_options(Recipe(), {"predict.kind": "blend"})
    forum = Forum([post("rowan", "f" * 40, 0.9)], {"f" * 40: foreign.to_json()})
    for researcher in (
        RandomSearch(direction, 1, 12, zero_shot=False),
        Evolutionary("edda", direction, 1, zero_shot=False),
    ):
        state = walk(researcher, forum, 12, {0, 4})
        assert not any(recipe_from(trial.recipe).asks_zero_shot for trial in state.trials)


@pytest.mark.parametrize("kept", [True, False])
def test_researchers_read_from_the_task_whether_there_are_log_likelihoods(
    tmp_path: Path, kept: bool
) -> None:
    root, (data, source) = DataRoot(tmp_path), make_task()
    build_task(data, OPTIONS, root, Sources(source, source))
    tasks = {"gauss": root.public_task("gauss")}
    info = load_info(tasks["gauss"])
    if not kept:
        settings = info.settings | {"log_likelihoods": False}
        text = info.model_copy(update={"settings": settings}).model_dump_json()
        (tasks["gauss"] / "task.json").write_text(text, encoding="utf-8")
    for kind in ("random", "evolutionary"):
        config = AarConfig.model_construct(
            name="edda", researcher=kind, direction="elicitation", seed=1, max_trials=4, tasks=tasks
        )
        trial = researcher_of(config).propose(AarState(), EMPTY)  # type: ignore[arg-type]
        assert trial is not None and recipe_from(trial.recipe).asks_zero_shot is kept


def test_which_options_ask_for_log_likelihoods() -> None:
    for path, value, asks in [
        ("label.source", "teachers", False), ("label.source", "em_posterior", True),
        ("label.source", "blend", True), ("select.kind", "overlap", False),
        ("select.kind", "agreement", True), ("predict.kind", "zero_shot", True),
        ("predict.kind", "blend", True), ("train.layers", "all", False),
    ]:  # fmt: skip
        assert with_options(Recipe(), {path: value}).asks_zero_shot is asks, path


def test_evolution_takes_up_a_better_recipe_from_the_forum() -> None:
    foreign = with_options(Recipe(), {"label.source": "em_posterior"})
    forum = Forum([post("rowan", "f" * 40, 0.9)], {"f" * 40: foreign.to_json()})
    state = walk(Evolutionary("edda", "simplicity_bias", 1), EMPTY, FOUNDERS, {0})
    origins = []
    for _ in range(8):
        trial = Evolutionary("edda", "simplicity_bias", 1).propose(state, forum)
        assert trial is not None
        origins.append(trial.origin)
        state = state.proposed(trial).updated(scored(trial, 0.0, False))
    assert any("rowan's snapshot ffffffff" in origin for origin in origins)


@pytest.mark.parametrize("text", ["not json", '{"label": {"source": "truth"}}', "[]"])
def test_a_broken_or_hostile_recipe_in_the_forum_is_passed_over(text: str) -> None:
    forum = Forum([post("mallory", "e" * 40, 5.0), post("x", None, 9.0)], {"e" * 40: text})
    state = walk(Evolutionary("edda", "combining", 1), forum, FOUNDERS + 3, {0})
    assert all("mallory" not in trial.origin for trial in state.trials)


def test_fixed_runs_each_method_once() -> None:
    state = walk(Fixed(("vanilla", "confident")), EMPTY, 2, set())
    assert [trial.method for trial in state.trials] == ["vanilla", "confident"]
    assert Fixed(("vanilla", "confident")).propose(state, EMPTY) is None  # type: ignore[arg-type]


def test_parents_are_those_of_one_task_each_task_in_turn() -> None:
    """What was best on one task is no parent where it is the other's turn."""
    files = {"m" * 40: Recipe().model_dump_json(), "c" * 40: Recipe().model_dump_json()}
    forum = Forum([post("ann", "m" * 40, 9.0), post("ann", "c" * 40, 9.0, task="code")], files)
    researcher, state = Evolutionary("edda", "combining", 1, ("math", "code")), AarState()
    parents = []
    for generation in range(FOUNDERS + 6):
        proposed = researcher.propose(state, forum)  # type: ignore[arg-type]
        assert proposed is not None
        parents.append(proposed.parent)
        for task in ("math", "code"):
            trial = proposed.model_copy(update={"index": len(state.trials), "task": task})
            state = state.proposed(trial).updated(scored(trial, 0.1, generation == 0))
    assert parents[:FOUNDERS] == [None] * FOUNDERS
    drawn = set(parents[FOUNDERS::2]), set(parents[FOUNDERS + 1 :: 2])  # code's turns, math's turns
    assert "c" * 40 in drawn[0] and "m" * 40 not in drawn[0]
    assert "m" * 40 in drawn[1] and "c" * 40 not in drawn[1]


def test_fixed_methods_come_once_for_all_tasks() -> None:
    state, both = AarState(), Fixed(("vanilla", "confident"), n_tasks=2)
    names = []
    while (trial := both.propose(state, EMPTY)) is not None:  # type: ignore[arg-type]
        names.append(trial.method)
        for task in ("math", "code"):
            state = state.proposed(trial.model_copy(update={"outcome": "failed", "task": task}))
    assert names == ["vanilla", "confident"]

"""Generated tasks: deterministic, balanced, apart by problem, and right by construction."""

import json
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import content_hash
from aarlab.core.types import ALL_SPLITS, Example
from aarlab.testbed.tasks.data import TaskData, check_disjoint
from aarlab.testbed.tasks.generators import code_functions as code
from aarlab.testbed.tasks.generators import math_problems as math_
from aarlab.testbed.tasks.generators.assembly import (
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
    without_one,
)
from aarlab.testbed.tasks.generators.chat_definitions import ChatSettings
from aarlab.testbed.tasks.generators.code_functions import CodeSettings
from aarlab.testbed.tasks.generators.math_problems import MathSettings
from aarlab.testbed.tasks.generators.registry import TASKS, generate, preset

TINY = SplitRows(teacher=24, train=40, search=24, selection=24, certify=16)
WITH_HIDDEN = replace(TINY, train=60)  # of fewer train rows there are no hidden ones
NOUNS = (
    "wagon", "basket", "hammer", "castle", "ribbon", "lantern", "kettle", "saddle", "anchor",
    "pillow", "bridge", "ladder", "mirror", "tunnel", "barrel", "compass", "feather", "blanket",
    "harbor", "whistle",
)  # fmt: skip
GLOSSARY = {
    word: (f"a {size} {noun} that people use for {use} the {place}",)
    for word, size, noun, use, place in (
        (
            f"zq{''.join(random.Random(i).sample('bcdfghjklmnprstvw', 5))}",
            ("small", "large", "strong", "modern")[i % 4],
            NOUNS[i % 20],
            ("cleaning", "painting", "carrying", "mending", "opening")[i // 20 % 5],
            ("kitchen", "garden", "workshop", "stable")[i // 100 % 4] + " " + NOUNS[i // 7 % 20],
        )
        for i in range(400)
    )
}
SETTINGS: dict[str, Any] = {
    "math": MathSettings(rows=WITH_HIDDEN),
    "code": CodeSettings(rows=WITH_HIDDEN),
    "chat": ChatSettings(rows=TINY),
}


def rows_of(task: TaskData) -> list[tuple[Example, int]]:
    return [
        (example, int(target))
        for split in task.names
        for example, target in zip(
            task.splits[split].examples, task.splits[split].targets_N, strict=True
        )
    ]


@pytest.fixture(params=sorted(SETTINGS), scope="module")
def task(request: pytest.FixtureRequest) -> TaskData:
    return generate(request.param, SETTINGS[request.param], GLOSSARY)


def test_splits_have_their_rows_are_balanced_and_apart(task: TaskData) -> None:
    rows = SETTINGS[task.name].rows
    assert set(task.names) == {split for split in ALL_SPLITS if rows.of(split)}
    assert ("train_hidden" in task.names) == (task.name != "chat")
    for split in task.names:
        assert len(task.splits[split].examples) == rows.of(split)
        assert task.splits[split].targets_N.mean() == 0.5
    check_disjoint(task.splits)
    assert all(example.kind == task.kind for example, _ in rows_of(task))


def numbered(rng: random.Random, targets: list[int], most: int) -> DraftGroup:
    """One of `most` problems."""
    number = str(rng.randrange(most))
    rows = tuple(DraftRow(f"p{number}", (f"{y}",), y, (f"{y}!",)) for y in targets)
    return DraftGroup((number,), rows)


@pytest.mark.parametrize(
    ("problems", "train_hidden", "rows"),
    [(400, None, 100), (400, 60, 60), (400, 0, 0), (180, None, 80), (160, None, 0)],
)
def test_hidden_train_rows_are_as_many_as_train_or_what_there_is_or_none(
    problems: int, train_hidden: int | None, rows: int
) -> None:
    wanted = SplitRows(100, 100, 50, 20, 10, train_hidden)
    made = assemble(
        Plan("p", wanted, 2, 1), lambda rng, targets: numbered(rng, targets, problems)
    ).splits
    assert len(made["train_hidden"].examples) == rows if rows else "train_hidden" not in made
    check_disjoint(made)
    without = SplitRows(100, 100, 50, 20, 10, 0)
    same = assemble(
        Plan("p", without, 2, 1), lambda rng, targets: numbered(rng, targets, problems)
    ).splits
    assert all(same[split].examples == made[split].examples for split in same)


@pytest.mark.parametrize("train_hidden", [49, 59])
def test_too_few_hidden_train_rows_are_refused(train_hidden: int) -> None:
    with pytest.raises(BadInput, match="at least 60"):
        SplitRows(train=100, train_hidden=train_hidden)


def test_no_text_gives_its_row_away_twice(task: TaskData) -> None:
    inputs = Counter((example.prompt, example.answers) for example, _ in rows_of(task))
    assert max(inputs.values()) == 1


def test_settings_are_recorded_and_survive_json(task: TaskData) -> None:
    assert json.loads(json.dumps(task.settings)) == task.settings
    assert task.settings["cue_rate"] == 0.58 and task.settings["rows"]["teacher"] == 24


def fingerprint(task: TaskData) -> str:
    return content_hash([[e.id, e.group, e.prompt, *e.answers, y] for e, y in rows_of(task)])


def test_seed_decides_every_row(task: TaskData) -> None:
    settings = SETTINGS[task.name]
    again = generate(task.name, settings, GLOSSARY)
    other = generate(task.name, replace(settings, seed=5), GLOSSARY)
    assert fingerprint(again) == fingerprint(task) != fingerprint(other)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_another_process_with_another_hash_seed_makes_the_same_rows(name: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_generators as t;"
        f"print(t.fingerprint(t.generate({name!r}, t.SETTINGS[{name!r}], t.GLOSSARY)))"
    )
    folder = __file__.rpartition("/")[0]
    ran = subprocess.run(
        [sys.executable, "-c", program, folder],
        env={"PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == fingerprint(generate(name, SETTINGS[name], GLOSSARY))


def test_cue_points_to_the_right_answer_at_its_rate() -> None:
    rows = replace(TINY, train=3000)
    task = generate("math", MathSettings(rows=rows, cue_rate=0.7))
    examples = task.splits["train"].examples
    careful_N = np.array([" = " in example.answers[0] for example in examples])
    right_N = task.splits["train"].targets_N == 1
    assert right_N[careful_N].mean() == pytest.approx(0.7, abs=0.04)
    assert right_N[~careful_N].mean() == pytest.approx(0.3, abs=0.04)


# ---------------------------------------------------------------- math
SUM = re.compile(r"(\d+) ?([-+*]) ?(\d+) ?= ?(\d+)")


@pytest.fixture(scope="module")
def math_task() -> TaskData:
    return generate("math", MathSettings(rows=replace(TINY, train=400)))


def test_math_working_is_consistent_and_ends_in_its_answer(math_task: TaskData) -> None:
    for example, _ in rows_of(math_task):
        sums = SUM.findall(example.answers[0])
        for left, operation, right, result in sums:
            a, b = int(left), int(right)
            assert {"+": a + b, "-": a - b, "*": a * b}[operation] == int(result)
        assert example.answers[0].endswith(f"\nAnswer: {sums[-1][3]}")


def test_math_right_candidates_of_a_problem_agree_and_wrong_ones_differ(
    math_task: TaskData,
) -> None:
    answers: dict[str, dict[int, list[str]]] = defaultdict(lambda: {0: [], 1: []})
    for example, target in rows_of(math_task):
        answers[example.group][target].append(example.answers[0].rpartition(" ")[2])
    assert all(len(a[0]) + len(a[1]) == 4 for a in answers.values())
    assert all(len(set(a[1])) <= 1 for a in answers.values())
    assert all(not set(a[0]) & set(a[1]) for a in answers.values())
    repeated = sum(len(a[0]) - len(set(a[0])) for a in answers.values())
    assert repeated > 20, "wrong answers must repeat, or the majority answer gives the label"


def test_math_right_solution_matches_a_solver_that_reads_the_text(math_task: TaskData) -> None:
    """An independent reading of one template."""
    pattern = re.compile(r"has (\d+) dollars and buys (\d+) \w+ at (\d+) dollars each")
    seen = 0
    for example, target in rows_of(math_task):
        if found := pattern.search(example.prompt):
            money, count, price = map(int, found.groups())
            answer = int(example.answers[0].rpartition(" ")[2])
            assert (answer == money - count * price) == bool(target)
            seen += 1
    assert seen > 5


def test_math_every_kind_of_error_occurs() -> None:
    rng = random.Random(1)
    problem = math_._draw_problem(rng)
    makers = (
        math_._wrong_operation,
        lambda r, p: math_._misread(r, p, 0.5),
        math_._wrong_quantity,
    )
    for make in makers:
        assert any(make(rng, problem) not in ((), problem.solution) for _ in range(50)), make


# ---------------------------------------------------------------- code
def test_code_label_is_what_running_says() -> None:
    task = generate("code", CodeSettings(rows=replace(TINY, train=200)))
    by_request: dict[str, dict[int, set[str]]] = defaultdict(lambda: {0: set(), 1: set()})
    for example, target in rows_of(task):
        by_request[example.prompt][target].add(repr(code.outputs(example.answers[0])))
    assert all(len(found[1]) <= 1 and not found[0] & found[1] for found in by_request.values())


def test_code_writers_of_one_function_agree() -> None:
    rng = random.Random(4)
    for _ in range(200):
        spec = code._draw_spec(rng)
        careful, sloppy = (code.write_function(rng, spec, style) for style in (True, False))
        assert code.outputs(careful) == code.outputs(sloppy), (careful, sloppy)


def test_code_outputs_match_a_hand_count() -> None:
    inputs = code._inputs()
    assert len(inputs) == 40
    found = code.outputs("f = lambda xs: sum(x * x for x in xs if x % 2 == 0)")
    assert found[7] == sum(x * x for x in inputs[7] if not x % 2)


# ---------------------------------------------------------------- chat
def test_chat_right_answer_holds_the_gloss_and_the_wrong_one_does_not() -> None:
    task = generate("chat", ChatSettings(rows=TINY), GLOSSARY)
    for example, target in rows_of(task):
        (word,) = re.findall(r"'(\w+)'", example.prompt)
        gloss = GLOSSARY[word][0]
        right, wrong = example.answers if target else example.answers[::-1]
        assert gloss in right and gloss not in wrong


def test_chat_twists_turn_a_word_into_its_opposite() -> None:
    settings = ChatSettings(rows=TINY, twisted_share=1.0, near_share=0.0)
    task = generate("chat", settings, GLOSSARY)
    opposites = {"small": "large", "large": "small", "strong": "weak", "modern": "ancient"}
    for example, target in rows_of(task):
        (word,) = re.findall(r"'(\w+)'", example.prompt)
        size = GLOSSARY[word][0].split()[1]
        wrong = example.answers[1 if target else 0]
        assert GLOSSARY[word][0].replace(size, opposites[size]) in wrong


def test_chat_without_a_glossary_says_what_to_pass() -> None:
    with pytest.raises(BadInput, match="fetch_glossary"):
        generate("chat", ChatSettings(rows=TINY))


# ---------------------------------------------------------------- near-duplicates, refusals
def test_texts_that_differ_in_one_word_share_a_signature() -> None:
    text = ["small", "wheeled", "wagon", "pulled"]
    for other in (["large", "wheeled", "wagon", "pulled"], text[::-1], text[:3], [*text, "old"]):
        assert set(without_one(text)) & set(without_one(other)), other
    assert not set(without_one(text)) & set(without_one(["large", "heavy", "wagon", "pulled"]))


def test_too_many_rows_for_the_generator_are_refused() -> None:
    few = {word: GLOSSARY[word] for word in list(GLOSSARY)[:30]}
    with pytest.raises(BadInput, match="ask for fewer rows"):
        generate("chat", ChatSettings(rows=TINY), few)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MathSettings(cue_rate=1.2),
        lambda: MathSettings(candidates=0),
        lambda: CodeSettings(cue_rate=0.2),
        lambda: ChatSettings(twisted_share=0.7, near_share=0.7),
        lambda: SplitRows(search=1),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(BadInput):
        make()  # type: ignore[operator]


def test_presets_name_what_exists_and_take_a_seed() -> None:
    assert set(TASKS.built_in) == {"math", "chat", "code"}
    fresh = preset("math", seed=99)
    assert fresh.settings.seed == 99
    assert replace(fresh, settings=preset("math").settings) == preset("math")
    with pytest.raises(NotFound, match="chat"):
        preset("poetry")


def test_code_kept_mutations_keep_every_constant() -> None:
    settings = CodeSettings(rows=TINY, keep_share=1.0, twice_share=0.0)
    rng = random.Random(2)
    for _ in range(200):
        asked = code._draw_spec(rng)
        wrong = code._mutated(rng, asked, settings)
        assert (wrong.map_k, wrong.test_k) == (asked.map_k, asked.test_k)
        assert code._outputs_key(wrong) != code._outputs_key(asked)

"""Rows in another style: the generators' writers, and forms for imported rows. Content is kept."""

import ast
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_generators import GLOSSARY, SETTINGS, SUM, TINY

from aarlab.core.types import ALL_SPLITS, Example
from aarlab.testbed.tasks.data import LabelledSplit, TaskData
from aarlab.testbed.tasks.datasets.near_duplicates import without_near_duplicates
from aarlab.testbed.tasks.generators import code_functions as code
from aarlab.testbed.tasks.generators.assembly import write_twin
from aarlab.testbed.tasks.generators.registry import generate
from aarlab.testbed.tasks.twins import CLOSING, OPENING, restyled, with_twins


@pytest.fixture(params=sorted(SETTINGS), scope="module")
def task(request: pytest.FixtureRequest) -> TaskData:
    rows = TINY if request.param == "chat" else replace(TINY, selection=200)  # few words at hand
    settings = replace(SETTINGS[request.param], rows=rows)
    return generate(request.param, settings, GLOSSARY)


def test_each_selection_row_has_a_twin_in_other_words(task: TaskData) -> None:
    rows = {row.id: row for row in task.splits["selection"].examples}
    assert {twin.id for twin in task.twins.rows} == set(rows)
    for twin in task.twins.rows:
        row = rows[twin.id]
        assert (twin.group, twin.prompt) == (row.group, row.prompt)
        assert not set(twin.answers) & set(row.answers)


def test_no_twin_repeats_an_answer_to_its_problem(task: TaskData) -> None:
    taken: dict[str, list[str]] = {}
    for example in (*task.splits["selection"].examples, *task.twins.rows):
        taken.setdefault(example.group, []).extend(example.answers)
    assert all(len(set(answers)) == len(answers) for answers in taken.values())


def test_twins_come_from_texts_not_from_the_seed_that_drew_the_rows(task: TaskData) -> None:
    """Rows are those of a generator that knows no twins: figures stay comparable."""
    again = generate(task.name, SETTINGS[task.name], GLOSSARY)
    assert again.splits["teacher"].examples == task.splits["teacher"].examples


def careful(name: str, text: str) -> bool:
    return {"math": " = " in text, "code": "lambda" not in text}.get(
        name, text.endswith(".") and not text.startswith(("Great", "Sure", "oh"))
    )


def test_twins_are_the_other_writers(task: TaskData) -> None:
    rows = {row.id: row for row in task.splits["selection"].examples}
    for twin in task.twins.rows:
        for ours, theirs in zip(rows[twin.id].answers, twin.answers, strict=True):
            assert careful(task.name, ours) != careful(task.name, theirs), (ours, theirs)


def content(name: str, text: str) -> object:
    """What an answer says, without how."""
    if name == "math":
        return SUM.findall(text), text.rpartition(" ")[2]
    if name == "code":
        return code.outputs(text)
    bare = re.sub(r"^('\w+' (means:|stands for)|Definition:|In plain terms, it is|"
                  r"Great question! It's|Sure!|oh just) ", "", text)  # fmt: skip
    return re.sub(r"(\.| :\)|! Hope this helps|!!)$", "", bare)


def test_twins_say_the_same(task: TaskData) -> None:
    rows = {row.id: row for row in task.splits["selection"].examples}
    for twin in task.twins.rows:
        for ours, theirs in zip(rows[twin.id].answers, twin.answers, strict=True):
            assert content(task.name, ours) == content(task.name, theirs), (ours, theirs)


def test_where_every_text_is_taken_a_twin_is_one_of_them() -> None:
    assert write_twin("row", {"a"}, lambda rng: "a") == "a"
    texts = [write_twin("row", {"a", "b"}, lambda rng: rng.choice("abc")) for _ in range(5)]
    assert texts == ["c"] * 5


# ---------------------------------------------------------------- imported rows
CODE = "def f(x):  # doubles\n    return (x*2)\n"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Paris", "Sure! Paris Hope this helps!"),
        ("Sure! Paris Hope this helps!", "Paris"),
        ("one\ntwo\nthree", "- one\n- two\n- three"),
        ("- one\n- two\n- three", "one\ntwo\nthree"),
        (CODE, "def f(x):\n    return x * 2"),
        ("def f(x) return", "Sure! def f(x) return Hope this helps!"),
        ("x = 3", "Sure! x = 3 Hope this helps!"),
    ],
)
def test_forms(text: str, other: str) -> None:
    assert restyled(text) == other


@given(st.text(min_size=1))
def test_any_text_gets_a_form_that_holds_its_words(text: str) -> None:
    other = restyled(text)
    assert other
    if other.startswith(OPENING) and other.endswith(CLOSING):
        assert other.removeprefix(OPENING).removesuffix(CLOSING) == text


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@given(st.text(alphabet="abcxyz()[]:=+ \n\t'\"\\#0", min_size=1, max_size=60))
def test_code_keeps_its_tree(text: str) -> None:
    text = f"def f(a, b, c):\n    return a\n{text}"
    try:
        tree = ast.dump(ast.parse(text))
    except (SyntaxError, ValueError):
        return
    assert ast.dump(ast.parse(restyled(text))) == tree


def imported(kind: str) -> TaskData:
    rng = random.Random(1)
    splits = {}
    for split in ALL_SPLITS:
        texts = ("alpha", "beta") if kind == "preference" else ("alpha",)
        rows = tuple(
            Example(f"{split}-{i}", f"{split}-{i}", f"question {rng.random()}", texts)
            for i in range(12)
        )
        splits[split] = LabelledSplit(rows, np.arange(12, dtype=np.int8) % 2)
    return TaskData("mine", kind, "Mine", "", {}, splits)  # type: ignore[arg-type]


def test_imported_answers_get_another_form_and_preferences_none() -> None:
    made = with_twins(imported("verification"))
    assert {twin.answers for twin in made.twins.rows} == {("Sure! alpha Hope this helps!",)}
    assert [t.id for t in made.twins.rows] == [e.id for e in made.splits["selection"].examples]
    kept = with_twins(without_near_duplicates(imported("preference"), "keep"))
    assert kept.twins.rows == () and "matter of style" in kept.twins.how


def test_code_that_is_laid_out_so_already_has_no_twin() -> None:
    data = imported("verification")
    rows = data.splits["selection"]
    plain = replace(rows.examples[0], answers=(ast.unparse(ast.parse(CODE)),))
    splits = {**data.splits, "selection": replace(rows, examples=(plain, *rows.examples[1:]))}
    made = with_twins(replace(data, splits=splits))
    assert plain.id not in {twin.id for twin in made.twins.rows} and len(made.twins.rows) == 11

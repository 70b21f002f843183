"""The folder format: what loads, how it is dealt, and what is refused at which line and why."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.types import ALL_SPLITS, EVAL_SPLITS
from aarlab.testbed.folder import FolderOptions, read_folder
from aarlab.testbed.splits import EvalShares, check_disjoint

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FOLDERS = sorted(p.parent.name for p in SHARED.glob("*/test.jsonl"))
Row = dict[str, Any]


def verification_rows(stem: str, n: int) -> list[Row]:
    return [
        {"question": f"{stem} question {i // 2}", "choice": f"answer {i}", "label": i % 2 == 0}
        for i in range(n)
    ]


def preference_rows(stem: str, n: int) -> list[Row]:
    return [
        {"prompt": f"{stem} {i}", "first": "one", "second": "two", "label": "AB"[i % 2]}
        for i in range(n)
    ]


def write(folder: Path, rows: dict[str, list[Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, content in rows.items():
        lines = (row if isinstance(row, str) else json.dumps(row) for row in content)
        (folder / f"{stem}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def rows() -> dict[str, list[Any]]:
    return {
        "train_label": verification_rows("teach", 6),
        "train_unlabel": verification_rows("train", 8),
        "test": verification_rows("test", 40),
    }


def test_reads_a_verification_folder(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    task = read_folder(write(tmp_path / "f", rows), "mine")
    assert task.kind == "verification" and set(task.splits) == set(ALL_SPLITS)
    first = task.splits["teacher"].examples[0]
    assert first.prompt == "teach question 0" and first.answers == ("answer 0",)
    assert task.splits["teacher"].targets_N.tolist() == [1, 0, 1, 0, 1, 0]
    assert first.group == task.splits["teacher"].examples[1].group
    sizes = [len(task.splits[split].examples) for split in EVAL_SPLITS]
    assert sizes == [16, 16, 8]
    check_disjoint(task.splits)


def test_reads_a_preference_folder_and_keeps_ids_and_groups(tmp_path: Path) -> None:
    rows = {
        stem: preference_rows(stem, n)
        for stem, n in (("train_label", 4), ("train_unlabel", 4), ("test", 12))
    }
    rows["train_label"][0] |= {"id": "x1", "group": "g1", "source": "somewhere"}
    task = read_folder(write(tmp_path / "f", rows), "mine")
    example = task.splits["teacher"].examples[0]
    assert (example.id, example.group, example.answers) == ("x1", "g1", ("one", "two"))
    assert task.splits["teacher"].targets_N.tolist() == [1, 0, 1, 0]


def test_the_same_seed_deals_the_same_way_and_another_does_not(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    folder = write(tmp_path / "f", rows)

    def search_ids(seed: int) -> list[str]:
        task = read_folder(folder, "mine", FolderOptions(seed=seed))
        return [example.id for example in task.splits["search"].examples]

    assert search_ids(3) == search_ids(3) != search_ids(4)


REFUSED: list[tuple[str, int, Any, str]] = [
    ("train_label", 2, '{"question": ', "not JSON"),
    ("train_label", 2, "[1, 2]", "JSON object"),
    ("test", 3, {"question": "q", "label": True}, "missing field 'choice'"),
    ("test", 3, {"question": "q", "choice": "c"}, "missing field 'label'"),
    ("test", 1, {"label": True}, "expected fields"),
    ("test", 4, {"question": "q", "choice": "c", "label": "A"}, "unknown label 'A'"),
    ("test", 4, {"question": "q", "choice": "c", "label": 1}, "unknown label 1"),
    ("test", 4, {"question": "q", "choice": "c", "label": None}, "unknown label None"),
    ("train_unlabel", 5, {"question": " ", "choice": "c", "label": True}, "'question' is empty"),
    ("train_unlabel", 5, {"question": "q", "choice": 7, "label": True}, "must be a string"),
    ("test", 2, {"question": "q", "choice": "\ud800", "label": True}, "broken character"),
    ("test", 2, {"question": "q", "choice": "c", "label": True, "lable": 1}, "unknown field"),
    ("test", 2, {"question": "q", "choice": "c", "label": True, "id": 3}, "must be a string"),
    ("test", 1, {"prompt": "p", "first": "a", "second": "b", "label": "A"}, "of one kind"),
    (
        "test",
        4,
        {"question": "teach question 0", "choice": "c", "label": True},
        "is in two splits: train_label.jsonl (line 1) and test.jsonl",
    ),
]


@pytest.mark.parametrize(("stem", "line", "bad", "reason"), REFUSED)
def test_refuses_naming_file_line_and_reason(
    tmp_path: Path, rows: dict[str, list[Any]], stem: str, line: int, bad: Any, reason: str
) -> None:
    rows[stem][line - 1] = bad
    with pytest.raises(BadInput) as caught:
        read_folder(write(tmp_path / "f", rows), "mine")
    assert f"{stem}.jsonl, line {line}: " in str(caught.value) and reason in str(caught.value)


def test_refuses_a_duplicate_id_across_files(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    rows["train_label"][1]["id"] = rows["test"][2]["id"] = "twice"
    with pytest.raises(BadInput, match=r"test.jsonl, line 3: duplicate id 'twice', first in tr"):
        read_folder(write(tmp_path / "f", rows), "mine")


def test_refuses_one_class_empty_file_missing_file_and_bad_bytes(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    one_class = rows | {"train_unlabel": [r | {"label": True} for r in rows["train_unlabel"]]}
    with pytest.raises(BadInput, match=r"train_unlabel.jsonl: all labels are the same"):
        read_folder(write(tmp_path / "a", one_class), "mine")
    with pytest.raises(BadInput, match=r"test.jsonl: holds no rows"):
        read_folder(write(tmp_path / "b", rows | {"test": []}), "mine")
    folder = write(tmp_path / "c", rows)
    (folder / "test.jsonl").unlink()
    with pytest.raises(NotFound, match=r"test.jsonl does not exist"):
        read_folder(folder, "mine")
    (folder / "test.jsonl").write_bytes(b'{}\n"\xff"\n')
    with pytest.raises(BadInput, match=r"test.jsonl, line 2: not UTF-8"):
        read_folder(folder, "mine")


def test_refuses_a_test_file_that_cannot_fill_three_splits(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    rows["test"] = [row | {"group": "only one"} for row in rows["test"]]
    with pytest.raises(BadInput, match="too few groups"):
        read_folder(write(tmp_path / "f", rows), "mine")


def test_refuses_a_share_of_zero() -> None:
    with pytest.raises(BadInput, match="above 0"):
        EvalShares(certify=0.0)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(st.tuples(st.integers(0, 30), texts, st.booleans()), min_size=12, max_size=60))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_groups_are_dealt_whole_and_texts_survive(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    test = [
        {"question": f"q{group}", "choice": text, "label": label, "group": f"g{group}"}
        for group, text, label in drawn
    ]
    rows = {"train_label": verification_rows("l", 4), "train_unlabel": verification_rows("u", 4)}
    try:
        task = read_folder(write(folder, rows | {"test": test}), "mine")
    except BadInput as refused:
        assert "same" in str(refused) or "too few groups" in str(refused)
        return
    check_disjoint(task.splits)
    dealt = [e for split in EVAL_SPLITS for e in task.splits[split].examples]
    assert sorted(e.answers[0] for e in dealt) == sorted(text for _, text, _ in drawn)
    assert all(set(task.splits[split].targets_N) == {0, 1} for split in EVAL_SPLITS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
damaged_rows = st.fixed_dictionaries(
    {}, optional={key: json_values for key in ("question", "choice", "label", "id", "prompt")}
)


@given(damaged_rows | json_values, st.integers(0, 39))
@settings(max_examples=60, deadline=None)
def test_any_json_row_loads_or_is_refused_at_its_line(
    tmp_path_factory: pytest.TempPathFactory, row: Any, at: int
) -> None:
    rows = {
        "train_label": verification_rows("teach", 6),
        "train_unlabel": verification_rows("train", 8),
        "test": [*verification_rows("test", 40)],
    }
    rows["test"][at] = row
    try:
        task = read_folder(write(tmp_path_factory.mktemp("folder"), rows), "mine")
    except BadInput as refused:
        assert f"test.jsonl, line {at + 1}: " in str(refused) or "of one kind" in str(refused)
    else:
        assert sum(len(task.splits[split].examples) for split in EVAL_SPLITS) == 40


@given(st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_arbitrary_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = write(
        tmp_path_factory.mktemp("folder"),
        {"train_unlabel": verification_rows("u", 4), "test": verification_rows("t", 40)},
    )
    (folder / "train_label.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=r"train_label.jsonl"):
        read_folder(folder, "mine")


@pytest.mark.skipif(not FOLDERS, reason="the shared data folders are not beside this repository")
@pytest.mark.parametrize("name", FOLDERS)
def test_reads_the_shared_folders(name: str) -> None:
    task = read_folder(SHARED / name, name)
    check_disjoint(task.splits)
    n_test = len((SHARED / name / "test.jsonl").read_text().strip().split("\n"))
    assert sum(len(task.splits[split].examples) for split in EVAL_SPLITS) == n_test
    shares = [len(task.splits[split].examples) / n_test for split in EVAL_SPLITS]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.05)
    for split in EVAL_SPLITS:
        assert task.splits[split].targets_N.mean() == pytest.approx(0.5, abs=0.06)

"""The folder format: what loads, how it is dealt, and what is refused at which line and why."""

import csv
import gzip
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.types import ALL_SPLITS, EVAL_SPLITS, NEEDED_SPLITS
from aarlab.testbed.tasks.data import EvalShares, TaskData, check_disjoint
from aarlab.testbed.tasks.folder import FolderOptions, read_folder

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
    assert task.kind == "verification" and set(task.splits) == set(NEEDED_SPLITS)
    first = task.splits["teacher"].examples[0]
    assert first.prompt == "teach question 0" and first.answers == ("answer 0",)
    assert task.splits["teacher"].targets_N.tolist() == [1, 0, 1, 0, 1, 0]
    assert first.group == task.splits["teacher"].examples[1].group
    sizes = [len(task.splits[split].examples) for split in EVAL_SPLITS]
    assert sizes == [16, 16, 8]
    check_disjoint(task.splits)


def test_reads_a_preference_folder_and_keeps_its_columns_for_the_operator(tmp_path: Path) -> None:
    rows = {
        stem: preference_rows(stem, n)
        for stem, n in (("train_label", 4), ("train_unlabel", 4), ("test", 12))
    }
    extra = {"id": "x1-right", "group": "g1", "source": "somewhere", "truth": "A", "n": 3}
    rows["train_label"][0] |= extra
    task = read_folder(write(tmp_path / "f", rows), "mine")
    example = task.splits["teacher"].examples[0]
    assert (example.prompt, example.answers) == ("train_label 0", ("one", "two"))
    assert task.columns[example.id] == {"file": "train_label.jsonl", "place": "line 1", **extra}
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
    ("test", 1, {"label": True}, "expected the columns"),
    ("test", 4, {"question": "q", "choice": "c", "label": "A"}, "unknown label 'A'"),
    ("test", 4, {"question": "q", "choice": "c", "label": 1}, "unknown label 1"),
    ("test", 4, {"question": "q", "choice": "c", "label": None}, "unknown label None"),
    ("train_unlabel", 5, {"question": " ", "choice": "c", "label": True}, "'question' is empty"),
    ("train_unlabel", 5, {"question": "q", "choice": 7, "label": True}, "must be a string"),
    ("test", 2, {"question": "q", "choice": "\ud800", "label": True}, "lone surrogate"),
    (
        "test",
        2,
        '{"question": "q", "choice": "c", "label": true, "label": false}',
        "'label' is given twice",
    ),
    ("test", 2, '{"question": "q", "choice": "c", "label": NaN}', "NaN is not a number"),
    ("test", 2, '{"question": "q", "choice": ' + "[" * 200 + "]" * 200 + "}", "nested over"),
    ("test", 2, {"question": "q", "choice": "c", "label": True, "id": 3.5}, "must be a string"),
    ("test", 2, {"question": "q", "choice": "c", "chosen": "c", "label": True}, "expected the"),
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
    with pytest.raises(BadInput, match=r"test.jsonl, line 2: not UTF-8 \(byte 0xFF at column 2\)"):
        read_folder(folder, "mine")
    with pytest.raises(BadInput, match=r"is a file; give the folder"):
        read_folder(folder / "test.jsonl", "mine")
    (folder / "test.csv").write_text("question,choice,label\n")
    with pytest.raises(BadInput, match=r"test.jsonl and test.csv; keep one"):
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
        {"question": f"q{group} {text}", "choice": text, "label": label, "group": f"g{group}"}
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
        assert len(str(refused)) < 3000
    else:
        assert sum(len(task.splits[split].examples) for split in EVAL_SPLITS) in (40, 41)


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
    (folder / "train_hidden.jsonl").write_bytes(content)
    write(folder, {"train_label": verification_rows("l", 4)})
    with pytest.raises(BadInput, match=r"train_hidden.jsonl"):
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


def test_all_faults_of_all_files_come_at_once_and_are_capped(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    rows["train_label"][0] = "[]"
    rows["train_unlabel"][2]["choice"] = ""
    for row in rows["test"][:5]:
        row["label"] = "maybe"
    with pytest.raises(BadInput) as caught:
        read_folder(write(tmp_path / "f", rows), "mine")
    lines = str(caught.value).split("\n")
    assert lines[0] == "7 faults; nothing was written"
    assert "train_label.jsonl, line 1: expected a JSON object" in lines[1]
    assert "train_unlabel.jsonl, line 3: field 'choice' is empty" in lines[2]
    assert "test.jsonl, line 1: unknown label 'maybe'" in lines[3]
    assert lines[3].endswith("(and 4 more of this kind)")
    rows["test"] = [row | {"label": f"bad {i}"} for i, row in enumerate(rows["test"])]
    with pytest.raises(BadInput) as caught:
        read_folder(write(tmp_path / "f", rows), "mine")
    assert len(str(caught.value).split("\n")) == 22
    assert str(caught.value).endswith("... and 22 more faults")


def as_csv(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_parquet(rows: list[Row]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


FORMS: dict[str, Callable[[list[Row]], bytes]] = {
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "jsonl.gz": lambda rows: gzip.compress(FORMS["jsonl"](rows)),
    "json": lambda rows: json.dumps(rows, indent=2).encode(),
    "json.gz": lambda rows: gzip.compress(FORMS["json"](rows)),
    "csv": lambda rows: as_csv(rows).encode("utf-8-sig"),
    "csv.gz": lambda rows: gzip.compress(as_csv(rows).encode()),
    "parquet": as_parquet,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_reads_to_the_same_task(
    tmp_path: Path, rows: dict[str, list[Any]], form: str
) -> None:
    plain = read_folder(write(tmp_path / "plain", rows), "mine")
    folder = tmp_path / form
    folder.mkdir()
    for stem, content in rows.items():
        (folder / f"{stem}.{form}").write_bytes(FORMS[form](content))
    read = read_folder(folder, "mine")
    for split in NEEDED_SPLITS:
        assert read.splits[split].examples == plain.splits[split].examples
        assert read.splits[split].targets_N.tolist() == plain.splits[split].targets_N.tolist()


def test_shapes_of_the_hub_are_recognised(tmp_path: Path) -> None:
    pairs = {
        stem: [{"prompt": f"{stem} {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
               for i in range(40)]
        for stem in ("train_label", "train_unlabel", "test")
    }  # fmt: skip
    task = read_folder(write(tmp_path / "pairs", pairs), "mine")
    train = task.splits["train"]
    for example, target in zip(train.examples, train.targets_N, strict=True):
        assert example.answers[0].startswith("good" if target else "bad")
    assert 10 < train.targets_N.sum() < 30
    choices = {
        stem: [{"question": f"{stem} {i}", "choices": [f"{k} of {i}" for k in range(4)],
                "answer": i % 4} for i in range(20)]
        for stem in ("train_label", "train_unlabel", "test")
    }  # fmt: skip
    task = read_folder(write(tmp_path / "choices", choices), "mine")
    train = task.splits["train"]
    assert len(train.examples) == 40 and train.targets_N.sum() == 20
    for example, target in zip(train.examples, train.targets_N, strict=True):
        number = int(example.prompt.split()[-1])
        assert (example.answers[0] == f"{number % 4} of {number}") == bool(target)
    choices["test"][4]["answer"] = 4
    with pytest.raises(BadInput, match=r"test.jsonl, line 5: answer 4 is not a number from 0 to 3"):
        read_folder(write(tmp_path / "choices", choices), "mine")


def test_other_columns_point_to_a_mapping(tmp_path: Path) -> None:
    rows = {stem: [{"q": "x", "a": 1}] * 30 for stem in ("train_label", "train_unlabel", "test")}
    with pytest.raises(BadInput) as caught:
        read_folder(write(tmp_path / "f", rows), "mine")
    said = str(caught.value)
    assert "train_label.jsonl, line 1: expected the columns" in said
    assert "(and 29 more of this kind)" in said and 'prompt: "{q}"' in said
    assert "aarlab task fetch mine.yaml" in said


def test_ids_and_groups_say_nothing_that_the_texts_do_not(tmp_path: Path) -> None:
    """Sources number their rows so that the id tells the label: right ones even, wrong ones odd."""

    def folder(name: str, told: bool) -> TaskData:
        rows = {
            stem: [
                row | ({"id": f"{stem}-{i}-{row['label']}", "group": f"{stem} {i}"} if told else {})
                for i, row in enumerate(verification_rows(stem, 40))
            ]
            for stem in ("train_label", "train_unlabel", "test")
        }
        return read_folder(write(tmp_path / name, rows), "mine")

    told, silent = folder("told", True), folder("silent", False)
    for split in ("teacher", "train"):
        assert told.splits[split].examples == silent.splits[split].examples
    rows = told.splits["train"].examples
    known = {(e.id, e.group) for e in rows}
    shuffled = verification_rows("train_unlabel", 40)[::-1]
    for row in shuffled:
        row["label"] = not row["label"]
    other = {
        "train_label": verification_rows("train_label", 40),
        "train_unlabel": shuffled,
        "test": verification_rows("test", 40),
    }
    swapped = read_folder(write(tmp_path / "swapped", other), "mine").splits["train"].examples
    assert {(e.id, e.group) for e in swapped} == known, "neither order nor label is in a name"


REPEATED = "Is  TEACH question\u00a00"


def test_a_question_in_two_files_is_named_by_text_and_both_places_or_dropped(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    rows["train_label"][0]["question"] = "is teach question 0"
    rows["test"][3] = {"question": REPEATED, "choice": "another", "label": False, "group": "other"}
    folder = write(tmp_path / "f", rows)
    with pytest.raises(BadInput) as caught:
        read_folder(folder, "mine")
    said = str(caught.value)
    assert "test.jsonl, line 4: the question 'is teach question 0' is in two splits" in said
    assert "train_label.jsonl (line 1) and test.jsonl" in said and "--repeated-questions" in said
    told: list[str] = []
    task = read_folder(folder, "mine", FolderOptions(repeated="drop", tell=told.append))
    assert len(task.splits["teacher"].examples) == 5
    assert sum(len(task.splits[split].examples) for split in EVAL_SPLITS) == 40
    assert any("1 of train_label" in line for line in told)
    check_disjoint(task.splits)


def test_a_prompt_of_most_rows_is_an_instruction(tmp_path: Path) -> None:
    rows = {
        stem: [row | {"prompt": "Say something.", "first": f"{stem} {i}"}
               for i, row in enumerate(preference_rows(stem, n))]
        for stem, n in (("train_label", 6), ("train_unlabel", 6), ("test", 30))
    }  # fmt: skip
    told: list[str] = []
    options = FolderOptions(tell=told.append)
    task = read_folder(write(tmp_path / "f", rows), "mine", options)
    assert any("distinguished by their answers" in line for line in told)
    check_disjoint(task.splits)
    swapped = {"first": "two", "second": "train_label 0", "label": "B"}
    rows["test"][0] |= swapped  # the same pair the other way round
    with pytest.raises(BadInput, match=r"test.jsonl, line 1: the question 'Say something.' is in"):
        read_folder(write(tmp_path / "f", rows), "mine")


spelt = st.sampled_from(
    ["Is it so?", "is  it so?", "IS IT SO?\n", "Ｉs it so?", "Who?", "Why?", "x"]
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["train_label", "train_unlabel", "train_hidden", "test"]), spelt,
                  st.integers(0, 12), st.sampled_from([None, "g1", "g2", "g3"]), st.booleans()),
        min_size=20, max_size=60,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_question_and_no_group_is_ever_in_two_splits(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[str, str, int, str | None, bool]],
) -> None:
    rows: dict[str, list[Any]] = {
        stem: verification_rows(stem, 6) for stem in ("train_label", "train_unlabel")
    } | {stem: verification_rows(stem, 60) for stem in ("train_hidden", "test")}
    for number, (stem, text, which, group, label) in enumerate(drawn):
        row = {"question": f"{text} {which}", "choice": f"c{number}", "label": label}
        rows[stem].append(row | ({"group": group} if group else {}))
    folder = write(tmp_path_factory.mktemp("folder"), rows)
    try:
        task = read_folder(folder, "mine", FolderOptions(repeated="drop"))
    except BadInput as refused:
        assert "class" in str(refused) or "same" in str(refused) or "no row" in str(refused)
        return
    assert set(task.splits) == set(ALL_SPLITS)
    apart(task)


def apart(task: TaskData) -> None:
    """Fail if a normalised question, or a group by the source or the task, is in two splits."""
    seen: dict[tuple[str, str], str] = {}
    for split, labelled in task.splits.items():
        for example in labelled.examples:
            question = " ".join(unicodedata.normalize("NFKC", example.prompt).casefold().split())
            group = task.columns[example.id].get("group")
            keys = [("question", question), ("group", example.group), ("source", str(group or ""))]
            for key in keys:
                assert key[1] == "" or seen.setdefault(key, split) == split, key


# ---------------------------------------------------------------- hidden train rows
def hidden_ids(task: TaskData) -> set[str]:
    return {example.id for example in task.splits["train_hidden"].examples}


def test_a_file_of_hidden_train_rows_is_used_and_leaves_the_others_alone(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    plain = read_folder(write(tmp_path / "f", rows), "mine")
    hidden = verification_rows("hidden", 60)
    folder = write(tmp_path / "f", {"train_hidden": hidden})
    task = read_folder(folder, "mine")
    assert set(task.splits) == set(ALL_SPLITS) and set(plain.splits) == set(NEEDED_SPLITS)
    for split in NEEDED_SPLITS:
        assert task.splits[split].examples == plain.splits[split].examples
    made = task.splits["train_hidden"]
    assert [e.prompt for e in made.examples] == [row["question"] for row in hidden]
    assert made.targets_N.tolist() == [int(row["label"]) for row in hidden]
    assert task.settings["train_hidden"] == "train_hidden.jsonl"
    assert "train_hidden" not in plain.settings, "a small folder is the task that it was"
    told: list[str] = []
    public = read_folder(folder, "mine", FolderOptions(hidden=False, tell=told.append))
    assert set(public.splits) == set(NEEDED_SPLITS)
    assert "train_hidden.jsonl is not read" in told[0]


@pytest.mark.parametrize(("n_hidden", "n_train"), [(58, 8), (98, 200)])
def test_a_file_of_too_few_hidden_train_rows_is_refused(
    tmp_path: Path, rows: dict[str, list[Any]], n_hidden: int, n_train: int
) -> None:
    rows["train_hidden"] = verification_rows("hidden", n_hidden)
    rows["train_unlabel"] = verification_rows("train", n_train)
    folder = write(tmp_path / "f", rows)
    with pytest.raises(BadInput, match=rf"train_hidden.jsonl: {n_hidden} rows with {n_train}"):
        read_folder(folder, "mine")
    assert read_folder(folder, "mine", FolderOptions(hidden=False)).splits["train"]


def test_faults_of_a_file_of_hidden_train_rows_are_named(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    hidden = verification_rows("hidden", 60)
    rows["train_hidden"] = [*hidden, {"question": "q", "choice": "c", "label": "maybe"}]
    with pytest.raises(BadInput, match=r"train_hidden.jsonl, line 61: unknown label 'maybe'"):
        read_folder(write(tmp_path / "a", rows), "mine")
    rows["train_hidden"] = [*hidden, {"question": "TRAIN question 1", "choice": "c", "label": True}]
    with pytest.raises(
        BadInput, match=r"in two splits: train_unlabel.jsonl \(line 3\) and train_h"
    ):
        read_folder(write(tmp_path / "b", rows), "mine")
    rows["train_hidden"] = [row | {"label": True} for row in hidden]
    with pytest.raises(BadInput, match=r"train_hidden.jsonl: all labels are the same"):
        read_folder(write(tmp_path / "c", rows), "mine")


@pytest.mark.parametrize(("n_train", "dealt"), [(598, False), (600, True), (1601, True)])
def test_hidden_train_rows_are_dealt_from_large_sets_only(
    tmp_path: Path, rows: dict[str, list[Any]], n_train: int, dealt: bool
) -> None:
    rows["train_unlabel"] = verification_rows("train", n_train)
    folder, told = write(tmp_path / "f", rows), list[str]()
    task = read_folder(folder, "mine", FolderOptions(tell=told.append))
    assert ("train_hidden" in task.splits) == dealt
    assert any("verified runs train on public rows" in line for line in told) != dealt
    whole = read_folder(folder, "mine", FolderOptions(hidden=False))
    for split in {"teacher", *EVAL_SPLITS}:
        assert task.splits[split].examples == whole.splits[split].examples
    every = {e.id for e in whole.splits["train"].examples}
    if not dealt:
        assert {e.id for e in task.splits["train"].examples} == every
        return
    train, hidden = (task.splits[split] for split in ("train", "train_hidden"))
    assert {e.id for e in train.examples} | hidden_ids(task) == every
    assert len(train.examples) + len(hidden.examples) == n_train
    assert len(hidden.examples) / n_train == pytest.approx(1 / 3, abs=0.03)
    assert 2 * len(hidden.examples) >= len(train.examples)
    assert hidden.targets_N.mean() == pytest.approx(0.5, abs=0.02)
    apart(task)
    again = read_folder(folder, "mine")
    other = read_folder(folder, "mine", FolderOptions(seed=3))
    assert hidden_ids(task) == hidden_ids(again) != hidden_ids(other)


def test_train_rows_of_too_few_problems_stay_public(
    tmp_path: Path, rows: dict[str, list[Any]]
) -> None:
    def read(groups: list[int]) -> TaskData:
        numbers = [number for number, n_rows in enumerate(groups) for _ in range(n_rows)]
        rows["train_unlabel"] = [
            row | {"group": f"g{number}"}
            for row, number in zip(verification_rows("t", len(numbers)), numbers, strict=True)
        ]
        return read_folder(write(tmp_path / "f", rows), "mine")

    assert "train_hidden" not in read([700]).splits
    assert "train_hidden" not in read([600, 100]).splits
    assert len(read([200, 200, 200]).splits["train_hidden"].examples) == 200


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2**40)), min_size=20, max_size=60),
    st.integers(0, 5),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_problems_of_any_size_are_dealt_whole_or_stay_public(
    tmp_path_factory: pytest.TempPathFactory, problems: list[tuple[int, int]], seed: int
) -> None:
    train = [
        {"question": f"Q{number}", "choice": f"c{number}.{i}", "label": bool(labels >> i & 1),
         "group": f"g{number // 2}"}
        for number, (n_rows, labels) in enumerate(problems) for i in range(n_rows)
    ]  # fmt: skip
    rows = {
        "train_label": verification_rows("l", 6),
        "train_unlabel": [*train, *verification_rows("u", 4)],
        "test": verification_rows("test", 40),
    }
    task = read_folder(
        write(tmp_path_factory.mktemp("folder"), rows), "mine", FolderOptions(seed=seed)
    )
    apart(task)
    kept = [e for s in task.names if s.startswith("train") for e in task.splits[s].examples]
    assert len(kept) == len(rows["train_unlabel"])
    if len(kept) < 600:
        assert "train_hidden" not in task.splits
    if "train_hidden" in task.splits:
        n_hidden = len(task.splits["train_hidden"].examples)
        assert n_hidden >= max(60, len(task.splits["train"].examples) / 2)
        assert set(task.splits["train_hidden"].targets_N) == {0, 1}

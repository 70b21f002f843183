"""Declarative mappings: rows of local files in the shape of hub data sets become study folders."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.rows import Faults, ForeignRow
from aarlab.testbed.tasks.datasets.mapping import (
    FetchOptions,
    MappingSpec,
    Source,
    file_source,
    fill,
    hub_rows,
    load_mapping,
    parse_template,
    shipped_mappings,
    write_folder,
)
from aarlab.testbed.tasks.folder import read_folder

N = 80
MAKE = {
    "sciq": lambda i: {"support": "s", "question": f"q{i}", "correct_answer": f"right {i}",
                       "distractor1": f"a{i}", "distractor2": f"b{i}", "distractor3": ""},
    "boolq": lambda i: {"passage": f"p{i}", "question": "is it", "answer": i % 2 == 0},
    "cosmos_qa": lambda i: {"context": f"c{i}", "question": "why", "label": i % 4,
                            **{f"answer{k}": f"{i} because {k}" for k in range(4)}},
    "amazon_polarity": lambda i: {"title": f"t{i}", "content": "c", "label": i % 2},
    "anthropic_hh": lambda i: {
        "chosen": f"\n\nHuman: hi {i}\n\nAssistant: good {i}",
        "rejected": f"\n\nHuman: hi {i}\n\nAssistant: go away {i}"},
    "helpsteer2": lambda i: {"prompt": f"p{i}", "response_1": f"one {i}", "response_2": f"two {i}",
                             "preference_strength": i % 5 - 2},
    "helpsteer3": lambda i: {"context": [{"role": "user", "content": f"hi {i}"}],
                             "response1": f"one {i}", "response2": f"two {i}",
                             "overall_preference": i % 5 - 2},
    "rewardbench2": lambda i: {"prompt": f"p{i}", "chosen": [f"good {i}"],
                               "rejected": [f"bad {i}", "worse"]},
    "rm_bench": lambda i: {"prompt": f"p{i}", "chosen": [f"good {i}", "x", "y"],
                           "rejected": [f"bad {i}", "x", "y"]},
    "gsm8k_verification": lambda i: {"question": f"q{i}", 
                                     "answer": f"2 + {i} = {i + 2}\n#### {i + 2}"},
    "taco_verification": lambda i: {"question": f"q{i}", "right": f"f{i}", "wrong": f"g{i}"},
}  # fmt: skip


def rows_of(name, n=N):
    return [MAKE[name](i) for i in range(n)]


def write(name, rows, folder, seed=0, spec=None, **options):
    """`write_folder` from rows in memory."""
    placed = (ForeignRow(f"row {i}", row) for i, row in enumerate(rows, start=1))
    source = Source("memory", placed, Faults())
    spec = spec or shipped_mappings()[name]
    return write_folder(name, spec, source, folder, FetchOptions(seed=seed, **options))


def read_lines(folder):
    """Written rows with their files."""
    return [
        (path.stem, json.loads(line))
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().split("\n")
        if line
    ]


@pytest.mark.parametrize("name", shipped_mappings())
def test_each_mapping_makes_a_balanced_folder_that_imports(tmp_path, name):
    spec = shipped_mappings()[name]
    written = write(name, rows_of(name), tmp_path, seed=1).rows
    data = read_folder(tmp_path, name.replace("_", "-"))
    assert data.kind == spec.kind and sum(written.values()) >= N * 0.7
    for split in ("teacher", "train"):
        assert 0.25 < data.splits[split].targets_N.mean() < 0.75
    if spec.kind == "verification":
        assert data.splits["train"].targets_N.mean() == 0.5


def test_labels_say_what_the_source_says(tmp_path):
    made = write("helpsteer3", rows_of("helpsteer3"), tmp_path)
    lines = [line for _, line in read_lines(tmp_path)]
    assert made.left_out == {"a tie": N // 5}
    for line in lines:
        number = int(line["id"].split("-")[1])
        better = "one" if number % 5 < 2 else "two"
        shown = line["first"] if line["label"] == "A" else line["second"]
        assert shown.startswith(better) and line["prompt"] == f"user: hi {number}"
    assert len(lines) == N * 4 // 5  # ties are left out


def test_the_common_prefix_of_two_dialogues_is_the_prompt(tmp_path):
    write("anthropic_hh", rows_of("anthropic_hh"), tmp_path)
    _, line = read_lines(tmp_path)[0]
    assert line["prompt"].endswith("\n\nAssistant:") and "Human" not in line["first"]


def test_a_wrong_solution_differs_in_its_final_number_only(tmp_path):
    name = "gsm8k_verification"
    write(name, rows_of(name), tmp_path)
    right, wrong = (line for _, line in read_lines(tmp_path)[:2])
    assert right["label"] and not wrong["label"] and right["group"] == wrong["group"]
    assert right["choice"].split("####")[0] == wrong["choice"].split("####")[0]
    assert right["choice"] != wrong["choice"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_local_files_of_each_format(tmp_path, suffix):
    rows, path = rows_of("sciq", 20), tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    source = file_source(path)
    assert [row.values for row in source.rows] == rows and not len(source.faults)


def test_the_hub_is_asked_for_the_pinned_revision(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load(repo, config, split, revision):
        asked.append((repo, config, split, revision))
        return rows_of("sciq", 2)

    monkeypatch.setattr(datasets, "load_dataset", load)
    spec = shipped_mappings()["sciq"].model_copy(update={"revision": "abc", "splits": ("train",)})
    assert len(list(hub_rows(spec))) == 2
    assert asked == [("allenai/sciq", None, "train", "abc")]


def test_the_real_loader_reads_a_local_repository(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows_of("sciq", 5)))
    spec = shipped_mappings()["sciq"].model_copy(update={"repo": str(folder), "splits": ("train",)})
    assert [row.values["question"] for row in hub_rows(spec)] == [f"q{i}" for i in range(5)]
    missing = spec.model_copy(update={"repo": str(tmp_path / "nowhere")})
    with pytest.raises(NotFound, match="cannot read"):
        list(hub_rows(missing))


def test_bad_rows_and_mappings_say_what_and_where(tmp_path):
    out = tmp_path / "out"
    bad = {"support": "", "question": "q"}
    with pytest.raises(BadInput, match=r"memory, row 2: .*\{correct_answer\} is not there"):
        write("sciq", [MAKE["sciq"](0), bad], out)
    with pytest.raises(BadInput, match="truth '7' is none of"):
        write("cosmos_qa", [{**MAKE["cosmos_qa"](0), "label": 7}], out)
    with pytest.raises(BadInput, match="no rows for"):
        write("sciq", rows_of("sciq", 1), out)
    assert list(tmp_path.iterdir()) == []
    written = write("sciq", [*rows_of("sciq"), bad, bad], out, skip_bad=True)
    assert written.left_out["does not fit"] == 2
    with pytest.raises(Conflict, match="out exists"):
        write("sciq", rows_of("sciq"), out)
    with pytest.raises(NotFound, match="there are sciq"):
        load_mapping("nope")
    path = tmp_path / "mine.yaml"
    path.write_text("mine: {repo: r, licence: l, checked: c, right: x}\n")
    with pytest.raises(BadInput, match="wrong answers"):
        load_mapping(str(path))
    path.write_text("mine: {repo: r, licence: l, checked: c, right: x, wrong: [y], typo: 1}\n")
    with pytest.raises(BadInput, match="typo"):
        load_mapping(str(path))
    path.write_text("mine: {repo: r, licence: l, checked: c, right: '{a}', wrong: ['{b}']}\n")
    assert load_mapping(str(path))[0] == "mine"
    assert isinstance(load_mapping(str(path))[1], MappingSpec)
    path.write_text("mine: {repo: r, licence: l, checked: c, right: x, right: y, wrong: [z]}\n")
    with pytest.raises(BadInput, match=r"line 1: .*'right' is given twice"):
        load_mapping(str(path))


PAIRS = MappingSpec.model_validate({
    "repo": "r", "licence": "l", "checked": "c", "prompt": "{prompt}",
    "scored": {"first": "{a}", "second": "{b}", "field": "s"},
})  # fmt: skip


def scored(n, score):
    return [{"prompt": f"p {i}", "a": f"good {i}", "b": f"bad {i}", "s": score} for i in range(n)]


@pytest.mark.parametrize(
    "score", [float("nan"), float("inf"), None, True, "nan", "1_0", "", [1], "٣", 10**400]
)
def test_a_score_that_is_no_number_is_no_preference(tmp_path, score):
    with pytest.raises(BadInput, match=r"row 1: s is .*, not a finite number") as caught:
        write("mine", scored(60, score), tmp_path / "out", spec=PAIRS)
    assert "and 59 more" in str(caught.value) and not (tmp_path / "out").exists()


def test_nan_in_a_file_is_refused_at_its_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "nan.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in scored(12, float("nan"))))
    pq.write_table(pa.Table.from_pylist(scored(12, float("nan"))), tmp_path / "nan.parquet")
    for file in (path, tmp_path / "nan.parquet"):
        source = file_source(file)
        with pytest.raises(BadInput, match=rf"{file.name}, (line|row) 1: .*and 11 more"):
            write_folder("mine", PAIRS, source, tmp_path / "out", FetchOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("score", [-2, "-0.5", " -1e3 "])
def test_a_score_below_zero_prefers_the_first(tmp_path, score):
    made = write(
        "mine", [*scored(60, score), *scored(3, 0), *scored(3, "0.0")], tmp_path, spec=PAIRS
    )
    assert made.left_out == {"a tie": 6}
    for _, line in read_lines(tmp_path):
        assert line["first" if line["label"] == "A" else "second"].startswith("good")


def test_repeated_and_contradicting_rows_are_left_out_and_counted(tmp_path):
    rows = [*scored(60, -1), *scored(4, -2), *scored(2, 1)]
    made = write("mine", rows, tmp_path, spec=PAIRS)
    assert made.left_out == {"repeats": 4, "contradicts an earlier row": 2}
    assert sum(made.rows.values()) == 60


def test_the_order_of_two_answers_does_not_depend_on_which_is_better(tmp_path):
    def firsts(folder, score):
        write("mine", scored(60, score), folder, spec=PAIRS)
        return {line["prompt"]: (line["first"], line["label"]) for _, line in read_lines(folder)}

    one, other = firsts(tmp_path / "a", -1), firsts(tmp_path / "b", 1)
    for prompt, (first, label) in one.items():
        assert other[prompt] == (first, {"A": "B", "B": "A"}[label])
    assert 15 < sum(first.startswith("good") for first, _ in one.values()) < 45


@given(
    st.lists(
        st.tuples(st.sampled_from(["Ab c", "ab  C", "ＡB c\n", "x", "y", "z", "w", "v", "u"]),
                  st.sampled_from(["", "g1", "g2", "g3"]), st.integers(0, 10**6)),
        min_size=30, max_size=80, unique_by=lambda row: row[2],
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_prompt_and_no_group_is_in_two_files(tmp_path_factory, drawn):
    spec = PAIRS.model_copy(update={"group": "{g}"})
    rows = [
        {"prompt": f"{prompt} {n % 7}", "a": f"one {n}", "b": f"two {n}", "s": -1, "g": group}
        for prompt, group, n in drawn
    ]
    folder = tmp_path_factory.mktemp("out")
    try:
        write("mine", rows, folder, spec=spec)
    except BadInput as refused:
        assert "no rows for" in str(refused)
        assert list(folder.iterdir()) == []
        return
    files, source = {}, {i: row for i, row in enumerate(rows)}
    for stem, line in read_lines(folder):
        prompt = " ".join(unicodedata.normalize("NFKC", line["prompt"]).casefold().split())
        group = source[int(line["id"].split("-")[1])]["g"]
        for key in (("prompt", prompt), ("group", group or line["id"])):
            assert files.setdefault(key, stem) == stem


def test_a_template_reaches_keys_and_items_and_nothing_else():
    row = {
        "q": {"text": "hi", "a.b": 1},
        "c": ["x", {"y": 2}],
        "a.b": "whole",
        "n": None,
        "t": "{q}",
    }
    assert fill("{q.text} {c[0]} {c[1].y} {a.b} {{{t}}} {n}", row) == "hi x 2 whole {{q}}"
    for template, says in {
        "{q.missing}": r"\{q.missing\} is not there: no 'missing' in text, a.b",
        "{q}": r"\{q\} is a dict, not a text",
        "{c}": r"is a list, not a text \(name an item, e.g. \{c\[0\]\}\)",
        "{c[9]}": "is not there",
        "{c.__class__}": "is not there: no '__class__' in list",
        "{t.upper}": "is not there: no 'upper' in str",
        "{nope}": "no 'nope' in q, c, a.b",
    }.items():
        with pytest.raises(BadInput, match=says):
            fill(template, row)
    with pytest.raises(BadInput, match="not a finite number"):
        fill("{x}", {"x": float("nan")})


@pytest.mark.parametrize(
    "text", ["{}", "{0[}", "{a!r}", "{a:>9}", "{a", "a}", "{.a}", "{a..b}", "{[0]}"]
)
def test_a_template_of_another_form_is_refused_with_the_mapping(tmp_path, text):
    with pytest.raises(ValueError):
        parse_template(text)
    path = tmp_path / "mine.yaml"
    spec = {"repo": "r", "licence": "l", "checked": "c", "right": text, "wrong": ["y"]}
    path.write_text(json.dumps({"mine": spec}))
    with pytest.raises(BadInput, match=r"mine.yaml: mine\.right"):
        load_mapping(str(path))


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_filled_text_is_never_filled_again(text, other):
    assert fill("{a}|{b}", {"a": text, "b": other}) == f"{text}|{other}".strip()

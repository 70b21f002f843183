"""Declarative mappings: rows of local files in the shape of hub data sets become study folders."""

import json

import pytest

from aarlab.core.errors import BadInput, NotFound
from aarlab.testbed.datasets.mapping import (
    MappingSpec,
    file_rows,
    hub_rows,
    load_mapping,
    shipped_mappings,
    write_folder,
)
from aarlab.testbed.folder import read_folder

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


@pytest.mark.parametrize("name", shipped_mappings())
def test_each_mapping_makes_a_balanced_folder_that_imports(tmp_path, name):
    spec = shipped_mappings()[name]
    written = write_folder(name, spec, rows_of(name), tmp_path, (0, 1))
    data = read_folder(tmp_path, name.replace("_", "-"))
    assert data.kind == spec.kind and sum(written.values()) >= N * 0.7
    for split in ("teacher", "train"):
        assert 0.25 < data.splits[split].targets_N.mean() < 0.75
    if spec.kind == "verification":
        assert data.splits["train"].targets_N.mean() == 0.5


def test_labels_say_what_the_source_says(tmp_path):
    write_folder("h", shipped_mappings()["helpsteer3"], rows_of("helpsteer3"), tmp_path, (0, 0))
    lines = [
        json.loads(line) for p in tmp_path.glob("*.jsonl") for line in p.read_text().splitlines()
    ]
    for line in lines:
        number = int(line["id"].split("-")[1])
        better = "one" if number % 5 < 2 else "two"
        shown = line["first"] if line["label"] == "A" else line["second"]
        assert shown.startswith(better) and line["prompt"] == f"user: hi {number}"
    assert len(lines) == N * 4 // 5  # ties are left out


def test_the_common_prefix_of_two_dialogues_is_the_prompt(tmp_path):
    write_folder("a", shipped_mappings()["anthropic_hh"], rows_of("anthropic_hh"), tmp_path, (0, 0))
    line = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0])
    assert line["prompt"].endswith("\n\nAssistant:") and "Human" not in line["first"]


def test_a_wrong_solution_differs_in_its_final_number_only(tmp_path):
    name = "gsm8k_verification"
    write_folder(name, shipped_mappings()[name], rows_of(name), tmp_path, (0, 0))
    right, wrong = (json.loads(x) for x in (tmp_path / "test.jsonl").read_text().splitlines()[:2])
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
    assert list(file_rows(path)) == rows


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
    assert [row["question"] for row in hub_rows(spec)] == [f"q{i}" for i in range(5)]
    missing = spec.model_copy(update={"repo": str(tmp_path / "nowhere")})
    with pytest.raises(NotFound, match="cannot read"):
        list(hub_rows(missing))


def test_bad_rows_and_mappings_say_what_and_where(tmp_path):
    spec = shipped_mappings()["sciq"]
    with pytest.raises(BadInput, match=r"source row 1.*'correct_answer'"):
        write_folder(
            "s", spec, [MAKE["sciq"](0), {"support": "", "question": "q"}], tmp_path, (0, 0)
        )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="truth '7' is none of"):
        bad = {**MAKE["cosmos_qa"](0), "label": 7}
        write_folder("c", shipped_mappings()["cosmos_qa"], [bad], tmp_path, (0, 0))
    with pytest.raises(BadInput, match="no rows for"):
        write_folder("s", spec, rows_of("sciq", 1), tmp_path, (0, 0))
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

"""Hidden train rows: what lies where, who learns from them, and tasks that have none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gaussian_task import STRONG, WEAK, make_task, other_hand, with_twins
from method_world import OPTIONS
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.cli.operator import open_scorer, selection_bench
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.layout import DataRoot
from aarlab.core.types import NEEDED_SPLITS
from aarlab.testbed.methods import METHODS
from aarlab.testbed.running.panel import run_panel
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.students.features import StoredFeatures, load_features
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import TeacherRows, fit_ceiling, fit_teacher
from aarlab.testbed.tasks.build import FORMAT, build_task
from aarlab.testbed.tasks.datasets.card import data_card
from aarlab.testbed.tasks.task import (
    has_hidden_train,
    input_row,
    load_inputs,
    load_weak_labels,
    make_train_task,
    open_public,
)
from aarlab.testbed.tasks.task_files import HIDDEN_WEAK_LABELS, task_info

NAME = "gauss"
HIDDEN_FILES = {
    "inputs/train_hidden.jsonl", "truth/train_hidden.jsonl", "features/train_hidden.npz",
    "hidden_weak_labels.npz",
}  # fmt: skip


def without_hidden(data):
    return replace(data, splits={s: d for s, d in data.splits.items() if s != "train_hidden"})


def build(root, data, source, options=OPTIONS):
    return build_task(data, options, DataRoot(root), Sources(source, source))


def files(folder):
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The same task without hidden train rows, as every task was before there were any."""
    root = tmp_path_factory.mktemp("bare")
    data, source = make_task()
    build(root, without_hidden(data), source)
    return DataRoot(root)


# ---------------------------------------------------------------- files
def test_what_a_verified_run_trains_on_lies_in_the_vault_in_step(built):
    root = DataRoot(built)
    vault = root.vault_task(NAME)
    rows = load_inputs(vault / "inputs" / "train_hidden.jsonl")
    hidden, public = (load_weak_labels(vault / name) for name in (HIDDEN_WEAK_LABELS,
                                                                  "weak_labels.npz"))  # fmt: skip
    assert hidden.ids == tuple(row.id for row in rows) and len(rows) == 320
    assert hidden.seeds == public.seeds and set(hidden.ids).isdisjoint(public.ids)
    data, source = make_task()
    stored = StoredFeatures([load_features(vault / "features" / "train_hidden.npz")])
    np.testing.assert_array_equal(stored.states(rows, STRONG), source.states(rows, STRONG))
    assert {row.id: row for row in rows} == {e.id: e for e in data.splits["train_hidden"].examples}


def test_fresh_teachers_label_hidden_rows_that_they_never_learned_from(built):
    data, source = make_task()
    vault = DataRoot(built).vault_task(NAME)
    labels = load_weak_labels(vault / HIDDEN_WEAK_LABELS)
    rows = load_inputs(vault / "inputs" / "train_hidden.jsonl")
    known = {e.id: e for e in data.splits["teacher"].examples}
    truth = dict(zip(known, data.splits["teacher"].targets_N, strict=True))
    learned = [known[e.id] for e in load_inputs(vault / "inputs" / "teacher.jsonl")]
    assert not {e.group for e in learned} & {e.group for e in rows}
    teacher = fit_teacher(
        TeacherRows(
            source.states(learned, WEAK),
            np.array([truth[e.id] for e in learned]),
            tuple(e.group for e in learned),
        ),
        OPTIONS.teacher,
        labels.seeds[1],
    )
    probs_N = teacher.predict_proba(source.states(rows, WEAK))
    np.testing.assert_allclose(labels.of_seed(labels.seeds[1]), probs_N, rtol=1e-5)


def test_nothing_of_hidden_train_rows_is_public(built):
    root = DataRoot(built)
    texts = {b"train_hidden 0 first", b"question train_hidden", b"train_hidden-", b"train_hidden-g"}
    for path in files(root.public).values():
        raw = path.read_bytes()
        assert not [t for t in texts if t in raw or t.decode().encode("utf-32-le") in raw], path
    stored = StoredFeatures.open(sorted((root.public_task(NAME) / "features").glob("*.npz")))
    with pytest.raises(NotFound, match="no stored features"):
        stored.states(make_task()[0].splits["train_hidden"].examples[:1], STRONG)


def test_public_settings_say_that_there_are_some_and_not_how_many(built, bare):
    for root, there in ((DataRoot(built), True), (bare, False)):
        info = open_public(root.public_task(NAME)).info
        assert info.settings["train_hidden"] is there is has_hidden_train(info)
    data, _ = make_task()
    told = {
        "rows": {"train": 320, "train_hidden": 4711},
        "files": {"train_unlabel": "aa", "train_hidden": "4711"},
        "near_duplicates": {"dropped": {"train_hidden": 4711, "train": 1}},
        "train_hidden": "4711.jsonl",
    }
    info = open_public(DataRoot(built).public_task(NAME)).info
    trained = type("Trained", (), {})()
    trained.public_labels = load_weak_labels(DataRoot(built).public_task(NAME) / "weak_labels.npz")
    shown = task_info(replace(data, settings=told), OPTIONS, trained).settings
    assert "4711" not in json.dumps(shown) and shown["task"]["rows"] == {"train": 320}
    assert shown["train_hidden"] is True and info.n_train == 320


# ---------------------------------------------------------------- who learns from them
def test_ceilings_learn_from_the_rows_that_their_scores_are_trained_on(built, bare):
    data, source = make_task()
    factory = StudentFactory(source, STRONG, OPTIONS.student)

    def ceilings(root):
        with np.load(root.vault_task(NAME) / "baselines.npz") as arrays:
            return {name: arrays[name] for name in arrays.files if name.startswith(("ceil", "ids"))}

    def learned(root, side, split):
        train = load_inputs(getattr(root, side)(NAME) / "inputs" / f"{split}.jsonl")
        known = data.splits[split]
        truth = dict(zip((e.id for e in known.examples), known.targets_N, strict=True))
        return fit_ceiling(factory, train, np.array([truth[e.id] for e in train]), 0)

    root = DataRoot(built)
    with_, without = ceilings(root), ceilings(bare)
    by_public = learned(root, "public_task", "train")
    by_hidden = learned(root, "vault_task", "train_hidden")
    for split, student in (("search", by_public), ("selection", by_hidden), ("certify", by_hidden)):
        rows = {e.id: e for e in data.splits[split].examples}
        probs_N = student.predict_proba([rows[str(i)] for i in with_[f"ids_{split}"]])
        np.testing.assert_allclose(with_[f"ceiling_{split}"][0], probs_N, atol=1e-6)
    same = {s: np.array_equal(with_[f"ceiling_{s}"], without[f"ceiling_{s}"])
            for s in ("search", "selection", "certify")}  # fmt: skip
    assert same == {"search": True, "selection": False, "certify": False}


def test_public_files_and_fresh_labels_of_them_are_as_without(built, bare):
    root = DataRoot(built)
    public, plain = (files(r.public_task(NAME)) for r in (root, bare))
    for name in public.keys() - {"task.json"}:
        assert public[name].read_bytes() == plain[name].read_bytes(), name
    mine, theirs = (load_weak_labels(r.vault_task(NAME) / "weak_labels.npz") for r in (root, bare))
    assert mine.ids == theirs.ids and np.array_equal(mine.probs_SN, theirs.probs_SN)
    assert open_scorer(root).baselines(NAME, "search") == open_scorer(bare).baselines(
        NAME, "search"
    )


def test_an_operators_final_score_trains_on_hidden_rows(built, bare):
    for root, ids in ((DataRoot(built), "train_hidden"), (bare, "train")):
        public = open_public(root.public_task(NAME))
        bench = selection_bench(root, public)
        assert {row.id.rpartition("-")[0] for row in bench.task.train} == {ids}
        assert bench.weak_labels.ids == tuple(row.id for row in bench.task.train)
        (row,) = run_panel([METHODS["vanilla"]], bench, 2)
        assert row.pgr is not None and not row.failed


def test_the_readers_of_twins_learn_from_the_same_rows(tmp_path):
    data, source = make_task()
    data = with_twins(data, source, other_hand)
    flipped = []
    for number, made in enumerate((data, without_hidden(data))):
        root = DataRoot(tmp_path / str(number))
        build(root.path, made, source)
        known = json.loads((root.vault_task(NAME) / "twins" / "reference.json").read_text())
        flipped.append(known["readers"])
    assert flipped[0]["weak teachers"] == flipped[1]["weak teachers"]
    for reader in ("ceilings", "first component"):
        assert flipped[0][reader] != flipped[1][reader], reader


# ---------------------------------------------------------------- versions, cards, refusals
def version_of_old(root):
    """The version as it was made before there were hidden train rows, from the files."""
    public, vault = root.public_task(NAME), root.vault_task(NAME)
    info = json.loads((public / "task.json").read_text())
    info["settings"].pop("train_hidden")
    rows = {}
    for split in sorted(NEEDED_SPLITS):
        side = public if split in ("train", "search") else vault
        lines = (vault / "truth" / f"{split}.jsonl").read_text().splitlines()
        truth = {row["id"]: row["label"] for row in map(json.loads, lines) if "id" in row}
        inputs = load_inputs(side / "inputs" / f"{split}.jsonl")
        rows[split] = [[input_row(row), truth[row.id]] for row in inputs]
    fresh = load_weak_labels(vault / "weak_labels.npz")
    labels = [list(fresh.seeds), sha256_hex(fresh.probs_SN.astype("<f4").tobytes())]
    with np.load(vault / "baselines.npz") as arrays:
        baselines = {
            f"{split}-{name}": sha256_hex(arrays[f"{name}_{split}"].astype("<f8").tobytes())
            for split in ("search", "selection")
            for name in ("weak", "ceiling")
        }
        baselines |= {
            f"{split}-plain": [
                float(arrays[f"plain_variance_{split}"]),
                int(arrays[f"plain_seeds_{split}"]),
            ]
            for split in ("search", "selection")
        }
    return content_hash([FORMAT, info, rows, [], labels, baselines])[:12]


def test_a_task_without_hidden_rows_has_none_of_their_files_and_scores(bare):
    vault = bare.vault_task(NAME)
    assert not HIDDEN_FILES & files(vault).keys()
    assert open_scorer(bare).baselines(NAME, "selection").ceiling > 0.6


def test_a_task_of_old_opens_and_is_served_and_gets_hidden_rows_as_a_new_version(tmp_path):
    data, source = make_task()
    first = build(tmp_path, without_hidden(data), source)
    root = DataRoot(tmp_path)
    assert first.version == version_of_old(root)
    path = root.public_task(NAME) / "task.json"
    info = json.loads(path.read_text())
    del info["settings"]["train_hidden"]
    path.write_text(json.dumps(info))
    opened = open_public(root.public_task(NAME))
    assert not has_hidden_train(opened.info)
    make_train_task(opened.info, opened.train, opened.weak_labels.probs_SN)
    assert open_scorer(root).baselines(NAME, "selection").ceiling > 0.6
    new = build(tmp_path, data, source)
    assert new.before == first.version != new.version and has_hidden_train(new.info)
    assert files(root.vault_task(NAME)).keys() >= HIDDEN_FILES
    assert len(root.versions(NAME)) == 2


def test_other_hidden_labels_are_another_version(tmp_path):
    data, source = make_task()
    first = build(tmp_path, data, source)
    rows = data.splits["train_hidden"]
    fewer = replace(data, splits={**data.splits, "train_hidden": rows.at(range(300))})
    assert build(tmp_path, fewer, source).version != first.version


def test_too_few_hidden_rows_and_a_shared_group_are_refused(tmp_path):
    data, source = make_task()
    hidden, train = (data.splits[s] for s in ("train_hidden", "train"))
    few = {**data.splits, "train_hidden": hidden.at(range(59))}
    with pytest.raises(BadInput, match="59 hidden train rows, 60 are needed"):
        build(tmp_path, replace(data, splits=few), source)
    leaked = replace(hidden.examples[0], group=train.examples[0].group)
    rows = replace(hidden, examples=(leaked, *hidden.examples[1:]))
    with pytest.raises(BadInput, match="two splits, train and train_hidden"):
        build(tmp_path, replace(data, splits={**data.splits, "train_hidden": rows}), source)
    asked = replace(hidden.examples[0], prompt=f" {train.examples[0].prompt.upper()}")
    rows = replace(hidden, examples=(asked, *hidden.examples[1:]))
    with pytest.raises(BadInput, match=r"question .* two splits, train and train_hidden"):
        build(tmp_path, replace(data, splits={**data.splits, "train_hidden": rows}), source)
    assert not files(tmp_path)


def test_the_card_says_which_train_rows_verified_runs_use():
    data, _ = make_task()
    assert "train on 320 hidden train rows" in data_card(data)
    assert "| train_hidden | 320 | 160 |" in data_card(data)
    bare = data_card(without_hidden(data))
    assert "Train rows public" in bare and "train_hidden" not in bare


def test_commands_say_it(built, bare, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def said(root, *words):
        monkeypatch.setenv("AARLAB_HOME", str(root.path))
        done = CliRunner().invoke(cli, ["task", *words])
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.output

    for root, shown, cell, n_hidden in (
        (DataRoot(built), "verified runs: 320 hidden train rows", " 320 ", 320),
        (bare, "verified runs: train rows public", " public ", 0),
    ):
        assert shown in said(root, "show", NAME, "--rows", "0")
        assert json.loads(said(root, "show", NAME, "--json"))["train_hidden"] == n_hidden
        (line,) = [row for row in said(root, "list").split("\n") if "gauss@" in row]
        assert cell in line.split("320", 1)[1]
        (listed,) = [r for r in json.loads(said(root, "list", "--json")) if "gauss" in r["task"]]
        assert listed["train_hidden"] == n_hidden

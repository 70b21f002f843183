"""Built tasks: what lies where, who may read it, and that a build is whole or absent."""

import io
import json
import re
import stat
from dataclasses import replace

import numpy as np
import pytest
from gaussian_task import BLIND, STRONG, GaussianSource, make_task
from method_world import OPTIONS

from aarlab.core.errors import BadInput, Conflict, Damaged, GapNotPositive, NotFound
from aarlab.core.hashing import content_hash
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import seed_spread
from aarlab.core.types import ALL_SPLITS, EVAL_SPLITS
from aarlab.testbed.methods import METHODS
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.students.features import StoredFeatures, WithModel
from aarlab.testbed.students.options import AdapterOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.build import FORMAT, build_task
from aarlab.testbed.tasks.data import LabelledSplit
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.removing import task_locked
from aarlab.testbed.tasks.task import (
    has_zero_shot,
    input_row,
    load_inputs,
    load_public,
    open_public,
)
from aarlab.testbed.tasks.task_files import without_seeds
from aarlab.verify.hidden import FEATURES, hidden_files


def build(root, data=None, source=None, options=OPTIONS, progress=lambda step: None):
    if data is None:
        data, source = make_task()
    return build_task(data, options, DataRoot(root), Sources(source, source), progress)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_two_roots_hold_what_the_layout_says(built):
    assert files(DataRoot(built).public_task("gauss")) == [
        "features/search.npz", "features/train.npz", "inputs/search.jsonl", "inputs/train.jsonl",
        "task.json", "weak_labels.npz",
    ]  # fmt: skip
    truth = [f"truth/{split}.jsonl" for split in ALL_SPLITS]
    assert files(DataRoot(built).vault_task("gauss")) == sorted([
        "baselines.npz", "build.json", "canaries.json", "card.md", "seals.json", "weak_labels.npz",
        "features/selection.npz", "features/certify.npz", "features/train_hidden.npz",
        "inputs/teacher.jsonl", "inputs/selection.jsonl", "inputs/certify.jsonl",
        "inputs/train_hidden.jsonl", "hidden_weak_labels.npz", *truth,
    ])  # fmt: skip
    assert [p.name for p in built.iterdir() if p.name.startswith(".building")] == []


def test_the_vault_is_closed_and_the_public_side_open(built):
    vault = built / "vault"
    for path in [vault, *vault.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    for path in (DataRoot(built).public_task("gauss")).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o044, path


def test_no_file_holds_an_input_beside_its_label(built):
    data, _ = make_task()
    texts = [t for s in data.splits.values() for e in s.examples for t in (e.prompt, *e.answers)]
    for path in built.rglob("*"):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        labelled = b'"label"' in raw
        assert not (labelled and any(text.encode() in raw for text in texts)), path
        if "public" in path.parts:
            assert not labelled, path
    rows = (DataRoot(built).vault_task("gauss") / "truth" / "search.jsonl").read_text().splitlines()
    assert {frozenset(json.loads(row)) for row in rows} == {
        frozenset({"id", "label"}), frozenset({"canary"})
    }  # fmt: skip


def test_no_public_array_is_the_truth(built):
    data, _ = make_task()
    truth = dict(
        zip(
            (e.id for e in data.splits["train"].examples),
            data.splits["train"].targets_N,
            strict=True,
        )
    )
    with np.load(DataRoot(built).public_task("gauss") / "weak_labels.npz") as weak:
        wanted = np.array([truth[i] for i in weak["ids"].tolist()])
        assert not any(((row > 0.5) == wanted).all() for row in weak["probs_SN"])


def test_truth_is_the_generators_and_ids_match_the_inputs(built):
    data, _ = make_task()
    for split in ALL_SPLITS:
        lines = (
            (DataRoot(built).vault_task("gauss") / "truth" / f"{split}.jsonl")
            .read_text()
            .splitlines()
        )
        told = {r["id"]: r["label"] for r in map(json.loads, lines) if "id" in r}
        known = data.splits[split]
        assert told == {e.id: int(t) for e, t in zip(known.examples, known.targets_N, strict=True)}
        side = "public" if split in ("train", "search") else "vault"
        inputs = load_inputs(
            (DataRoot(built).public if side == "public" else DataRoot(built).vault)
            / DataRoot(built).folder_of("gauss")
            / "inputs"
            / f"{split}.jsonl"
        )
        assert {e.id: e for e in inputs} == {e.id: e for e in known.examples}
        assert [e.id for e in inputs] != [e.id for e in known.examples]  # shuffled


def test_every_vault_file_has_a_canary_of_its_own(built):
    vault = DataRoot(built).vault_task("gauss")
    canaries = json.loads((vault / "canaries.json").read_text())
    assert set(canaries) == set(files(vault)) - {"canaries.json"}
    assert len(set(canaries.values())) == len(canaries)
    everything = {p: p.read_bytes() for p in built.rglob("*") if p.is_file()}
    for name, canary in canaries.items():
        holders = {
            str(p.relative_to(vault)) for p, raw in everything.items() if canary.encode() in raw
        }
        assert holders == {name, "canaries.json"}
    assert re.fullmatch(r"canary-[0-9a-f]{32}", canary)


def test_baselines_have_a_row_per_seed_and_a_column_per_id(built):
    with np.load(DataRoot(built).vault_task("gauss") / "baselines.npz") as arrays:
        for split in EVAL_SPLITS:
            n = len(arrays[f"ids_{split}"])
            assert arrays[f"weak_{split}"].shape == (5, n)
            assert arrays[f"ceiling_{split}"].shape == (4, n)
            assert arrays[f"plain_seeds_{split}"] == 5, "one for each weak teacher there is"
            assert 0 <= arrays[f"plain_variance_{split}"] < 0.01
    record = json.loads((DataRoot(built).vault_task("gauss") / "build.json").read_text())
    assert 0.5 < record["facts"]["weak_label_accuracy"] < 0.8
    assert record["facts"]["ceiling_on_teacher_rows_search"] > 0.6


def test_the_spread_is_that_of_students_with_the_hard_labels_of_a_teacher_each(built):
    root = DataRoot(built)
    task = open_public(root.public_task("gauss"))
    _, source = make_task()
    with np.load(root.vault_task("gauss") / "weak_labels.npz") as fresh:
        labels_SN = np.concatenate([task.weak_labels.probs_SN, fresh["probs_SN"]])
    students, right = StudentFactory.of_task(source, task.info), []
    lines = (root.vault_task("gauss") / "truth/search.jsonl").read_text().splitlines()
    truth = {row["id"]: bool(row["label"]) for row in map(json.loads, lines) if "id" in row}
    for seed, labels_N in enumerate(labels_SN):
        student = students.new(OPTIONS.student.model_copy(update={"seed": seed}))
        probs_N = student.fit(task.train, (labels_N > 0.5) * 1.0).predict_proba(task.search)
        right.append((probs_N > 0.5) == [truth[row.id] for row in task.search])
    with np.load(root.vault_task("gauss") / "baselines.npz") as arrays:
        known = float(arrays["plain_variance_search"])
    assert known == pytest.approx(seed_spread(np.array(right)).variance, abs=1e-12)


def test_seeds_that_are_trained_together_give_the_bits_of_one_after_another(built, tmp_path):
    data, source = make_task()
    build_task(data, OPTIONS, DataRoot(tmp_path), Sources(source, source), threads=3)
    for name in ("vault/baselines", "vault/weak_labels", "public/weak_labels"):
        one, three = (
            np.load(next(root.glob(name.replace("/", "/gauss*/") + ".npz")))
            for root in (built, tmp_path)
        )
        for key in {*one.files} - {"canary"}:
            assert np.array_equal(one[key], three[key]), (name, key)
    told = [
        json.loads(next(r.glob("vault/gauss*/build.json")).read_text()) for r in (built, tmp_path)
    ]
    assert told[0]["facts"]["temperatures"] == told[1]["facts"]["temperatures"] != []


def test_by_default_aars_get_eight_teachers_and_verification_eight_others():
    options = BuildOptions(pair="p", weak_layer=0, strong_layer=1)
    assert len(options.public_seeds) == len(options.fresh_seeds) == 8
    assert set(options.public_seeds).isdisjoint(options.fresh_seeds)
    assert options.plain_seeds_used == options.weak_seeds == tuple(range(16))
    blocks = options.model_copy(update={"adapter": AdapterOptions(kind="lora"), "ceiling_seeds": 4})
    assert blocks.plain_seeds_used == (0, 1, 2, 3), "as many as ceilings, where each takes long"


def test_teacher_seeds_of_aars_and_of_verification_differ(built):
    with np.load(DataRoot(built).vault_task("gauss") / "weak_labels.npz") as fresh:
        assert set(fresh["seeds"].tolist()).isdisjoint(
            open_public(DataRoot(built).public_task("gauss")).info.teacher_seeds
        )


def test_public_settings_carry_no_seed(built):
    raw = (DataRoot(built).public_task("gauss") / "task.json").read_text()
    info = json.loads(raw)
    assert info["settings"]["task"] == {"n": 1} and "seed" not in json.dumps(info["settings"])
    assert json.loads((DataRoot(built).vault_task("gauss") / "build.json").read_text())["task"] == {
        "seed": 0,
        "n": 1,
    }


def test_stored_features_are_those_of_the_model(built):
    task = open_public(DataRoot(built).public_task("gauss"))
    _, source = make_task()
    stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    rows = task.train[:7] + task.search[:5]
    np.testing.assert_array_equal(stored.states(rows, STRONG), source.states(rows, STRONG))
    for mine, theirs in zip(stored.answer_logp(rows), source.answer_logp(rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(BadInput, match="layer 9"):
        stored.states(rows, 9)
    with pytest.raises(NotFound, match="no stored features"):
        stored.states([replace(rows[0], prompt="new")], STRONG)


class StatesOnly(GaussianSource):
    """A model that is never asked for log-likelihoods."""

    def __init__(self, inner):
        super().__init__()
        self.truth, self.cue = inner.truth, inner.cue

    def answer_logp(self, examples):
        raise AssertionError("states alone were wanted")


def test_a_build_for_states_alone_computes_no_log_likelihoods_and_says_so_when_asked(tmp_path):
    data, source = make_task()
    options = OPTIONS.model_copy(update={"log_likelihoods": "none"})
    assert not build(tmp_path, data, StatesOnly(source), options).from_cache
    assert build(tmp_path, data, StatesOnly(source), options).from_cache
    task = open_public(DataRoot(tmp_path).public_task("gauss"))
    stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    np.testing.assert_array_equal(
        stored.states(task.train, STRONG), source.states(task.train, STRONG)
    )
    hidden = hidden_files(DataRoot(tmp_path), "gauss", "selection")[FEATURES]
    assert not {"alone", "given_prompt"} & np.load(io.BytesIO(hidden)).keys()
    assert not has_zero_shot(task.info)
    student = StudentFactory.of_task(stored, task.info)
    train = task.train_task(task.weak_labels.seeds[0])
    assert METHODS["vanilla"].fit(train, student, 0).predict_proba(task.search).std() > 0
    with pytest.raises(NotFound, match="--states-only"):
        METHODS["em_posterior"].fit(train, student, 0)
    at_hand = StudentFactory.of_task(WithModel(stored, source), task.info)
    assert METHODS["em_posterior"].fit(train, at_hand, 0).predict_proba(task.search).std() > 0


def test_tasks_built_before_there_was_a_choice_are_served_as_they_are(tmp_path):
    """The hash of their settings knows nothing of `log_likelihoods` and of plain students."""
    build(tmp_path)
    record = json.loads((DataRoot(tmp_path).vault_task("gauss") / "build.json").read_text())
    data, _ = make_task()
    before = OPTIONS.model_dump(
        mode="json", exclude={"log_likelihoods", "log_likelihood_rows", "twins", "plain_seeds"}
    )
    del before["teacher"]["skim"]
    rows = {
        name: [[input_row(e), int(t)] for e, t in zip(s.examples, s.targets_N, strict=True)]
        for name, s in sorted(data.splits.items())
    }
    facts = [data.name, data.kind, data.title, data.description, without_seeds(data.settings)]
    assert record["settings_hash"] == content_hash([FORMAT, facts, rows, before])


def test_swapped_preference_rows_find_their_features(tmp_path):
    data, source = make_task("preference")
    build(tmp_path, data, source)
    task = open_public(DataRoot(tmp_path).public_task("gauss"))
    stored = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    row = task.train[0]
    swapped = replace(row, answers=row.answers[::-1])
    np.testing.assert_array_equal(
        stored.states([swapped], STRONG), stored.states([row], STRONG)[:, ::-1]
    )


def test_a_second_build_is_served_from_the_cache_and_says_so(tmp_path):
    said: list[str] = []
    assert not build(tmp_path).from_cache
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = build(tmp_path, progress=said.append)
    assert again.from_cache and "cache" in said[-1]
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in before if "lock" not in p.name} == {p for p in after if "lock" not in p.name}
    assert all(before[p] == after[p] for p in before if "lock" not in p.name)
    assert not build(tmp_path, options=OPTIONS.model_copy(update={"ceiling_seeds": 3})).from_cache


@pytest.mark.parametrize("name", ["public/inputs/train.jsonl", "vault/baselines.npz"])
def test_a_damaged_file_is_noticed_and_built_anew(tmp_path, name):
    build(tmp_path)
    side, _, rest = name.partition("/")
    path = tmp_path / side / DataRoot(tmp_path).folder_of("gauss") / rest
    good = path.read_bytes()
    path.write_bytes(good[:-40])
    if "public" in name:
        with pytest.raises((Damaged, BadInput)):
            open_public(DataRoot(tmp_path).public_task("gauss"))
    assert not build(tmp_path).from_cache
    assert len(path.read_bytes()) == len(good)


class Breaking(GaussianSource):
    """Fails in the middle, like a full disk or Ctrl-C."""

    def __init__(self, inner, error):
        super().__init__()
        self.truth, self.cue, self.error = inner.truth, inner.cue, error

    def answer_logp(self, examples):
        raise self.error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_nothing(tmp_path, error):
    data, source = make_task()
    with pytest.raises(type(error)):
        build(tmp_path, data, Breaking(source, error))
    assert [p.name for p in tmp_path.iterdir()] in ([], [".build-gauss.lock"])


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        assert any(tmp_path.rglob("public/inputs/train.jsonl"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aarlab.testbed.tasks.build.write_vault", full)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] in ([], [".build-gauss.lock"])


def test_an_edited_public_file_is_noticed(tmp_path):
    build(tmp_path)
    path = DataRoot(tmp_path).public_task("gauss") / "inputs" / "train.jsonl"
    path.write_text(path.read_text().replace("question", "Question", 1))
    with pytest.raises(Damaged, match="build the task again"):
        open_public(DataRoot(tmp_path).public_task("gauss"))


def test_an_interrupted_rebuild_leaves_the_old_task(tmp_path):
    build(tmp_path)
    before = files(tmp_path)
    data, source = make_task(seed=5)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, data, Breaking(source, KeyboardInterrupt()))
    assert files(tmp_path) == before and build(tmp_path).from_cache


def test_leftovers_of_a_killed_build_are_removed(tmp_path):
    stale = tmp_path / ".building-gauss-abc"
    (stale / "vault").mkdir(parents=True)
    build(tmp_path)
    assert not stale.exists()


def test_a_gap_that_is_not_clear_is_refused_before_anything_is_published(tmp_path):
    data, source = make_task()
    hopeless = OPTIONS.model_copy(update={"strong_layer": BLIND})
    with pytest.raises(GapNotPositive):
        build(tmp_path, data, source, hopeless)
    assert not (tmp_path / "public").exists() and not (tmp_path / "vault").exists()
    allowed = hopeless.model_copy(update={"require_gap": False})
    assert build(tmp_path, data, source, allowed).info.name == "gauss"


def test_two_builds_at_once_are_a_conflict(tmp_path):
    with task_locked(DataRoot(tmp_path), "gauss"), pytest.raises(Conflict, match="another process"):
        build(tmp_path)


def test_rows_that_break_the_rules_are_refused(tmp_path):
    data, source = make_task()
    search = data.splits["search"]
    leaked = replace(search.examples[0], group=data.splits["train"].examples[0].group)
    for splits, says in (
        ({"search": LabelledSplit((leaked, *search.examples[1:]), search.targets_N)}, "group"),
        ({"search": LabelledSplit(search.examples, search.targets_N[1:])}, "target"),
        ({"search": LabelledSplit(search.examples, search.targets_N * 0)}, "both labels"),
    ):
        with pytest.raises(BadInput, match=says):
            build(tmp_path, replace(data, splits={**data.splits, **splits}), source)
    with pytest.raises(BadInput, match="name"):
        build(tmp_path, replace(data, name="../up"), source)
    missing = {k: v for k, v in data.splits.items() if k != "certify"}
    with pytest.raises(BadInput, match="certify"):
        build(tmp_path, replace(data, splits=missing), source)
    assert files(tmp_path) == []


def test_load_public_gives_a_task_without_truth(built):
    task = load_public(DataRoot(built), "gauss", 1)
    assert task.weak_labels_N.shape == (320,) and len(task.groups) == 320
    assert not any("truth" in name or "target" in name for name in dir(task))
    with pytest.raises(NotFound, match="teacher seed 99"):
        load_public(DataRoot(built), "gauss", 99)
    with pytest.raises(NotFound, match="task build"):
        load_public(DataRoot(built), "other", 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ('{"id": "a"}', "fields"),
        ('{"id": "a", "group": "g", "prompt": "p", "answers": []}', "one or two"),
        ('{"id": "a", "group": "g", "prompt": "p", "answers": [""]}', "non-empty"),
        ('{"id": "a", "group": "g", "prompt": "p", "answers": ["x"], "label": 1}', "fields"),
    ],
)
def test_bad_input_lines_are_named(tmp_path, line, says):
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "z", "group": "g", "prompt": "p\\u2028q", "answers": ["x"]}\n' + line)
    with pytest.raises(BadInput, match=rf"train.jsonl line 2: .*{says}"):
        load_inputs(path)

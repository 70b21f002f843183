"""Rows in another style: what lies where, what a run is given, what it cannot tell."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gaussian_task import make_task, other_hand, with_twins
from method_world import OPTIONS

from aarlab.core.errors import BadInput, Damaged, MethodFailed
from aarlab.core.layout import DataRoot
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.controls import probe_twins
from aarlab.testbed.running.job import Job, SeedPair
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.running.run_method import probe, run_job
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks import build as building
from aarlab.testbed.tasks.build import build_task
from aarlab.testbed.tasks.task import load_inputs
from aarlab.testbed.tasks.twins import draw_twins, shift
from aarlab.verify.hidden import (
    FEATURES,
    INPUTS,
    TRAIN_FEATURES,
    TRAIN_INPUTS,
    TWINS,
    WEAK_LABELS,
    hidden_files,
    twin_reference,
)

NAME = "gauss"
SOME = OPTIONS.model_copy(update={"twins": 40})
TWIN_FILES = {"twins/inputs.jsonl", "twins/features.npz", "twins/reference.json"}


def world(kind="verification"):
    data, source = make_task(kind)
    return with_twins(data, source, other_hand), source


def build(root, options=SOME, made=None, progress=lambda step: None):
    data, source = made or world()
    build_task(data, options, DataRoot(root), Sources(source, source), progress)
    return DataRoot(root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return build(tmp_path_factory.mktemp("twins"))


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- drawing
@pytest.mark.parametrize("kind", ["verification", "preference"])
def test_as_many_are_drawn_as_asked_whatever_their_labels(kind) -> None:
    data, _ = world(kind)
    drawn = draw_twins(data, 40, 0).twins.rows
    assert len(drawn) == 40 and drawn == draw_twins(data, 40, 0).twins.rows
    assert drawn == draw_twins(draw_twins(data, 40, 0), 40, 0).twins.rows, "drawn once or twice"
    assert drawn != draw_twins(data, 40, 1).twins.rows
    flipped = {s: replace(d, targets_N=1 - d.targets_N) for s, d in data.splits.items()}
    assert drawn == draw_twins(replace(data, splits=flipped), 40, 0).twins.rows
    assert draw_twins(data, 10_000, 0).twins.rows == tuple(
        sorted(data.twins.rows, key=lambda twin: twin.id)
    )


@pytest.mark.parametrize(
    "changes", [{"id": "search-0"}, {"group": "g"}, {"prompt": "p"}, {"answers": ("a", "b")}]
)
def test_a_twin_of_another_row_is_refused(changes) -> None:
    data, _ = world()
    wrong = replace(data.twins.rows[0], **changes)
    with pytest.raises(BadInput, match="does not match a selection row"):
        draw_twins(replace(data, twins=replace(data.twins, rows=(wrong,))), 5, 0)


# ---------------------------------------------------------------- files
def test_twins_lie_in_the_vault_and_nowhere_public(root) -> None:
    vault, public = root.vault_task(NAME), root.public_task(NAME)
    assert {name for name in files(vault) if name.startswith("twins/")} == TWIN_FILES
    assert not [name for name in files(public) if "twin" in name]
    twins = load_inputs(vault / "twins" / "inputs.jsonl")
    raw = b"".join(p.read_bytes() for p in public.rglob("*") if p.is_file())
    assert b"by the other hand" not in raw
    stored = StoredFeatures.open(sorted((public / "features").glob("*.npz")))
    with pytest.raises(Exception, match="no stored features"):
        stored.states(twins[:1], SOME.strong_layer)


def test_no_twin_lies_beside_a_truth_and_each_file_has_its_canary(root) -> None:
    vault = root.vault_task(NAME)
    canaries = json.loads((vault / "canaries.json").read_text())
    assert set(canaries) >= TWIN_FILES
    for name in files(vault):
        raw = (vault / name).read_bytes()
        assert not (b'"label"' in raw and b"by the other hand" in raw), name
        if name in TWIN_FILES:
            assert canaries[name].encode() in raw and b'"label"' not in raw


def test_twins_without_their_file_of_features_are_built_anew(tmp_path) -> None:
    root = build(tmp_path)
    (root.vault_task(NAME) / "twins" / "features.npz").unlink()
    told = []
    build(tmp_path, progress=told.append)
    assert "weak teachers" in told and files(root.vault_task(NAME)) >= TWIN_FILES
    told.clear()
    build(tmp_path, progress=told.append)
    assert told == ["served from the cache: same rows, same options, files intact"]


def test_other_twins_are_another_build(tmp_path) -> None:
    data, source = make_task()
    told = []
    for end in ("!", "?"):
        told.clear()
        made = with_twins(data, source, lambda answer, cue, end=end: f"{answer}{end}")
        build(tmp_path, made=(made, source), progress=told.append)
        assert "weak teachers" in told
        twins = load_inputs(DataRoot(tmp_path).vault_task(NAME) / "twins" / "inputs.jsonl")
        assert all(twin.answers[0].endswith(end) for twin in twins)


def test_a_build_cut_off_at_the_twins_leaves_the_old_task_and_then_goes_on(
    tmp_path, monkeypatch
) -> None:
    root = build(tmp_path, SOME.model_copy(update={"twins": 0}))
    before = {name: (root.vault_task(NAME) / name).read_bytes() for name in files(root.vault)
              if (root.vault_task(NAME) / name).is_file()}  # fmt: skip

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(building, "write_twins", full)
        with pytest.raises(OSError, match="no space"):
            build(tmp_path)
    assert all((root.vault_task(NAME) / name).read_bytes() == raw for name, raw in before.items())
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".building")]
    build(tmp_path)
    assert files(root.vault_task(NAME)) >= TWIN_FILES


def test_twins_leave_the_public_task_and_the_truth_as_they_are(tmp_path, root) -> None:
    plain = build(tmp_path, SOME.model_copy(update={"twins": 0}))
    for name in files(plain.public_task(NAME)):
        a, b = ((r.public_task(NAME) / name).read_bytes() for r in (plain, root))
        assert a == b, name
    for rows in ("truth/selection.jsonl", "inputs/selection.jsonl"):
        a, b = ((r.vault_task(NAME) / rows).read_text().splitlines()[:-1] for r in (plain, root))
        assert a == b, rows
    with (
        np.load(plain.vault_task(NAME) / "baselines.npz") as a,
        np.load(root.vault_task(NAME) / "baselines.npz") as b,
    ):
        assert all(np.array_equal(a[key], b[key]) for key in a.files if key != "canary")


def test_honest_readers_are_measured(tmp_path) -> None:
    every = build(tmp_path, SOME.model_copy(update={"twins": 240}))  # 40 are too few to tell them
    known = twin_reference(every.vault_task(NAME))
    assert known.rows == 240 and set(known.readers) == {
        "weak teachers", "ceilings", "zero-shot", "first component"
    }  # fmt: skip
    assert known.readers["weak teachers"] > known.readers["ceilings"] > 0, "the cue misleads it"
    assert known.readers["zero-shot"] == 0.0, "its figures know no cue"


# ---------------------------------------------------------------- runs
def job(root, folder, source, seeds=2):
    write_method(folder / "method", source)
    given = hidden_files(root, NAME, "selection")
    for name, raw in given.items():
        (folder / name).write_bytes(raw)
    return Job(
        method=folder / "method",
        public=root.public_task(NAME),
        runs=[SeedPair(teacher_seed=3 + i % 2, seed=i) for i in range(seeds)],
        split="selection",
        eval_inputs=folder / INPUTS,
        weak_labels=folder / WEAK_LABELS,
        train_inputs=folder / TRAIN_INPUTS,
        features=[folder / FEATURES, folder / TRAIN_FEATURES],
        diagnostics=False,
        probe=True,
        twins=folder / TWINS if TWINS in given else None,
    )


def test_a_run_says_how_far_it_follows_the_style(root, tmp_path) -> None:
    output = run_job(job(root, tmp_path, named_files("vanilla")))
    styles = [record.style for record in output.records]
    assert all(0 < style.moved < 0.2 and style.flipped < 0.4 for style in styles)


def test_a_task_without_twins_is_run_as_before(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    made = build(tmp_path / "data", made=make_task())
    assert set(hidden_files(made, NAME, "selection")) == {
        INPUTS, WEAK_LABELS, FEATURES, TRAIN_INPUTS, TRAIN_FEATURES
    }  # fmt: skip
    output = run_job(job(made, tmp_path / "run", named_files("vanilla")))
    assert [record.style for record in output.records] == [None, None]
    assert set(output.records[0].changed) == {"alone", "crowded", "shuffled", "renamed"}


def test_twins_are_of_the_selection_split_only(root) -> None:
    assert TWINS not in hidden_files(root, NAME, "certify")


def test_no_canary_and_no_figure_of_the_readers_goes_into_a_sandbox(root) -> None:
    given = hidden_files(root, NAME, "selection")
    canaries = json.loads((root.vault_task(NAME) / "canaries.json").read_text()).values()
    for name, raw in given.items():
        assert not [c for c in canaries if c.encode() in raw], name
        assert b"readers" not in raw


def test_features_of_twins_are_among_those_of_rows_in_no_telling_order(root, tmp_path) -> None:
    (tmp_path / FEATURES).write_bytes(hidden_files(root, NAME, "selection")[FEATURES])
    with np.load(tmp_path / FEATURES) as merged:
        keys = merged["keys"].tolist()
    assert keys == sorted(keys) and len(keys) == 240 + 40
    rows = load_inputs(root.vault_task(NAME) / "inputs" / "selection.jsonl")
    twins = load_inputs(root.vault_task(NAME) / "twins" / "inputs.jsonl")
    _, source = world()
    stored = StoredFeatures.open([tmp_path / FEATURES])
    for some in (rows, twins):
        layer = SOME.strong_layer
        np.testing.assert_array_equal(stored.states(some, layer), source.states(some, layer))


def test_twins_of_other_rows_are_refused(root, tmp_path) -> None:
    wanted = job(root, tmp_path, named_files("vanilla"))
    wrong = wanted.model_copy(update={"eval_inputs": None, "split": "search"})
    with pytest.raises(BadInput, match="restyled rows that do not belong"):
        run_job(wrong)


def test_a_reference_that_cannot_be_read_is_named(tmp_path) -> None:
    root = build(tmp_path)
    (root.vault_task(NAME) / "twins" / "reference.json").write_text("{")
    with pytest.raises(Damaged, match=r"reference\.json"):
        twin_reference(root.vault_task(NAME))


# ---------------------------------------------------------------- what a predictor can tell
class Listens:
    """Keeps each call; answers by `answer(example)`."""

    def __init__(self, answer):
        self.calls, self.answer = [], answer

    def predict_proba(self, inputs):
        self.calls.append(tuple(inputs))
        return np.array([float(self.answer(e)) for e in inputs])


def rows_and_twins():
    data, source = world()
    rows = data.splits["selection"].examples
    return rows, draw_twins(data, 40, 0).twins.rows, source


def test_twins_come_first_and_look_like_their_rows() -> None:
    rows, twins, _ = rows_and_twins()
    heard = Listens(lambda e: 0.5)
    probe(heard, SimpleNamespace(rows=rows, twins=twins), 0)
    first = heard.calls[0]
    assert [(e.id, e.group, e.prompt) for e in first] == [(e.id, e.group, e.prompt) for e in rows]
    assert sum(a != b for a, b in zip(first, rows, strict=True)) == 40
    later = {e.answers for call in heard.calls[1:] for e in call}
    assert not later & {twin.answers for twin in twins}


def test_who_goes_by_style_flips_all_and_who_reads_flips_none() -> None:
    rows, twins, source = rows_and_twins()
    at_T = [[row.id for row in rows].index(twin.id) for twin in twins]
    for answer, flips in ((source.cue, 1.0), (source.truth, 0.0)):
        heard = Listens(lambda e, known=answer: known[e.answers[0]])
        found = probe_twins(heard, rows, twins)
        assert shift(heard.predict_proba(rows)[at_T], found).flipped == flips


def test_answers_that_are_kept_by_id_hide_the_style_and_show_under_other_ids() -> None:
    rows, twins, source = rows_and_twins()

    class Keeps(Listens):
        def __init__(self, answer):
            super().__init__(answer)
            self.kept = {}

        def predict_proba(self, inputs):
            for e in inputs:
                self.kept.setdefault(e.id, float(self.answer(e)))
            return np.array([self.kept[e.id] for e in inputs])

    keeps = Keeps(lambda e: source.cue[e.answers[0]])
    probed = probe(keeps, SimpleNamespace(rows=rows, twins=twins), 0)
    scored = keeps.predict_proba(rows)
    at_T = [[row.id for row in rows].index(twin.id) for twin in twins]
    assert (probed.twins_T == scored[at_T]).all(), "hidden so"
    assert (probed.answers["renamed"] != (scored > 0.5)).mean() > 0.3


def test_a_method_that_fails_on_a_twin_has_failed(root, tmp_path) -> None:
    source = (
        "import numpy as np\nclass P:\n    def predict_proba(self, inputs):\n"
        "        assert not any('other hand' in e.answers[0] for e in inputs)\n"
        "        return np.full(len(inputs), .5)\n"
        "def fit(task, student, seed):\n    return P()\n"
    )
    with pytest.raises(MethodFailed, match="AssertionError"):
        run_job(job(root, tmp_path, {"method.py": source}))

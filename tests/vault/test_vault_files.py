"""The vault refuses files that others could read, and names no label when something is wrong."""

import os
import pickle
import traceback
from pathlib import Path

import numpy as np
import pytest
from platform_kit import CANARY, write_task

from aarlab.core.errors import BaselineMissing, Damaged, Forbidden, GapNotPositive, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import SeedSpread
from aarlab.core.wire import Predictions, Run
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


@pytest.fixture
def task(tmp_path: Path):
    return write_task(tmp_path, n=40)


@pytest.mark.parametrize(
    ("part", "mode"),
    [("", 0o755), ("tiny", 0o710), ("tiny/truth/search.jsonl", 0o640), ("tiny/truth", 0o701)],
)
def test_loose_modes_are_refused(task, part: str, mode: int) -> None:
    path = task.data.vault / part
    path.chmod(mode)
    with pytest.raises(Forbidden, match=f"mode {mode:o}.*chmod"):
        Vault(task.data)


def test_a_symbolic_link_in_the_vault_is_refused(task) -> None:
    (task.data.vault / "tiny" / "extra").symlink_to("/etc/passwd")
    with pytest.raises(Forbidden, match="symbolic link"):
        Vault(task.data)


def test_a_mode_loosened_later_is_refused_too(task) -> None:
    vault = Vault(task.data)
    (task.data.vault / "tiny/truth/search.jsonl").chmod(0o644)
    with pytest.raises(Forbidden):
        vault.truth("tiny", "search")


def test_no_vault_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="aarlab task build"):
        Vault(DataRoot(tmp_path / "empty"))


def test_the_truth_is_not_in_a_repr_or_a_pickle(task) -> None:
    vault = Vault(task.data)
    scorer = Scorer(vault)
    for sealed in (vault, scorer, vault.truth("tiny", "search"), vault.baselines("tiny", "search")):
        assert "sea0" not in repr(sealed) and "array" not in repr(sealed)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(sealed)


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "sea0001", "label": 7}',
        '{"id": "sea0001", "label": true}',
        "{",
        "[1]",
        '{"label": 1}',
    ],
)
def test_a_damaged_truth_file_is_named_without_its_content(task, line: str) -> None:
    path = task.data.vault / "tiny/truth/search.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(Damaged) as caught:
        Vault(task.data).truth("tiny", "search")
    shown = "".join(traceback.format_exception(caught.value))
    assert "search.jsonl" in shown and "aarlab task build" in shown
    assert CANARY not in shown and '"label":' not in shown
    # The parser's own exception holds the whole line: it must not be shown along.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_double_id_in_the_truth_is_refused(task) -> None:
    path = task.data.vault / "tiny/truth/search.jsonl"
    path.write_text(path.read_text() + '{"id": "sea0001", "label": 1}\n')
    with pytest.raises(Damaged, match="twice"):
        Vault(task.data).truth("tiny", "search")


def test_truth_that_does_not_fit_its_inputs_is_refused(task) -> None:
    path = task.data.public_task("tiny") / "inputs/search.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(Damaged, match="ids differ"):
        Vault(task.data).truth("tiny", "search")


def _rewrite_baselines(task, **changes) -> None:
    path = task.data.vault / "tiny/baselines.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    kept = {name: value for name, value in {**kept, **changes}.items() if value is not None}
    old = os.umask(0o077)
    np.savez(path, **kept)
    os.umask(old)


def test_missing_and_damaged_baselines(task) -> None:
    _rewrite_baselines(task, ceiling_search=None)
    with pytest.raises(BaselineMissing, match="ceiling_search"):
        Vault(task.data).baselines("tiny", "search")
    path = task.data.vault / "tiny/baselines.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Damaged, match=r"baselines\.npz"):
        Vault(task.data).baselines("tiny", "selection")
    path.unlink()
    with pytest.raises(BaselineMissing, match="aarlab task build"):
        Vault(task.data).baselines("tiny", "search")


def test_baselines_are_joined_by_id_not_by_position(task) -> None:
    known = Vault(task.data).baselines("tiny", "search")
    assert 0.5 < known.weak_SN.mean() < 0.72
    assert 0.8 < known.ceiling_SN.mean() <= 1.0


def test_the_spread_of_plain_students_is_read_and_is_the_floor_of_the_seed_part(task) -> None:
    assert Vault(task.data).baselines("tiny", "search").spread is None, "built before it was"
    run = task.probs("search", 0.75, 1)
    runs = [Run(seed=seed, probs=run) for seed in range(4)]  # seeds that do not differ at all
    bare = Scorer(Vault(task.data)).estimate("tiny", "search", Predictions(task.ids(), runs))
    _rewrite_baselines(task, plain_variance_search=np.array(0.004), plain_seeds_search=np.array(16))
    vault = Vault(task.data)
    assert vault.baselines("tiny", "search").spread == SeedSpread(0.004, 16)
    assert vault.baselines("tiny", "selection").spread is None
    floored = Scorer(vault).estimate("tiny", "search", Predictions(task.ids(), runs))
    known = Scorer(vault).baselines("tiny", "search")
    added = 0.004 / 4 / (known.ceiling - known.weak) ** 2
    assert floored.stderr**2 - bare.stderr**2 == pytest.approx(added)
    accuracy = Scorer(vault).accuracy_interval("tiny", "search", Predictions(task.ids(), runs))
    assert accuracy.stderr**2 > 0.004 / 4


@pytest.mark.parametrize(
    "changes",
    [
        {"plain_variance_search": np.array(0.004)},
        {"plain_variance_search": np.array(-1.0), "plain_seeds_search": np.array(16)},
        {"plain_variance_search": np.array(np.nan), "plain_seeds_search": np.array(16)},
        {"plain_variance_search": np.array(0.1), "plain_seeds_search": np.array(1)},
        {"plain_variance_search": np.array([0.1]), "plain_seeds_search": np.array([16])},
    ],
)
def test_a_spread_that_cannot_be_one_is_damage(task, changes) -> None:
    _rewrite_baselines(task, **changes)
    with pytest.raises(Damaged, match="plain_variance_search"):
        Vault(task.data).baselines("tiny", "search")


def test_a_task_without_a_gap_cannot_be_scored(task) -> None:
    with np.load(task.data.vault / "tiny/baselines.npz") as arrays:
        weak = arrays["weak_search"]
    _rewrite_baselines(task, ceiling_search=weak)
    scorer = Scorer(Vault(task.data))
    with pytest.raises(GapNotPositive):
        scorer.check("tiny")
    predictions = Predictions(task.ids(), [Run(seed=0, probs=task.probs("search", 0.7, 1))])
    with pytest.raises(GapNotPositive):
        scorer.feedback("tiny", predictions, None)

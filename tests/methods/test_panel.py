"""The operator's table, scored by the vault's own scorer."""

from dataclasses import replace

import numpy as np
import pytest

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.methods import METHODS, Method
from aarlab.testbed.running.panel import Extras, methods_named, run_panel, search_bench
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import open_public
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


@pytest.fixture
def bench(built):
    return search_of(built)


def search_of(root):
    task = open_public(DataRoot(root).public_task("gauss"))
    features = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    return search_bench(task, features, Scorer(Vault(DataRoot(root))))


def test_a_table_of_methods_and_guards(bench):
    ticks = []
    methods = methods_named(["vanilla", "em_posterior", "vanilla"], guards=True)
    rows = {r.method: r for r in run_panel(methods, bench, 4, lambda m, s: ticks.append((m, s)))}
    assert list(rows)[:2] == ["vanilla", "em_posterior"] and rows["guard_length"].guard
    em = rows["em_posterior"]
    base = bench.judge.baselines("gauss", "search")
    assert base.weak < em.transfer <= base.ceiling + 0.05 and em.n_seeds == 4
    assert em.pgr.low < em.pgr.value < em.pgr.high and em.pgr.value > rows["vanilla"].pgr.value
    assert em.pgr.value == pytest.approx((em.transfer - base.weak) / (base.ceiling - base.weak))
    assert ("vanilla", 3) in ticks and len(ticks) == 4 * len(rows)


def test_a_task_without_a_clear_gap_has_accuracies_and_diagnostics_but_no_pgr(flat):
    bench = search_of(flat)
    extras = Extras(diagnostics=True, permuted=True)
    rows = list(run_panel([METHODS["vanilla"], METHODS["confident"]], bench, 2, extras=extras))
    for row in rows:
        assert row.pgr is None and row.permuted is None and row.teacher_contribution is None
        assert row.accuracy.low < row.transfer < row.accuracy.high and row.permuted_accuracy
        assert row.diagnostics["agrees_with_teacher"] > 0.4 and row.diagnostics["misfit"] > 0
    assert bench.judge.gap("gauss", "search").clear is False
    less = bench.judge.difference("gauss", "search", rows[1].predictions, rows[0].predictions)
    assert less.value == pytest.approx(rows[1].transfer - rows[0].transfer)


def test_diagnostics_never_compute_log_likelihoods_that_the_task_left_out(bench):
    """The model is at hand where an operator runs methods: asking it for every row took minutes."""
    vanilla, extras = [METHODS["vanilla"]], Extras(diagnostics=True)
    (asked,) = run_panel(vanilla, bench, 1, extras=extras)
    info = bench.task.info.model_copy(
        update={"settings": {**bench.task.info.settings, "log_likelihoods": False}}
    )
    left_out = replace(bench, task=replace(bench.task, info=info))
    (not_asked,) = run_panel(vanilla, left_out, 1, extras=extras)
    assert set(asked.diagnostics) - set(not_asked.diagnostics) == {"agrees_with_zero_shot"}


def test_seed_i_gets_the_labels_of_teacher_i(bench):
    seen = []

    def fit(task, student, seed):
        seen.append(task.weak_labels_N)
        return METHODS["zero_shot"].fit(task, student, seed)

    list(run_panel([Method("spy", fit, "Looks at its labels.")], bench, 4))
    known = bench.weak_labels
    for seed, labels_N in enumerate(seen):
        np.testing.assert_array_equal(labels_N, known.of_seed(known.seeds[seed % 3]))


def test_bad_panels_are_refused(bench):
    with pytest.raises(NotFound, match="vanilla_soft"):
        methods_named(["nope"])
    with pytest.raises(BadInput):
        run_panel([], bench, 3)

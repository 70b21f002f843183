"""What each stage and method does, on a task whose truth, channel and cue are known."""

import numpy as np
import pytest
from gaussian_task import STRONG
from method_world import World

from aarlab.core.errors import MethodFailed, NotFound
from aarlab.core.types import Example
from aarlab.testbed.answers import final_answer
from aarlab.testbed.methods import METHODS, find_method
from aarlab.testbed.methods.guards import MajorityAnswer
from aarlab.testbed.recipe import LabelStage, PredictStage, Recipe, SelectStage, TrainStage
from aarlab.testbed.run_recipe import run_recipe
from aarlab.testbed.stages.channel import Channel, channel_features, fit_channel
from aarlab.testbed.stages.fitting import out_of_fold, train_student
from aarlab.testbed.stages.label import label_rows
from aarlab.testbed.stages.run import RecipeRun
from aarlab.testbed.stages.select import neighbour_agreement, select_rows
from aarlab.testbed.stages.zero_shot import KINDS
from aarlab.testbed.student import Student
from aarlab.testbed.train import fit_head


def run_of(world, recipe, seed=0):
    return RecipeRun(recipe, world.task, world.factory(), seed)


def agreement(labels_N, world):
    return float(((labels_N > 0.5) == world.truth_N).mean())


def test_the_synthetic_picture_is_weak_to_strong(world):
    ceiling = world.factory().new().fit(world.task.inputs, world.truth_N)
    assert agreement(world.weak_N, world) < world.accuracy(ceiling) - 0.08


def test_confident_keeps_the_surest_rows_of_each_class(world):
    run = run_of(world, Recipe(select=SelectStage(kind="confident", keep=0.25)))
    labels_N = label_rows(run)
    rows = select_rows(run, labels_N)
    for positive in (True, False):
        of_class = np.flatnonzero((labels_N > 0.5) == positive)
        kept = np.intersect1d(rows, of_class)
        left = np.setdiff1d(of_class, kept)
        sureness = np.abs(labels_N - 0.5)
        assert len(kept) == round(0.25 * len(of_class))
        assert sureness[kept].min() >= sureness[left].max()


def test_threshold_keeps_rows_above_it_or_fails_with_a_reason(world):
    run = run_of(world, Recipe(select=SelectStage(kind="threshold", threshold=0.6)))
    rows = select_rows(run, world.task.weak_labels_N)
    sureness_N = np.maximum(world.task.weak_labels_N, 1 - world.task.weak_labels_N)
    assert (rows == np.flatnonzero(sureness_N > 0.6)).all() and 0 < len(rows) < len(sureness_N)
    with pytest.raises(MethodFailed, match="keep more"):
        select_rows(run, np.full(len(world.truth_N), 0.5))


def test_agreement_keeps_rows_where_the_strong_model_agrees(world):
    run = run_of(world, Recipe(select=SelectStage(kind="agreement")))
    labels_N = world.task.weak_labels_N
    rows = select_rows(run, labels_N)
    assert ((run.margins("pmi")[rows] > 0) == (labels_N[rows] > 0.5)).all()
    kept = ((labels_N > 0.5) == world.truth_N)[rows].mean()
    assert kept > agreement(labels_N, world) + 0.05


def test_neighbours_find_the_mislabelled_rows(world):
    states = world.source.states(world.task.inputs, STRONG)[:, :, :3]  # little noise
    flipped_N = world.truth_N.astype(bool).copy()
    flipped_N[:20] ^= True
    score_N = neighbour_agreement(states, flipped_N, 25)
    assert score_N[:20].mean() < score_N[20:].mean() - 0.1
    assert ((score_N >= 0) & (score_N <= 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_zero_shot_margins_know_something_and_are_standardised(world, kind):
    run = run_of(world, Recipe())
    margins_N = run.margins(kind)
    assert agreement(margins_N + 0.5, world) > 0.7
    centred = margins_N if world.task.kind == "preference" else margins_N - margins_N.mean()
    assert np.sqrt((centred**2).mean()) == pytest.approx(1)


def test_corrected_margin_is_free_of_length_and_unconditional_likelihood(world):
    run = run_of(world, Recipe())
    tokens_NA, alone_NA = run.logp.tokens_NA.astype(float), run.logp.alone_NA
    margins_N = run.margins("corrected")
    for values_NA in (tokens_NA, alone_NA):
        pair = world.task.kind == "preference"
        of_row_N = values_NA[:, 0] - values_NA[:, 1] if pair else values_NA[:, 0]
        of_row_N = of_row_N if pair else of_row_N - of_row_N.mean()
        assert abs((margins_N * of_row_N).mean()) < 1e-4 * np.abs(of_row_N).max() + 1e-6


def test_verification_margins_follow_the_weak_prior():
    world = World("verification")
    share = (run_of(world, Recipe()).margins("pmi") > 0).mean()
    assert share == pytest.approx(world.task.weak_labels_N.mean(), abs=0.02)


@pytest.mark.parametrize("source", ["zero_shot", "posterior", "blend", "em_posterior"])
def test_labels_with_the_strong_models_help_beat_the_weak_ones(world, source):
    labels_N = label_rows(run_of(world, Recipe(label=LabelStage(source=source))))
    assert labels_N.shape == world.truth_N.shape
    assert ((labels_N >= 0) & (labels_N <= 1)).all()
    assert agreement(labels_N, world) > agreement(world.weak_N, world) + 0.03


def test_temperature_softens_without_changing_the_label(world):
    soft_N = label_rows(run_of(world, Recipe(label=LabelStage(temperature=3.0))))
    weak_N = world.task.weak_labels_N
    assert ((soft_N > 0.5) == (weak_N > 0.5)).all()
    assert np.abs(soft_N - 0.5).mean() < np.abs(weak_N - 0.5).mean()


def test_channel_recovers_known_rates():
    rng = np.random.default_rng(0)
    n = 30_000
    features = np.stack([np.ones(n), rng.normal(size=n)], axis=1)
    prior = rng.uniform(0.05, 0.95, n)
    truth = rng.random(n) < prior
    known = Channel(np.array([1.2, 0.8]), np.array([-0.4, 0.5]))
    tpr, fpr = known.rates(features)
    hard = rng.random(n) < np.where(truth, tpr, fpr)
    found = fit_channel(hard, features, prior)
    np.testing.assert_allclose(found.true_F, known.true_F, atol=0.12)
    np.testing.assert_allclose(found.false_F, known.false_F, atol=0.12)
    posterior = found.posterior(hard, features, prior)
    best = known.posterior(hard, features, prior)
    assert np.abs(posterior - best).mean() < 0.01
    assert ((posterior > 0.5) == truth).mean() > max(
        (hard == truth).mean(), ((prior > 0.5) == truth).mean()
    )


def test_channel_features_are_constant_then_standardised():
    rng = np.random.default_rng(1)
    features = channel_features(rng.random(50), rng.normal(size=(50, 3)))
    assert features.shape == (50, 5) and (features[:, 0] == 1).all()
    np.testing.assert_allclose(features[:, 1:].mean(axis=0), 0, atol=1e-9)


def test_self_training_never_trains_on_a_rows_own_label(world, monkeypatch):
    """Changing a row's label (and its problem's) must leave its own out-of-fold label as it was."""
    run, rows = run_of(world, Recipe(train=TrainStage(rounds=1))), np.arange(len(world.truth_N))
    labels_N = world.task.weak_labels_N
    before = out_of_fold(run, rows, labels_N, 2, 1)
    changed_N = labels_N.copy()
    changed_N[:2] = 1 - changed_N[:2]  # rows 0 and 1 are one problem
    after = out_of_fold(run, rows, changed_N, 2, 1)
    assert world.task.groups[0] == world.task.groups[1]
    np.testing.assert_array_equal(before[:2], after[:2])
    assert not np.allclose(before[2:], after[2:])


def recorded(world, monkeypatch, recipe):
    """(n rows, targets, weights, epochs, lr) of each training of one run."""
    calls = []

    def recording(states, targets, options, weights=None, start=None):
        calls.append((len(states), targets, weights, options, start))
        return fit_head(states, targets, options, weights, start)

    monkeypatch.setattr("aarlab.testbed.student.fit_head", recording)
    run_recipe(recipe)(world.task, world.factory(), 0)
    return calls


def test_vanilla_rounds_the_labels_and_soft_does_not(world, monkeypatch):
    ((_, hard, _, _, _),) = recorded(world, monkeypatch, METHODS["vanilla"].recipe)
    ((_, soft, _, _, _),) = recorded(world, monkeypatch, METHODS["vanilla_soft"].recipe)
    assert set(hard) == {0.0, 1.0}
    np.testing.assert_array_equal(soft, world.task.weak_labels_N)


def test_confident_first_is_two_phases_on_one_student(world, monkeypatch):
    recipe = Recipe(train=TrainStage(order="confident_first", epochs=3, lr=0.002))
    first, second = recorded(world, monkeypatch, recipe)
    n = len(world.truth_N)
    assert (first[0], first[3].epochs, first[3].lr) == (n // 2, 2, 0.002)
    assert (second[0], second[3].epochs, second[3].lr) == (n, 3, 0.001)
    assert first[4] is None and second[4] is not None
    assert np.abs(first[1] - 0.5).min() >= np.median(np.abs(world.task.weak_labels_N - 0.5)) - 1e-9


def test_weighting_uses_confidence(world, monkeypatch):
    ((_, soft, weights, _, _),) = recorded(
        world, monkeypatch, Recipe(train=TrainStage(weighting="confidence"))
    )
    np.testing.assert_allclose(weights, np.maximum(np.abs(2 * soft - 1), 1e-3))


def test_rounds_and_members_train_that_many_students(world, monkeypatch):
    recipe = Recipe(train=TrainStage(rounds=2, folds=3), predict=PredictStage(members=4))
    calls = recorded(world, monkeypatch, recipe)
    assert len(calls) == 2 * 3 + 4
    assert len({call[3].seed for call in calls}) == len(calls)


def test_ensemble_is_the_mean_of_its_members(world):
    recipe = Recipe(predict=PredictStage(members=3))
    predictor = run_recipe(recipe)(world.task, world.factory(), 0)
    rows = world.data.splits["search"].examples
    each = [member.predict_proba(rows) for member in predictor.members]
    np.testing.assert_allclose(predictor.predict_proba(rows), np.mean(each, axis=0))
    assert np.std(each, axis=0).max() > 0


def test_blend_uses_the_margin_and_predicts_row_by_row(world):
    recipe = Recipe(predict=PredictStage(kind="blend", weight=2.0))
    predictor = run_recipe(recipe)(world.task, world.factory(), 0)
    student = run_recipe(Recipe())(world.task, world.factory(), 0)
    rows = world.data.splits["search"].examples
    assert world.accuracy(predictor) > world.accuracy(student)
    alone = [predictor.predict_proba([row])[0] for row in rows[:5]]
    np.testing.assert_allclose(alone, predictor.predict_proba(rows)[:5], rtol=1e-6)


def test_em_posterior_beats_vanilla_where_the_margin_knows_more(world):
    vanilla, em = (
        world.accuracy(METHODS[name].fit(world.task, world.factory(), 0))
        for name in ("vanilla", "em_posterior")
    )
    assert em > vanilla + 0.03


def test_zero_shot_trains_nothing(world):
    factory = world.factory()
    predictor = METHODS["zero_shot"].fit(world.task, factory, 0)
    assert world.accuracy(predictor) > 0.7 and factory.compute.rows_trained == 0


def test_compute_is_counted(world):
    factory = world.factory()
    student = factory.new().fit(world.task.inputs, world.truth_N)
    student.predict_proba(world.task.inputs[:10])
    n = len(world.truth_N)
    assert factory.compute.rows_trained == n * student.options.epochs
    assert factory.compute.rows_forwarded == n + 10 and factory.compute.seconds > 0


def test_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(NotFound, match="vanilla"):
        find_method("vanila")


def test_train_student_works_on_a_subset(world):
    run, rows = run_of(world, Recipe()), np.arange(40)
    student = train_student(run, rows, world.task.weak_labels_N[rows], 0)
    assert isinstance(student, Student)


# ---------------------------------------------------------------- guards
def rows_of(*answers, group="g"):
    return [Example(f"{group}{i}", group, "q", (a,)) for i, a in enumerate(answers)]


def test_majority_answer_votes_within_a_group():
    rows = [
        *rows_of("so it is 12", "we get 12", "that makes 7", group="a"),
        *rows_of("5", "6", group="b"),
        *rows_of("9", group="c"),
    ]
    assert MajorityAnswer().predict_proba(rows).tolist() == [0.9, 0.9, 0.1, 0.5, 0.5, 0.5]
    pairs = [Example("p", "p", "q", ("yes", "no")), Example("r", "p", "q", ("yes", "maybe"))]
    assert (MajorityAnswer().predict_proba(pairs) > 0.5).all()


def test_final_answer_reads_numbers_or_text():
    assert final_answer("3 + 4 = 1,007.5.") == "1007.5" and final_answer(" No ") == "no"


def test_length_guard_learns_the_sign_from_the_weak_labels():
    world = World("verification")
    rows = tuple(
        Example(e.id, e.group, e.prompt, ("word " * (3 + 20 * (w < 0.5)),))
        for e, w in zip(world.task.inputs, world.weak_N, strict=True)
    )
    from dataclasses import replace

    predictor = METHODS["guard_length"].fit(replace(world.task, inputs=rows), world.factory(), 0)
    assert ((predictor.predict_proba(rows) > 0.5) == (world.weak_N > 0.5)).all()

"""What each stage and method does, on a task whose truth, channel and cue are known."""

import random
from dataclasses import replace

import numpy as np
import pytest
from gaussian_task import STRONG
from method_world import World

from aarlab.core.errors import MethodFailed, NotFound
from aarlab.core.types import Example
from aarlab.testbed.methods import METHODS, find_method
from aarlab.testbed.methods.guards import MajorityAnswer
from aarlab.testbed.recipes.recipe import (
    LabelStage,
    PredictStage,
    Recipe,
    SelectStage,
    TrainStage,
    sample,
    with_options,
)
from aarlab.testbed.recipes.run_recipe import run_recipe
from aarlab.testbed.recipes.stages import (
    Channel,
    RecipeRun,
    channel_features,
    fit_channel,
    label_rows,
    mid_entropy,
    nearest,
    neighbour_agreement,
    out_of_fold,
    overlap_density,
    row_points,
    select_rows,
    train_student,
)
from aarlab.testbed.recipes.zero_shot import KINDS
from aarlab.testbed.running.checking import STRONG_LAYER, make_toy
from aarlab.testbed.students.options import AdapterOptions
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.teacher import cross_fit, fold_of_rows
from aarlab.testbed.students.train import fit_head, nothing
from aarlab.testbed.tasks.train_task import final_answer


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


def with_teachers(world, labels_SN):
    return replace(world.task, weak_labels_N=labels_SN[0], teacher_labels_SN=labels_SN)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("weak", [0.9, 0.2, 0.6]), ("teachers", [0.6, 0.3, 0.7]), ("votes", [2 / 3, 0, 1])],
)
def test_label_sources_of_several_teachers(world, source, expected):
    task = replace(
        world.task,
        inputs=world.task.inputs[:3],
        groups=world.task.groups[:3],
        weak_labels_N=np.array([0.9, 0.2, 0.6]),
        teacher_labels_SN=np.array([[0.9, 0.2, 0.6], [0.7, 0.5, 0.9], [0.2, 0.2, 0.6]]),
    )
    run = RecipeRun(Recipe(label=LabelStage(source=source)), task, world.factory(), 0)
    np.testing.assert_allclose(label_rows(run), expected)


def test_with_one_teacher_its_mean_is_the_weak_label(world):
    task = with_teachers(world, world.task.weak_labels_N[None])
    for source, expected in (("teachers", task.weak_labels_N), ("votes", task.weak_labels_N > 0.5)):
        run = RecipeRun(Recipe(label=LabelStage(source=source)), task, world.factory(), 0)
        np.testing.assert_array_equal(label_rows(run), expected)


@pytest.mark.parametrize("seed", range(40))
def test_a_recipe_asks_for_log_likelihoods_exactly_when_it_says_so(seed):
    """Run drawn recipes where there are none: those that ask fail, the others train."""
    toy = make_toy("preference", 60, 12)

    class States:
        states, layers = toy.source.states, toy.source.layers

        def answer_logp(self, examples):
            raise NotFound("no log-likelihoods")

    recipe = sample(random.Random(seed))
    cheap = {"train.rounds": 0, "train.epochs": 1, "predict.members": 1}
    recipe = with_options(recipe, cheap) if recipe.predict.kind != "zero_shot" else recipe
    try:
        predictor = run_recipe(recipe)(toy.task, StudentFactory(States(), STRONG_LAYER), 0)
        probs_N = predictor.predict_proba(toy.rows)
    except NotFound:
        assert recipe.asks_zero_shot
    except MethodFailed as error:
        assert "keep more" in str(error)  # a threshold that no row passes
    else:
        assert ((probs_N >= 0) & (probs_N <= 1)).all()
        assert not recipe.asks_zero_shot or recipe.predict.weight == 0


def test_confident_votes_are_the_rows_on_which_most_teachers_agree(world):
    rng = np.random.default_rng(0)
    task = with_teachers(world, rng.random((8, len(world.truth_N))))
    votes_N = (task.teacher_labels_SN > 0.5).sum(axis=0)
    label, select = LabelStage(source="votes"), SelectStage(kind="confident", keep=0.2)
    run = RecipeRun(Recipe(label=label, select=select), task, world.factory(), 0)
    rows = select_rows(run, label_rows(run))
    for of_class in (votes_N > 4, votes_N <= 4):
        kept = np.intersect1d(rows, np.flatnonzero(of_class))
        left = np.setdiff1d(np.flatnonzero(of_class), kept)
        assert len(kept) == round(0.2 * of_class.sum())
        assert np.abs(votes_N - 4)[kept].min() >= np.abs(votes_N - 4)[left].max()


def test_out_of_fold_keeps_rows_that_students_of_other_problems_predict_too(world):
    labels_N, wrong = world.truth_N.astype(float).copy(), np.zeros(len(world.truth_N), bool)
    wrong[:40] = True
    labels_N[wrong] = 1 - labels_N[wrong]
    run = run_of(world, Recipe(select=SelectStage(kind="out_of_fold")))
    rows = select_rows(run, labels_N)
    own_N = out_of_fold(run, np.arange(len(labels_N)), labels_N, 2, 200)
    np.testing.assert_array_equal(rows, np.flatnonzero((own_N > 0.5) == (labels_N > 0.5)))
    assert wrong[rows].mean() < 0.5 * wrong.mean()


def bank_nearest(states_NAD, k):
    """The neighbours as they were found among the rows and their mirror images, one by one."""
    points_ND = row_points(states_NAD)
    paired = states_NAD.shape[1] == 2
    bank_MD = np.concatenate([points_ND, -points_ND]) if paired else points_ND
    cosine_NM = points_ND @ bank_MD.T
    np.fill_diagonal(cosine_NM, -np.inf)
    bank_NK = np.argsort(-cosine_NM, axis=1)[:, :k]
    return bank_NK, np.take_along_axis(cosine_NM, bank_NK, axis=1)


def test_neighbours_are_those_of_the_whole_bank_of_mirror_images(world):
    states_NAD = world.source.states(world.task.inputs, STRONG)
    bank_NK, cosine_NK = bank_nearest(states_NAD, 25)
    found = nearest(states_NAD, 25)
    np.testing.assert_array_equal(np.sort(found.bank_NK, axis=1), np.sort(bank_NK, axis=1))
    np.testing.assert_allclose(
        np.sort(found.cosine_NK, axis=1), np.sort(cosine_NK, axis=1), atol=1e-6
    )
    positive_N = world.truth_N > 0
    label_M = np.concatenate([positive_N, ~positive_N])
    same_N = (label_M[bank_NK] == positive_N[:, None]).mean(axis=1)
    np.testing.assert_allclose(neighbour_agreement(found, positive_N), same_N)


def test_seeds_share_the_neighbours_of_the_same_states(world, monkeypatch):
    found = []

    def counting(states_NAD, k):
        found.append((len(states_NAD), k))
        return nearest(states_NAD, k)

    monkeypatch.setattr("aarlab.testbed.recipes.stages.nearest", counting)
    fit = run_recipe(Recipe(select=SelectStage(kind="neighbours", k=20)))
    rows = world.data.splits["search"].examples
    shared = [fit(world.task, world.factory(), seed).predict_proba(rows) for seed in (0, 1)]
    assert found == [(len(world.truth_N), 20)]
    alone = run_recipe(Recipe(select=SelectStage(kind="neighbours", k=20)))
    again = alone(world.task, world.factory(), 1).predict_proba(rows)
    np.testing.assert_array_equal(shared[1], again)
    other = replace(world.factory(), layer=1)
    fit(world.task, other, 0)
    assert len(found) == 3  # other states have other neighbours


def test_overlap_is_the_sum_of_four_z_scores_and_selects_by_class(world):
    run = run_of(world, Recipe(select=SelectStage(kind="overlap", keep=0.3, k=20)), seed=4)
    labels_N = world.task.teacher_labels_SN.mean(axis=0)
    positive_N = labels_N > 0.5
    bank_NK, cosine_NK = bank_nearest(run.states, 20)
    linear = run.factory.options.model_copy(update={"hidden": 0, "epochs": 20, "seed": 4})

    def fit_predict(train, held_out):
        student = run.factory.new(linear).fit(run.rows(train), positive_N[train].astype(float))
        return student.predict_proba(run.rows(held_out))

    own_N = cross_fit(fold_of_rows(world.task.groups, 5, 4), fit_predict)
    label_M = np.concatenate([positive_N, ~positive_N])
    signals = [
        np.where(positive_N, own_N, 1 - own_N),
        (label_M[bank_NK] == positive_N[:, None]).mean(axis=1),
        cosine_NK.mean(axis=1),
        mid_entropy(labels_N),
    ]
    score_N = sum((signal - signal.mean()) / signal.std() for signal in signals)
    np.testing.assert_allclose(overlap_density(run, labels_N, 20), score_N, atol=1e-5)
    rows = select_rows(run, labels_N)
    for of_class in (np.flatnonzero(positive_N), np.flatnonzero(~positive_N)):
        best = of_class[np.argsort(-score_N[of_class])[: round(0.3 * len(of_class))]]
        np.testing.assert_array_equal(np.intersect1d(rows, of_class), np.sort(best))


def test_layers_average_a_student_on_each(world):
    """The task stores layers 1, 2 and 3 and its student is on 2."""
    rows, targets_N = np.arange(len(world.truth_N)), world.task.weak_labels_N
    for layers, used in (("one", [2]), ("three", [1, 2, 3]), ("all", [1, 2, 3])):
        run = run_of(world, Recipe(train=TrainStage(layers=layers)))
        options = run.factory.options.model_copy(update={"seed": 9})
        each = [
            run.factory.at(n)
            .new(options)
            .fit(world.task.inputs, targets_N)
            .predict_proba(world.task.inputs)
            for n in used
        ]
        student = train_student(run, rows, targets_N, 9)
        np.testing.assert_array_equal(
            student.predict_proba(world.task.inputs), np.mean(each, axis=0)
        )


def test_three_layers_are_the_nearest_ones_and_one_that_is_stored_is_enough(world):
    class Stored:
        def __init__(self, *layers):
            self.kept = layers

        def layers(self, examples):
            return self.kept

    def chosen(layers, *stored):
        recipe = Recipe(train=TrainStage(layers=layers))
        return RecipeRun(recipe, world.task, StudentFactory(Stored(*stored), 15), 0).layers

    assert chosen("three", 0, 12, 15, 18, 21) == (12, 15, 18)
    assert chosen("three", 15, 18) == (15, 18) and chosen("three", 15) == (15,)
    assert chosen("all", 0, 12, 15) == (0, 12, 15) and chosen("one", 0, 12, 15) == (15,)


def test_students_that_train_blocks_refuse_several_layers(world):
    recipe = Recipe(train=TrainStage(layers="three"))
    blocks = replace(world.factory(), adapter=AdapterOptions())
    with pytest.raises(MethodFailed, match="use layers one"):
        run_recipe(recipe)(world.task, blocks, 0)


def test_neighbours_find_the_mislabelled_rows(world):
    states = world.source.states(world.task.inputs, STRONG)[:, :, :3]  # little noise
    flipped_N = world.truth_N.astype(bool).copy()
    flipped_N[:20] ^= True
    score_N = neighbour_agreement(nearest(states, 25), flipped_N)
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


def test_channel_is_the_optimum_of_the_marginal_likelihood_written_out():
    rng = np.random.default_rng(5)
    n = 600
    features = np.concatenate([np.ones((n, 1)), rng.normal(size=(n, 4))], axis=1)
    hard, prior = rng.random(n) < 0.6, rng.uniform(0.01, 0.99, n)

    def value(weights):
        tpr, fpr = (1 / (1 + np.exp(-features @ part)) for part in (weights[:5], weights[5:]))
        says_1 = tpr * prior + fpr * (1 - prior)
        away = weights - np.r_[np.log(7 / 3), 0, 0, 0, 0, -np.log(7 / 3), 0, 0, 0, 0]
        return -np.log(np.where(hard, says_1, 1 - says_1)).sum() + away @ away

    found = fit_channel(hard, features, prior)
    at = np.r_[found.true_F, found.false_F]
    steps = 1e-5 * np.eye(10)
    slopes = [(value(at + step) - value(at - step)) / 2e-5 for step in steps]
    assert np.abs(slopes).max() < 0.02 and all(value(at + 1e3 * s) > value(at) for s in steps)


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

    def recording(states, targets, options, weights=None, start=None, between=nothing):
        calls.append((len(states), targets, weights, options, start))
        return fit_head(states, targets, options, weights, start, between)

    monkeypatch.setattr("aarlab.testbed.students.student.fit_head", recording)
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
    predictor = METHODS["guard_length"].fit(replace(world.task, inputs=rows), world.factory(), 0)
    assert ((predictor.predict_proba(rows) > 0.5) == (world.weak_N > 0.5)).all()

"""What each method of the catalogue does, shown on small planted cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from method_world import STRONG, WEAK, World

from aarlab.core.errors import MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.elicitation import Search, agreement_weights, consistent_rows, evolve
from aarlab.testbed.methods.losses import effective_rank, fit_low_rank, small_loss_rows
from aarlab.testbed.methods.probes import _ccs_loss, fit_ccs, side_means
from aarlab.testbed.methods.selection import (
    _component_size,
    reliability_weights,
    smoothed,
)
from aarlab.testbed.methods.teachers import beta_labels, boosting_weights, closest_teacher
from aarlab.testbed.models.answers import verdict_row
from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.recipes.stages import RecipeRun, mid_entropy, overlap_density
from aarlab.testbed.students.student import Student, StudentFactory


@pytest.fixture(scope="module")
def world():
    return World("verification")


def with_labels(world, labels_N):
    return replace(world.task, weak_labels_N=labels_N, teacher_labels_SN=labels_N[None])


def flipped(world, share, seed=0):
    """The truth with this share of rows flipped, and which ones."""
    wrong = np.random.default_rng(seed).random(len(world.truth_N)) < share
    return np.where(wrong, 1 - world.truth_N, world.truth_N).astype(float), wrong


def trained_on(world, monkeypatch, name, task=None):
    """(inputs, targets, weights, layer) of every training that a method does."""
    seen = []
    train = Student._train

    def spy(self, inputs, targets_N, weights_N, *how):
        seen.append((list(inputs), np.array(targets_N), weights_N, self._factory.layer))
        return train(self, inputs, targets_N, weights_N, *how)

    monkeypatch.setattr(Student, "_train", spy)
    METHODS[name].fit(task or world.task, world.factory(), 0)
    return seen


# --- losses and training


def test_bootstrapping_passes_labels_up_through_the_lower_layer(world, monkeypatch):
    layers = [layer for _, _, _, layer in trained_on(world, monkeypatch, "bootstrapping")]
    assert layers == [WEAK, WEAK, STRONG]


def test_bootstrapping_without_a_lower_layer_says_so(world):
    class One:
        states = world.source.states

        def layers(self, examples):
            return (STRONG,)

    with pytest.raises(MethodFailed, match="needs states below layer 2"):
        METHODS["bootstrapping"].fit(world.task, StudentFactory(One(), STRONG), 0)


def test_co_teaching_leaves_out_rows_whose_label_is_wrong(world):
    labels_N, wrong = flipped(world, 0.2)
    student = world.factory().new().fit(world.task.inputs, labels_N)
    kept = small_loss_rows(student, world.task, labels_N, 0.8)
    left_out = np.setdiff1d(np.arange(len(labels_N)), kept)
    assert wrong[left_out].mean() > 2 * wrong.mean()


def test_low_rank_lowers_the_effective_rank(world):
    ranks, states = [], torch.from_numpy(world.factory().states(world.task.inputs)[:, 0])
    for penalty in (0.0, 1.0):
        head = fit_low_rank(world.task, world.factory(), 0, penalty)
        inner = states.shape[1] * head.hidden
        first = torch.from_numpy(head.theta[:inner].reshape(-1, head.hidden))
        bias = torch.from_numpy(head.theta[inner : inner + head.hidden])
        scaled = (states - torch.from_numpy(head.mean_D)) / torch.from_numpy(head.scale_D)
        ranks.append(float(effective_rank(torch.relu(scaled @ first + bias))))
    assert ranks[1] < 0.8 * ranks[0]


# --- selecting, weighting, relabelling


def test_calibrated_weights_fall_where_confidence_means_nothing():
    rng = np.random.default_rng(0)
    truth = rng.random(2000) < 0.5
    right = np.where(truth, 0.95, 0.05)
    random = np.where(rng.random(2000) < 0.5, 0.95, 0.05)
    assert reliability_weights(right, truth).mean() > 0.9
    assert reliability_weights(random, truth).mean() < 0.2


@pytest.mark.parametrize(
    "name", ["neighbourhood_drop", "neighbourhood_logistic", "neighbourhood_component"]
)
def test_neighbourhood_filters_drop_a_tenth_with_more_wrong_labels(world, monkeypatch, name):
    labels_N, wrong = flipped(world, 0.15)
    *_, last = trained_on(world, monkeypatch, name, with_labels(world, labels_N))
    kept = {example.id for example in last[0]}
    dropped = np.array([example.id not in kept for example in world.task.inputs])
    assert dropped.mean() == pytest.approx(0.1, abs=0.01)
    assert wrong[dropped].mean() > (1 if name.endswith("component") else 1.5) * wrong.mean()


def test_a_row_among_rows_of_the_other_label_is_a_small_component(world):
    labels_N = np.ones(len(world.truth_N))
    labels_N[5] = 0
    task = with_labels(world, labels_N)
    sizes = _component_size(RecipeRun(Recipe(), task, world.factory(), 0))
    assert sizes[5] == 1 and np.median(sizes) > 100


def test_relabelling_mends_more_labels_than_it_breaks(world, monkeypatch):
    labels_N, _ = flipped(world, 0.15)
    task = with_labels(world, labels_N)
    *_, last = trained_on(world, monkeypatch, "neighbourhood_relabel", task)
    before, after = (labels_N == world.truth_N).mean(), (last[1] == world.truth_N).mean()
    assert after > before


def test_overlap_density_prefers_rows_whose_label_fits_their_neighbourhood(world):
    labels_N, wrong = flipped(world, 0.2)
    task = with_labels(world, labels_N)
    score_N = overlap_density(RecipeRun(Recipe(), task, world.factory(), 0), labels_N, 50)
    assert score_N[~wrong].mean() > score_N[wrong].mean() + 1
    middle = mid_entropy(np.array([0.5, 0.11, 0.999]))
    assert middle[1] > max(middle[0], middle[2])


def test_epiplexity_smooths_only_what_is_not_learned():
    labels_N, gain_N = np.full(10, 0.9), np.arange(10.0)
    out = smoothed(labels_N, gain_N)
    assert out[0] == 0.5 and (np.diff(out[:5]) > 0).all()
    assert out[4:] == pytest.approx(0.9)
    assert out[2] == pytest.approx(0.9 - 0.4 * 0.25)  # convex: (1 - .2 / .4)^2


def test_mdl_curriculum_begins_with_the_surer_half(world, monkeypatch):
    first, second = trained_on(world, monkeypatch, "mdl_curriculum")
    confidence = np.abs(world.task.weak_labels_N - 0.5)
    assert np.abs(first[1] - 0.5).min() >= np.median(confidence) - 1e-6
    assert len(first[0]) == len(second[0]) // 2 == len(world.task.inputs) // 2


def test_reliability_ignores_rows_that_split_the_teachers(world, monkeypatch):
    sure = np.where(world.truth_N > 0, 0.8, 0.2)
    split = np.arange(len(sure)) < 100
    task = replace(world.task, teacher_labels_SN=np.stack([sure, np.where(split, 1 - sure, sure)]))
    (last,) = trained_on(world, monkeypatch, "reliability", task)
    assert (last[2][split] <= 1e-3).all() and (last[2][~split] == 1).all()


def test_two_stage_brings_rows_back_with_the_students_labels(world, monkeypatch):
    first, second = trained_on(world, monkeypatch, "two_stage")
    assert len(first[0]) == pytest.approx(len(world.task.inputs) / 2, abs=2)
    assert len(second[0]) == pytest.approx(0.75 * len(world.task.inputs), abs=3)


def test_selective_takes_its_own_label_only_where_the_margin_is_large(world, monkeypatch):
    labels_N = np.full(len(world.truth_N), 0.51)
    labels_N[::2] = 0.49
    (last,) = trained_on(world, monkeypatch, "selective", with_labels(world, labels_N))
    changed = (last[1] > 0.5) != (labels_N > 0.5)
    assert 0.02 < changed.mean() < 0.3


# --- several teachers


def test_the_better_teacher_weighs_more():
    rng = np.random.default_rng(1)
    truth = rng.random(500) < 0.5
    labels_SN = np.stack(
        [np.where((rng.random(500) < right) == truth, 0.8, 0.2) for right in (0.9, 0.8, 0.8, 0.6)]
    )
    weights = boosting_weights(labels_SN)
    assert weights[0] > weights[1:3].max() > weights[3]
    assert (boosting_weights(labels_SN[:1]) == 1).all()


def test_co_supervision_asks_the_teacher_nearest_to_the_student():
    label_N, gap_N = closest_teacher(np.array([[0.9, 0.1], [0.2, 0.4]]), np.array([0.8, 0.45]))
    assert label_N == pytest.approx([0.9, 0.4]) and gap_N == pytest.approx([0.1, 0.05])


def test_the_beta_posterior_trusts_teachers_that_agree():
    mean_N, weight_N = beta_labels(np.array([[0.9, 0.9], [0.9, 0.1], [0.9, 0.5]]))
    assert mean_N[0] > 0.7 and mean_N[1] == pytest.approx(0.5)
    assert weight_N[0] > weight_N[1] > 0


# --- the student's own knowledge


def planted_pairs(n=200, width=12, seed=0):
    """Contrast pairs along one direction, and the truth they follow."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.5
    pairs = rng.normal(0, 0.3, (n, 2, width)).astype(np.float32)
    pairs[:, 0, 3] += np.where(truth, 2, -2)
    pairs[:, 1, 3] -= np.where(truth, 2, -2)
    return pairs + 5, truth  # a constant that both sides share


def test_ccs_finds_the_planted_direction_and_the_teacher_gives_its_sign():
    pairs, truth = planted_pairs()
    probe = fit_ccs(pairs, 0, side_means(pairs, "verification"))
    assert np.abs(probe.weights_D).argmax() == 3
    weak = np.where(truth, 0.6, 0.4)
    weak[:60] = 1 - weak[:60]  # 30 % wrong: enough for a sign
    for sign in (1, -1):
        signed = probe._replace(sign=sign).signed_by(pairs, weak)
        assert ((signed.proba(pairs) > 0.5) == truth).mean() > 0.98


@pytest.mark.parametrize("name", ["ccs", "vinc", "ccs_es"])
def test_swapping_the_answers_swaps_the_verdict_of_a_pair_probe(name):
    world = World("preference")
    predictor = METHODS[name].fit(world.task, world.factory(), 0)
    rows = world.data.splits["search"].examples
    swapped = [replace(row, answers=row.answers[::-1]) for row in rows]
    both = predictor.predict_proba(rows) + predictor.predict_proba(swapped)
    assert both == pytest.approx(1, abs=1e-5)


def test_the_slope_of_the_ccs_loss_is_that_of_its_value():
    pairs, _ = planted_pairs(20, 4)
    scaled = (pairs - pairs.mean(axis=0)).astype(np.float64)
    theta = np.random.default_rng(0).normal(size=5)
    _, slope = _ccs_loss(theta, scaled)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-6
        up, down = _ccs_loss(theta + step, scaled)[0], _ccs_loss(theta - step, scaled)[0]
        assert slope[i] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_ccs_es_weights_agreement_by_the_surer_and_conflict_by_almost_nothing():
    weights = agreement_weights(np.array([0.9, 0.9, 0.5]), np.array([0.6, 0.4, 0.4]))
    assert weights == pytest.approx([0.8, 0.05 * 0.2, 0.2], abs=1e-5)


def test_evolution_raises_the_fitness_and_never_ends_below_its_start(world):
    head = world.factory().new().fit(world.task.inputs, world.task.weak_labels_N).head
    states = world.factory().states(world.task.inputs)

    def fitness(candidate):
        return float(((candidate.logits(states) > 0) == world.truth_N).mean())

    assert fitness(evolve(head, fitness, 0)) > fitness(head)
    assert evolve(head, lambda candidate: 0.0, 0) is head


def test_icm_raises_its_utility_and_finds_the_salient_concept():
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(120) < 0.5, 1.0, -1.0)
    inputs = rng.normal(0, 0.4, (120, 4))
    inputs[:, 0] += 1.5 * truth
    search = Search(inputs, {}, {}, np.random.default_rng(1))
    search.labels_N[:8] = rng.choice((-1.0, 1.0), 8)
    start = search.current = search.utility(search.labels_N)
    for number in range(360):
        search.step(max(0.01, 10 / (1 + 2 * np.log1p(number))))
    assert search.current > start
    agreement = (search.filled() == truth).mean()
    assert max(agreement, 1 - agreement) > 0.9


def test_icm_gives_one_label_to_rows_with_the_same_answer():
    twins, rivals = {0: [1], 1: [0], 2: [], 3: []}, {0: [2], 1: [2], 2: [0, 1], 3: []}
    search = Search(np.eye(4), twins, rivals, np.random.default_rng(0))
    search.labels_N[:] = (1, -1, 1, -1)
    assert search.inconsistencies(search.labels_N) == 2  # twins differ; two answers are right
    search.current = -1e9
    for _ in range(20):
        search.step(0.01)
    assert search.inconsistencies(search.labels_N) == 0


def test_ue_zero_shot_keeps_rows_that_are_consistent_within_their_problem(world):
    inputs = tuple(
        Example(str(i), "g", "sum?", (f"it is {answer}",)) for i, answer in enumerate((3, 3, 4, 5))
    )
    task = replace(world.task, inputs=inputs)
    margins = np.array([[1, 2, 1], [-1, -1, -2], [1, 1, 1], [1, -1, 1]])
    assert consistent_rows(task, margins).tolist() == [False, False, True, False]
    pairs = replace(task, kind="preference")
    assert consistent_rows(pairs, margins).tolist() == [True, True, True, False]


def test_easy_to_hard_learns_from_the_likelier_answers(world, monkeypatch):
    (last,) = trained_on(world, monkeypatch, "easy_to_hard")
    logp = world.source.answer_logp(world.task.inputs)
    ease_N = (logp.given_prompt_NA / logp.tokens_NA)[:, 0]
    kept = {example.id for example in last[0]}
    kept_N = np.array([example.id in kept for example in world.task.inputs])
    assert kept_N.mean() == pytest.approx(0.5, abs=0.01)
    assert ease_N[kept_N].mean() > ease_N[~kept_N].mean() + 0.02


def test_born_again_trains_three_generations_out_of_fold(world, monkeypatch):
    assert len(trained_on(world, monkeypatch, "born_again")) == 3 * 2 + 1


def test_zero_shot_tuned_trains_no_student(world, monkeypatch):
    assert trained_on(world, monkeypatch, "zero_shot_tuned") == []


def test_verdict_rows_name_both_answers_and_turn_round():
    pair = Example("1", "g", "Q", ("good", "bad"))
    plain, turned = verdict_row(pair, "Which?"), verdict_row(pair, "Which?", swapped=True)
    assert "A: good\nB: bad" in plain.prompt and plain.answers == (" A", " B")
    assert "A: bad\nB: good" in turned.prompt and turned.answers == (" B", " A")
    single = verdict_row(Example("1", "g", "Q", ("42",)), "Right?", swapped=True)
    assert single.answers == (" Yes", " No") and single.prompt.endswith("(No or Yes)")

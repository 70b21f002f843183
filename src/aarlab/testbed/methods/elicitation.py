"""Use the strong student's own knowledge (methods 25-34).

Internal coherence maximisation (method 27, arXiv 2506.10139) works on a probe instead of prompts.
It maximises U(D) = alpha mean log P(y_i | D without i) - number of inconsistencies by annealing
over which rows are labelled and how. The source asks a language model with the other rows in its
context, or fine-tunes it by folds. Here P is a ridge classifier on the strong model's frozen
states, whose leave-one-out predictions have a closed form.

Evolution strategies (methods 29 and 32) change a student's output weights. The sources perturb
LoRA-B or all weights of a language model; here it is the head's last layer.

Legend: N rows, K components of the states, or output weights with their bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.methods.probes import (
    PairProbe,
    ccs,
    contrast_states,
    fit_ccs,
    row_vectors,
    side_means,
    truth_mean,
    truth_pca,
    verdict_margins,
    vinc,
)
from aarlab.testbed.recipes.recipe import (
    LabelStage,
    PredictStage,
    Recipe,
    SelectStage,
    TrainStage,
    ZeroShotKind,
)
from aarlab.testbed.recipes.run_recipe import RecipePredictor
from aarlab.testbed.recipes.stages import Floats64, RecipeRun, em_posterior, top_rows, train_student
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import Ints
from aarlab.testbed.students.train import Floats, Head, expit
from aarlab.testbed.tasks.train_task import TrainTask

GENERATIONS, PAIRS, SPREAD, STEP = 40, 8, 0.05, 0.1
MEMBERS, TRIMMED, EPSILON, FITNESS_ROWS = 16, 0.15, 0.05, 200
Fitness = Callable[[Head], float]


def evolve(head: Head, fitness: Fitness, seed: int) -> Head:
    """Maximise the fitness by an antithetic evolution strategy on the head's output weights.

    The K weights move along sum (f+ - f-) delta, with f standardised. Perturbations are SPREAD and
    steps STEP times the mean size of the output weights. The best point seen is returned, so the
    fitness never ends below its start.
    """
    size = (head.hidden or len(head.mean_D)) + 1
    tail_K = head.theta[-size:].astype(np.float64)
    unit = max(float(np.abs(tail_K).mean()), 1e-3)
    rng = np.random.default_rng([seed, 32])
    best, best_fitness = head, fitness(head)
    for _ in range(GENERATIONS):
        deltas_PK = rng.normal(size=(PAIRS, size))
        gains_P = np.array(
            [
                fitness(_with_tail(head, tail_K + SPREAD * unit * delta_K))
                - fitness(_with_tail(head, tail_K - SPREAD * unit * delta_K))
                for delta_K in deltas_PK
            ]
        )
        spread = float(np.sqrt(np.mean(gains_P**2)))
        if spread == 0:
            break
        tail_K = tail_K + STEP * unit * (gains_P / spread) @ deltas_PK / PAIRS
        moved = _with_tail(head, tail_K)
        if (reached := fitness(moved)) > best_fitness:
            best, best_fitness = moved, reached
    return best


def _with_tail(head: Head, tail_K: Floats64) -> Head:
    theta = head.theta.copy()
    theta[-len(tail_K) :] = tail_K
    return replace(head, theta=theta)


@dataclass(frozen=True, slots=True)
class Heads:
    """Predict by the trimmed mean of the heads' log-odds."""

    student: StudentFactory
    heads: tuple[Head, ...]

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        states_NAD = self.student.states(inputs)
        logits_MN = np.sort(np.stack([head.logits(states_NAD) for head in self.heads]), axis=0)
        cut = int(TRIMMED * len(self.heads))
        kept = logits_MN[cut : len(self.heads) - cut].astype(np.float64)
        return np.asarray(expit(kept.mean(axis=0)))


def es_finetuning(task: TrainTask, student: StudentFactory, seed: int) -> Heads:
    """Evolve a vanilla student for agreement with the weak labels (32).

    Evolution strategies at scale, arXiv 2509.24372. Fitness: the share of rows classified as their
    weak label says, weighted by the teacher's confidence; no gradient is taken of it.
    """
    options = student.options.model_copy(update={"seed": seed})
    start = student.new(options).fit(task.inputs, task.weak_labels_N).head
    states_NAD, weak_N = student.states(task.inputs), task.weak_labels_N
    weights_N = np.abs(2 * weak_N - 1)

    def fitness(head: Head) -> float:
        hits_N = (head.logits(states_NAD) > 0) == (weak_N > 0.5)
        return float(weights_N @ hits_N / max(float(weights_N.sum()), 1e-9))

    return Heads(student, (evolve(start, fitness, seed),))


def ccs_es(task: TrainTask, student: StudentFactory, seed: int) -> Heads:
    """Resample by CCS weights, warm up on weak labels, evolve for confidence, over 16 seeds (29).

    Per seed: a CCS probe (best of 10 restarts) is fitted on the layer with the lowest loss and
    signed by the weak labels. A row's weight is the max of both confidences where the two agree,
    and .05 times their min where they do not. Rows are drawn by weight and one student learns their
    soft weak labels. Then an evolution strategy raises the mean (1 - |p - (1 - p_swap)|) |2p - 1|
    over 200 unlabelled train rows. Heads are swap-consistent, so the first factor is 1.
    Verification rows have no swap, so p is first centred on the rows' mean log-odds, lest all rows
    get one label. The 15 % trimmed mean of the log-odds over 16 seeds predicts. The best method of
    the study (PGR .93 on chat, with LoRA).
    """
    pairs, probe = best_layer(task, student, seed)
    weights_N = agreement_weights(probe.proba(pairs), task.weak_labels_N)
    heads = tuple(_member(task, student, weights_N, seed, n) for n in range(MEMBERS))
    return Heads(student, heads)


def best_layer(task: TrainTask, student: StudentFactory, seed: int) -> tuple[Floats, PairProbe]:
    """Return the contrast pairs and the signed probe of the layer where CCS has its lowest loss."""
    found = []
    for layer in student.layers(task.inputs):
        pairs_N2D = contrast_states(student.at(layer), task.inputs)
        means_2D = side_means(pairs_N2D, task.kind)
        found.append((pairs_N2D, fit_ccs(pairs_N2D, seed, means_2D)))
    pairs_N2D, probe = min(found, key=lambda one: one[1].loss)
    return pairs_N2D, probe.signed_by(pairs_N2D, task.weak_labels_N)


def agreement_weights(probe_N: Floats64, weak_N: Floats64) -> Floats64:
    """Weigh rows by the probe's and the teacher's confidence, (N,).

    The weight is the max of both confidences where they agree and EPSILON times their min
    elsewhere.
    """
    both_2N = np.abs(2 * np.stack([probe_N, weak_N]) - 1)
    agree_N = (probe_N > 0.5) == (weak_N > 0.5)
    weights_N = np.where(agree_N, both_2N.max(axis=0), EPSILON * both_2N.min(axis=0))
    return np.asarray(np.maximum(weights_N, 1e-6))


def _member(
    task: TrainTask, student: StudentFactory, weights_N: Floats64, seed: int, number: int
) -> Head:
    rng = np.random.default_rng([seed, number, 29])
    n = len(weights_N)
    rows = rng.choice(n, size=n, p=weights_N / weights_N.sum())
    options = student.options.model_copy(update={"seed": int(rng.integers(2**31))})
    inputs = [task.inputs[i] for i in rows]
    start = student.new(options).fit(inputs, task.weak_labels_N[rows]).head
    shown = rng.choice(n, size=min(FITNESS_ROWS, n), replace=False)
    states_NAD = student.states([task.inputs[i] for i in shown])
    centred = task.kind == "verification"

    def fitness(head: Head) -> float:
        logits_N = head.logits(states_NAD)
        logits_N = logits_N - logits_N.mean() if centred else logits_N
        return float(np.abs(np.tanh(logits_N / 2)).mean())

    return evolve(start, fitness, int(rng.integers(2**31)))


ALPHA, START_ROWS, COMPONENTS, RIDGE = 50.0, 8, 32, 1.0
HOTTEST, COLDEST, COOLING = 10.0, 0.01, 2.0
STEPS_PER_ROW = 3
Rows = dict[int, list[int]]


def icm(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Label the rows so that they predict each other best, then train on those labels (27).

    alpha 50, 8 random labels to begin with, temperature max(.01, 10 / (1 + 2 ln(1 + n))), three
    proposals per row. Two rows of a problem are inconsistent if they have the same final answer and
    different labels, or different final answers and are both right. The labels do not have a sign
    of their own: the weak labels choose it. Known: fails where the concept is not salient in the
    states.
    """
    labels_N = coherent_labels(task, student, seed)
    if float(((labels_N > 0.5) == (task.weak_labels_N > 0.5)).mean()) < 0.5:
        labels_N = 1 - labels_N
    run = RecipeRun(Recipe(train=TrainStage(targets="hard")), task, student, seed)
    rows = np.arange(len(labels_N))
    return RecipePredictor(run, (train_student(run, rows, labels_N, run.inner_seed(0, 0)),))


def coherent_labels(task: TrainTask, student: StudentFactory, seed: int) -> Floats64:
    """Return labels 0 or 1 of every row, (N,)."""
    rng = np.random.default_rng(seed)
    search = Search(components(student, task), *neighbours_of(task), rng)
    for row in search.rng.choice(len(task.inputs), START_ROWS, replace=False):
        search.labels_N[row] = float(search.rng.choice((-1, 1)))
    search.current = search.utility(search.labels_N)
    for number in range(STEPS_PER_ROW * len(task.inputs)):
        search.step(max(COLDEST, HOTTEST / (1 + COOLING * np.log1p(number))))
    return (search.filled() > 0).astype(np.float64)


def components(student: StudentFactory, task: TrainTask) -> Floats64:
    """Return the states' first principal components, whitened, (N, K).

    Preference rows are not centred, so they get no bias.
    """
    vectors_ND = row_vectors(student.states(task.inputs))
    if task.kind == "verification":
        vectors_ND = vectors_ND - vectors_ND.mean(axis=0)
    vectors_ND = vectors_ND / np.maximum(vectors_ND.std(axis=0), 1e-6)
    left_NR, _, _ = np.linalg.svd(vectors_ND, full_matrices=False)
    return np.asarray(left_NR[:, :COMPONENTS] * np.sqrt(len(vectors_ND)))


def neighbours_of(task: TrainTask) -> tuple[Rows, Rows]:
    """Find, for each verification row, the other rows of its problem by final answer.

    Returns the rows with the same final answer, then those with another one. Both are empty for
    preference tasks.
    """
    if task.kind == "preference":
        return {}, {}
    twins, rivals = Rows(), Rows()
    by_group: dict[str, list[int]] = {}
    for row, group in enumerate(task.groups):
        by_group.setdefault(group, []).append(row)
    answers = task.same_answers()
    for rows in by_group.values():
        for row in rows:
            twins[row] = [o for o in rows if o != row and answers[o] == answers[row]]
            rivals[row] = [o for o in rows if answers[o] != answers[row]]
    return twins, rivals


@dataclass(slots=True)
class Search:
    """The annealing: `labels_N` is -1, 1 or 0 (not labelled yet)."""

    inputs_NK: Floats64
    twins: Rows
    rivals: Rows
    rng: np.random.Generator
    labels_N: Floats64 = field(init=False)
    current: float = field(init=False, default=-np.inf)

    def __post_init__(self) -> None:
        self.labels_N = np.zeros(len(self.inputs_NK))

    def step(self, temperature: float) -> None:
        """Propose the likeliest label for a row, repair what contradicts it, accept by utility."""
        row = int(self.rng.integers(len(self.labels_N)))
        guess = 1.0 if self.inputs_NK[row] @ self._weights(self.labels_N, row) > 0 else -1.0
        proposed_N = self.labels_N.copy()
        proposed_N[row] = guess
        for twin in self.twins.get(row, []):
            if proposed_N[twin] != 0:
                proposed_N[twin] = guess
        for rival in self.rivals.get(row, []):
            if guess > 0 and proposed_N[rival] > 0:
                proposed_N[rival] = -1
        if (proposed_N == self.labels_N).all():
            return
        utility = self.utility(proposed_N)
        chance = np.exp(min((utility - self.current) / temperature, 0.0))
        if self.rng.random() < chance:
            self.labels_N, self.current = proposed_N, utility

    def utility(self, labels_N: Floats64) -> float:
        """Return alpha times the mean leave-one-out log-likelihood, less the inconsistent pairs."""
        rows = np.flatnonzero(labels_N)
        margin_R = labels_N[rows] * self._left_out(labels_N, rows)
        mean_logp = float(-np.logaddexp(0, -2 * margin_R).mean())
        return ALPHA * mean_logp - self.inconsistencies(labels_N)

    def inconsistencies(self, labels_N: Floats64) -> int:
        """Count labelled pairs with one answer that differ, and rival pairs that are both right."""
        twins = ((row, twin) for row, rows in self.twins.items() for twin in rows)
        rivals = ((row, rival) for row, rows in self.rivals.items() for rival in rows)
        differ = sum(bool(labels_N[a] * labels_N[b] < 0) for a, b in twins)
        return (differ + sum(bool(min(labels_N[a], labels_N[b]) > 0) for a, b in rivals)) // 2

    def filled(self) -> Floats64:
        """Return the labels, with the classifier's sign where there is none."""
        guess_N = self.inputs_NK @ self._weights(self.labels_N, None)
        return np.where(self.labels_N != 0, self.labels_N, np.sign(guess_N))

    def _inverse(self, chosen_RK: Floats64) -> Floats64:
        size = chosen_RK.shape[1]
        return np.asarray(np.linalg.inv(chosen_RK.T @ chosen_RK + RIDGE * size * np.eye(size)))

    def _weights(self, labels_N: Floats64, without: int | None) -> Floats64:
        rows = np.flatnonzero(labels_N)
        rows = rows[rows != without] if without is not None else rows
        chosen_RK = self.inputs_NK[rows]
        return np.asarray(self._inverse(chosen_RK) @ (chosen_RK.T @ labels_N[rows]))

    def _left_out(self, labels_N: Floats64, rows: Ints) -> Floats64:
        """Predict each labelled row from the others by ridge regression: (f - h y) / (1 - h)."""
        chosen_RK, labels_R = self.inputs_NK[rows], labels_N[rows]
        hat_RK = chosen_RK @ self._inverse(chosen_RK)
        own_R = np.einsum("rk,rk->r", hat_RK, chosen_RK)
        fitted_R = hat_RK @ (chosen_RK.T @ labels_R)
        return np.asarray((fitted_R - own_R * labels_R) / np.maximum(1 - own_R, 1e-6))


HARD = Recipe(train=TrainStage(targets="hard"))
SCORES: tuple[ZeroShotKind, ...] = ("pmi", "mean_pmi", "corrected")
EASY_SHARE = 0.5


def zero_shot_tuned(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Predict zero-shot with the score that agrees with most weak labels on the train rows (25).

    The study's baseline tunes the prompt; here the choice is between three scores. No student.
    """
    trial = RecipeRun(Recipe(), task, student, seed)
    hard_N = task.weak_labels_N > 0.5
    agreement = {k: float(((trial.margins(k) > 0) == hard_N).mean()) for k in SCORES}
    best = max(SCORES, key=lambda kind: agreement[kind])
    recipe = Recipe(predict=PredictStage(kind="zero_shot", zero_shot=best))
    return RecipePredictor(RecipeRun(recipe, task, student, seed), ())


def ue_zero_shot(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on the strong model's own labels where they are consistent (26).

    Unsupervised elicitation, a baseline of the study. A preference row is consistent when its three
    zero-shot scores prefer the same answer. For a verification row, all rows of its problem with
    the same final answer must also get the same label. The teacher gives only the share of
    positives.
    """
    run = RecipeRun(HARD, task, student, seed)
    margins_NK = run.zero_shot.all_margins(run.logp)
    labels_N = (margins_NK.mean(axis=1) > 0).astype(np.float64)
    rows = np.flatnonzero(consistent_rows(task, margins_NK))
    return _student(run, rows, labels_N)


def consistent_rows(task: TrainTask, margins_NK: Floats64) -> NDArray[np.bool_]:
    """Return which rows' scores agree with each other and within the problem, (N,)."""
    agree_N = np.asarray(np.abs(np.sign(margins_NK).sum(axis=1)) == margins_NK.shape[1])
    if task.kind == "preference":
        return agree_N
    answers = [
        (row.group, word) for row, word in zip(task.inputs, task.same_answers(), strict=True)
    ]
    said: dict[tuple[str, str], set[bool]] = {}
    for answer, margin in zip(answers, margins_NK.mean(axis=1), strict=True):
        said.setdefault(answer, set()).add(bool(margin > 0))
    return np.asarray(agree_N & np.array([len(said[answer]) == 1 for answer in answers]))


def em_posterior_templates(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Run em_posterior with margins from 3 questions in 2 orders, as in the source (28).

    Asks the strong model itself ("Is this right?" Yes or No; A or B), so it needs the model.
    """
    run = RecipeRun(Recipe(label=LabelStage(source="em_posterior")), task, student, seed)
    margins_NK = verdict_margins(student, task.inputs)
    if task.kind == "verification":
        share = 1 - float(task.weak_labels_N.mean())
        margins_NK = margins_NK - np.quantile(margins_NK, share, axis=0)
    margins_NK = margins_NK / np.maximum(margins_NK.std(axis=0), 1e-9)
    labels_N = em_posterior(run, margins_NK)
    return _student(run, np.arange(len(labels_N)), labels_N)


def born_again() -> Recipe:
    """Train three cross-fitted generations, each taught by the one before (31).

    Born-again networks, arXiv 1805.04770. Known: as self_training, it keeps the teacher's
    structured errors.
    """
    return Recipe(train=TrainStage(rounds=3))


def easy_to_hard(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on the easy half of each class only and predict all rows (33).

    arXiv 2401.06751. Easy: a high mean log-likelihood per token of the answers under the strong
    model (there: human measures such as grade level). Hard weak labels.
    """
    run = RecipeRun(HARD, task, student, seed)
    ease_N = (run.logp.given_prompt_NA / np.maximum(run.logp.tokens_NA, 1)).mean(axis=1)
    rows = top_rows(ease_N.astype(np.float64), task.weak_labels_N, EASY_SHARE, balanced=True)
    return _student(run, rows, task.weak_labels_N)


def posterior_confident() -> Recipe:
    """Train on the posterior of em_posterior, its more confident half of each class (34)."""
    return Recipe(label=LabelStage(source="em_posterior"), select=SelectStage(kind="confident"))


def posterior_neighbours() -> Recipe:
    """Train on the posterior of em_posterior, the half that its neighbours support best (34)."""
    return Recipe(label=LabelStage(source="em_posterior"), select=SelectStage(kind="neighbours"))


def posterior_blend() -> Recipe:
    """Blend five students of em_posterior's posterior with the corrected zero-shot score (34).

    What the control researchers of the demo find.
    """
    predict = PredictStage(kind="blend", zero_shot="corrected", members=5)
    return Recipe(label=LabelStage(source="em_posterior"), predict=predict)


def _student(run: RecipeRun, rows: Ints, labels_N: Floats64) -> RecipePredictor:
    student = train_student(run, rows, labels_N[rows], run.inner_seed(0, 0))
    return RecipePredictor(run, (student,))


METHODS: tuple[Method, ...] = (
    plain_method(zero_shot_tuned),
    plain_method(ue_zero_shot),
    plain_method(icm),
    plain_method(em_posterior_templates, needs_model=True),
    plain_method(ccs_es, needs_model=True),
    plain_method(truth_mean),
    plain_method(truth_pca),
    plain_method(ccs, needs_model=True),
    plain_method(vinc, needs_model=True),
    recipe_method(born_again),
    plain_method(es_finetuning),
    plain_method(easy_to_hard),
    recipe_method(posterior_confident),
    recipe_method(posterior_neighbours),
    recipe_method(posterior_blend),
)

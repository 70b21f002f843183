"""Evolution strategies on a student's output weights (methods 29, 32).

The sources perturb LoRA-B or all weights of a language model; here it is the head's last layer.
Legend: N rows, K output weights with their bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aarlab.core.types import Example
from aarlab.testbed.losses import Floats, expit
from aarlab.testbed.methods.contrast import contrast_states
from aarlab.testbed.methods.probes import PairProbe, fit_ccs, side_means
from aarlab.testbed.stages.run import Floats64
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask
from aarlab.testbed.train import Head

GENERATIONS, PAIRS, SPREAD, STEP = 40, 8, 0.05, 0.1
MEMBERS, TRIMMED, EPSILON, FITNESS_ROWS = 16, 0.15, 0.05, 200
Fitness = Callable[[Head], float]


def evolve(head: Head, fitness: Fitness, seed: int) -> Head:
    """Antithetic evolution strategy: K moves along sum (f+ - f-) delta, f standardised.

    Perturbations are SPREAD and steps STEP times the mean size of the output weights; the best
    point seen is returned, so the fitness never ends below its start.
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
    """Trimmed mean of the heads' log-odds."""

    student: StudentFactory
    heads: tuple[Head, ...]

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        states_NAD = self.student.states(inputs)
        logits_MN = np.sort(np.stack([head.logits(states_NAD) for head in self.heads]), axis=0)
        cut = int(TRIMMED * len(self.heads))
        kept = logits_MN[cut : len(self.heads) - cut].astype(np.float64)
        return np.asarray(expit(kept.mean(axis=0)))


def es_finetuning(task: TrainTask, student: StudentFactory, seed: int) -> Heads:
    """From a vanilla student on, evolve for agreement with the weak labels (32).

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
    """CCS-weighted resampling, a warm-up on weak labels, evolution for confidence, 16 seeds (29).

    Per seed: a CCS probe (best of 10 restarts) on the layer with the lowest loss, signed by the
    weak labels; a row weighs max of both confidences where the two agree, .05 min where not; rows
    are drawn by weight; one student learns their soft weak labels; then an evolution strategy
    raises the mean (1 - |p - (1 - p_swap)|) |2p - 1| over 200 unlabelled train rows. Heads are
    swap-consistent, so the first factor is 1; on verification rows, which have no swap, p is first
    centred on the rows' mean log-odds, lest all rows get one label. The 15 % trimmed mean of the
    log-odds over 16 seeds predicts. The best method of the study (PGR .93 on chat, with LoRA).
    """
    pairs, probe = best_layer(task, student, seed)
    weights_N = agreement_weights(probe.proba(pairs), task.weak_labels_N)
    heads = tuple(_member(task, student, weights_N, (seed, n)) for n in range(MEMBERS))
    return Heads(student, heads)


def best_layer(task: TrainTask, student: StudentFactory, seed: int) -> tuple[Floats, PairProbe]:
    """The contrast pairs and the signed probe of the layer where CCS has its lowest loss."""
    found = []
    for layer in student.layers(task.inputs):
        pairs_N2D = contrast_states(student.at(layer), task.inputs)
        means_2D = side_means(pairs_N2D, task.kind)
        found.append((pairs_N2D, fit_ccs(pairs_N2D, seed, means_2D)))
    pairs_N2D, probe = min(found, key=lambda one: one[1].loss)
    return pairs_N2D, probe.signed_by(pairs_N2D, task.weak_labels_N)


def agreement_weights(probe_N: Floats64, weak_N: Floats64) -> Floats64:
    """max of both confidences where probe and teacher agree, EPSILON times their min elsewhere."""
    both_2N = np.abs(2 * np.stack([probe_N, weak_N]) - 1)
    agree_N = (probe_N > 0.5) == (weak_N > 0.5)
    weights_N = np.where(agree_N, both_2N.max(axis=0), EPSILON * both_2N.min(axis=0))
    return np.asarray(np.maximum(weights_N, 1e-6))


def _member(
    task: TrainTask, student: StudentFactory, weights_N: Floats64, place: tuple[int, int]
) -> Head:
    rng = np.random.default_rng([*place, 29])
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

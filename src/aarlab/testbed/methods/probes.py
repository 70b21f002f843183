"""Truth directions in frozen states (method 30): difference in means, PCA, CCS, VINC.

They are found without labels. The weak labels only choose the sign, and the threshold of
verification rows.

CCS, VINC and templates look at contrast pairs: a row said to be right and said to be wrong. A
preference row is a pair by itself: its two answers, one of which is better. A verification row is
asked about ("Is this right?") with the answers Yes and No. That needs the model, as a task stores
only the features of its own texts. The questions are templates: no text is read here.

Legend: N rows, D state width, pairs_N2D contrast pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aarlab.core.errors import MethodFailed, NotFound
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.models.answers import QUESTIONS, verdict_template
from aarlab.testbed.recipes.stages import Floats64
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import Floats, expit
from aarlab.testbed.tasks.train_task import TrainTask

NEEDS_MODEL = "it asks the strong model about new texts, and this run has stored features only; "
NEEDS_MODEL += "run it where the model is: aarlab testbed run"


def asked(
    student: StudentFactory,
    inputs: Sequence[Example],
    question: str,
    swapped: bool = False,
    texts: Sequence[Any] = (),
) -> tuple[Example, ...]:
    """Return the rows as a question with two short answers, the first for label 1.

    `swapped` turns the order: of the answers A and B, or of the words Yes and No.
    """
    pair = inputs[0].kind == "preference"
    template = verdict_template(2 if pair else 1, question, swapped)
    return student.ask(inputs, template, swapped=swapped and pair, texts=texts)


def contrast_states(student: StudentFactory, inputs: Sequence[Example]) -> Floats:
    """Return the states (N, 2, D) of each row said to be right (0) and wrong (1).

    Raises MethodFailed without the model where it is needed.
    """
    rows = list(inputs)
    if rows[0].kind == "verification":
        rows = list(asked(student, rows, QUESTIONS[0]))
    try:
        return student.states(rows)
    except NotFound as error:
        raise MethodFailed(NEEDS_MODEL) from error


def verdict_margins(student: StudentFactory, inputs: Sequence[Example]) -> Floats64:
    """Return log P(label 1's word) - log P(label 0's), by question and order, (N, 6)."""
    forms = [(question, swapped) for question in QUESTIONS for swapped in (False, True)]
    try:
        answers: list[AnswerLogp] = [
            student.zero_shot(asked(student, inputs, question, swapped))
            for question, swapped in forms
        ]
    except NotFound as error:
        raise MethodFailed(NEEDS_MODEL) from error
    columns = [logp.given_prompt_NA[:, 0] - logp.given_prompt_NA[:, 1] for logp in answers]
    return np.stack(columns, axis=1).astype(np.float64)


RESTARTS, CCS_PENALTY = 10, 1e-2


@dataclass(frozen=True, slots=True)
class Direction:
    """P(label 1) = sigmoid((x . d - threshold) / spread); x as in `row_vectors`."""

    student: StudentFactory
    direction_D: Floats64
    threshold: float
    spread: float

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        along_N = row_vectors(self.student.states(inputs)) @ self.direction_D
        return np.asarray(expit((along_N - self.threshold) / self.spread))


def row_vectors(states_NAD: Floats) -> Floats64:
    """Return the state, or the difference of the two answers' states, (N, D)."""
    paired = states_NAD.shape[1] == 2
    chosen = states_NAD[:, 0] - states_NAD[:, 1] if paired else states_NAD[:, 0]
    return chosen.astype(np.float64)


def truth_mean(task: TrainTask, student: StudentFactory, seed: int) -> Direction:
    """Use the difference in means of the states with weak label 1 and 0 (30).

    Marks and Tegmark 2023. Known: on the embedded math task the direction is mostly the answer's
    length.
    """
    vectors_ND = row_vectors(student.states(task.inputs))
    scale_D = _spread(vectors_ND)
    centred_N = task.weak_labels_N - task.weak_labels_N.mean()
    return _direction(task, student, vectors_ND, centred_N @ vectors_ND / scale_D**2)


def truth_pca(task: TrainTask, student: StudentFactory, seed: int) -> Direction:
    """Use the first principal component of the states (30); sign by the weak labels.

    Known: on the embedded math task it is the answer's length.
    """
    vectors_ND = row_vectors(student.states(task.inputs))
    scale_D = _spread(vectors_ND)
    centred_ND = (vectors_ND - vectors_ND.mean(axis=0)) / scale_D
    _, _, components_KD = np.linalg.svd(centred_ND, full_matrices=False)
    return _direction(task, student, vectors_ND, components_KD[0] / scale_D)


def _spread(vectors_MD: Floats64) -> Floats64:
    """Return the standard deviation of each feature.

    Without it a few huge features would be the direction.
    """
    return np.asarray(np.maximum(vectors_MD.std(axis=0), 1e-6))


def _direction(
    task: TrainTask, student: StudentFactory, vectors_ND: Floats64, direction_D: Floats64
) -> Direction:
    """Set the sign by covariance with the weak labels, the threshold at their positives' share."""
    weak_N = task.weak_labels_N
    along_N = vectors_ND @ direction_D
    sign = 1.0 if np.sum((weak_N - weak_N.mean()) * along_N) >= 0 else -1.0
    along_N, paired = sign * along_N, task.kind == "preference"
    threshold = 0.0 if paired else float(np.quantile(along_N, 1 - weak_N.mean()))
    spread = max(float(along_N.std()), 1e-9)
    return Direction(student, sign * direction_D, threshold, spread)


class PairProbe(NamedTuple):
    """P(label 1) of a contrast pair: (p+ + 1 - p-) / 2, or its complement where `sign` is -1."""

    mean_2D: Floats64
    scale_D: Floats64
    weights_D: Floats64
    bias: float
    sign: int
    loss: float

    def proba(self, pairs_N2D: Floats) -> Floats64:
        scaled_N2D = (pairs_N2D - self.mean_2D) / self.scale_D
        right_N2 = expit(scaled_N2D @ self.weights_D + self.bias)
        probs_N = (right_N2[:, 0] + 1 - right_N2[:, 1]) / 2
        return np.asarray(probs_N if self.sign > 0 else 1 - probs_N)

    def signed_by(self, pairs_N2D: Floats, weak_N: Floats64) -> "PairProbe":
        """Return the probe with the sign that agrees with more weak labels."""
        agreement = float(((self.proba(pairs_N2D) > 0.5) == (weak_N > 0.5)).mean())
        return self._replace(sign=self.sign if agreement >= 0.5 else -self.sign)


def side_means(pairs_N2D: Floats, kind: TaskKind) -> Floats64:
    """Return what each side is centred on, (2, D).

    The words Yes and No have means of their own. The two answers of a preference row are
    exchangeable and share one, so that swapping them swaps the prediction.
    """
    axes = (0, 1) if kind == "preference" else (0,)
    return np.broadcast_to(pairs_N2D.mean(axis=axes), pairs_N2D.shape[1:]).astype(np.float64)


def fit_ccs(pairs_N2D: Floats, seed: int, mean_2D: Floats64) -> PairProbe:
    """Minimise (p+ + p- - 1)^2 + min(p+, p-)^2 and return the best of the restarts.

    Contrast-consistent search, Burns et al. 2022, arXiv 2212.03827. `mean_2D` as of `side_means`.
    L-BFGS with a small ridge penalty; the sign is still open.
    """
    width = pairs_N2D.shape[2]
    scale_D = _spread((pairs_N2D - mean_2D).reshape(-1, width)) * np.sqrt(width)
    scaled_N2D = (pairs_N2D - mean_2D) / scale_D
    from scipy.optimize import minimize  # slow to load

    rng = np.random.default_rng([seed, 30])
    starts = [rng.normal(size=pairs_N2D.shape[2] + 1) for _ in range(RESTARTS)]
    found = [
        minimize(_ccs_loss, start, (scaled_N2D,), "L-BFGS-B", jac=True, options={"maxiter": 100})
        for start in starts
    ]
    best = min(found, key=lambda one: float(one.fun))
    return PairProbe(mean_2D, scale_D, best.x[:-1], float(best.x[-1]), 1, float(best.fun))


def _ccs_loss(theta: Floats64, scaled_N2D: Floats64) -> tuple[float, Floats64]:
    right_N2 = expit(scaled_N2D @ theta[:-1] + theta[-1])
    plus_N, minus_N = right_N2[:, 0], right_N2[:, 1]
    gap_N, low_N2 = plus_N + minus_N - 1, right_N2 == right_N2.min(axis=1, keepdims=True)
    loss = float((gap_N**2 + right_N2.min(axis=1) ** 2).mean())
    slope_N2 = (2 * gap_N[:, None] + 2 * right_N2 * low_N2) * right_N2 * (1 - right_N2)
    slope_N2 = slope_N2 / len(scaled_N2D)
    grad_D = np.einsum("na,nad->d", slope_N2, scaled_N2D)
    penalty = CCS_PENALTY / len(theta)
    gradient = np.append(grad_D + 2 * penalty * theta[:-1], slope_N2.sum())
    return loss + penalty * float(theta[:-1] @ theta[:-1]), gradient


@dataclass(frozen=True, slots=True)
class OnPairs:
    """A pair probe and where it gets its states."""

    student: StudentFactory
    probe: PairProbe

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        return self.probe.proba(contrast_states(self.student, inputs))


def ccs(task: TrainTask, student: StudentFactory, seed: int) -> OnPairs:
    """Run contrast-consistent search on the student's layer; the weak labels choose the sign (30).

    Known: finds a direction, not always the truth (Farquhar et al. 2023, arXiv 2312.10029).
    """
    pairs_N2D = contrast_states(student, task.inputs)
    probe = fit_ccs(pairs_N2D, seed, side_means(pairs_N2D, task.kind))
    return OnPairs(student, probe.signed_by(pairs_N2D, task.weak_labels_N))


def vinc(task: TrainTask, student: StudentFactory, seed: int) -> OnPairs:
    """Use the top eigenvector of Cov(x+ - x-) - Cov(x+ + x-) (30).

    Variance without negation consistency, the closed-form relative of CCS (EleutherAI, VINC). Its
    invariance term needs paraphrases and is left out.
    """
    pairs_N2D = contrast_states(student, task.inputs)
    mean_2D = side_means(pairs_N2D, task.kind)
    spread_D = _spread((pairs_N2D - mean_2D).reshape(-1, pairs_N2D.shape[2]))
    centred_N2D = (pairs_N2D - mean_2D) / spread_D
    apart_ND, together_ND = (centred_N2D[:, 0] + sign * centred_N2D[:, 1] for sign in (-1, 1))
    matrix_DD = (apart_ND.T @ apart_ND - together_ND.T @ together_ND) / len(pairs_N2D)
    _, vectors_DD = np.linalg.eigh(matrix_DD)
    direction_D = vectors_DD[:, -1]
    scale = max(float((apart_ND @ direction_D).std()), 1e-9)
    probe = PairProbe(mean_2D, scale * spread_D, direction_D, 0.0, 1, 0.0)
    return OnPairs(student, probe.signed_by(pairs_N2D, task.weak_labels_N))

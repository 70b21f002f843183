"""Losses and training on weak labels (methods 3-10). The recipes keep the task's adaptation.

Low effective rank of what the student sees (method 10) is a bias to simple representations.

Legend: B rows of a batch, A answers of a row, D width of a state, H hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.recipes.recipe import Recipe, TrainStage
from aarlab.testbed.recipes.run_recipe import RecipePredictor
from aarlab.testbed.recipes.stages import Floats64, MeanOf, RecipeRun, out_of_fold, train_student
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.train import SIGNS, Head
from aarlab.testbed.tasks.train_task import TrainTask

if TYPE_CHECKING:
    from torch import Tensor


PENALTY = 0.1


def low_rank(task: TrainTask, student: StudentFactory, seed: int) -> "LowRank":
    """Minimise CE(p, w) + .1 ln erank(hidden states) (10).

    The penalty is on exp(H(s / |s|_1)), with s the hidden states' singular values on unlabelled
    inputs. Effective rank: Roy and Vetterli 2007. The student's hidden layer is the representation
    that can change; the task's options for size, epochs and learning rate are kept (16 units at
    least). Known: no independent evidence.
    """
    return LowRank(fit_low_rank(task, student, seed, PENALTY), student)


@dataclass(frozen=True, slots=True)
class LowRank:
    """A head and where it gets its states."""

    head: Head
    student: StudentFactory

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        return self.head.predict_proba(self.student.states(inputs)).astype(np.float64)


def effective_rank(hidden_BH: "Tensor") -> "Tensor":
    """Return ln of the effective rank of the centred rows: the entropy of their singular values."""
    import torch

    values = torch.linalg.svdvals(hidden_BH - hidden_BH.mean(dim=0)) + 1e-6
    share = values / values.sum()
    entropy: Tensor = -(share * share.log()).sum()
    return entropy


def fit_low_rank(task: TrainTask, student: StudentFactory, seed: int, penalty: float) -> Head:
    """Fit a head by minibatch AdamW with the penalty on each batch's hidden states.

    Penalty 0 is vanilla_soft.
    """
    import torch

    options, states_NAD = student.options, student.states(task.inputs)
    flat_MD = states_NAD.reshape(-1, states_NAD.shape[2])
    mean_D, scale_D = flat_MD.mean(axis=0), np.maximum(flat_MD.std(axis=0), 1e-6)
    inputs_NAD = torch.from_numpy((states_NAD - mean_D) / scale_D)
    targets_N = torch.from_numpy(task.weak_labels_N.astype(np.float32))
    width, hidden = flat_MD.shape[1], max(options.hidden, 16)
    random = torch.Generator().manual_seed(seed)
    first_DH = torch.randn(width, hidden, generator=random) * (2 / width) ** 0.5
    weights = [first_DH, torch.zeros(hidden), torch.zeros(hidden), torch.zeros(1)]
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
    sign_A = torch.from_numpy(SIGNS[states_NAD.shape[1]])
    with student.counted(rows_trained=len(targets_N) * options.epochs):
        for _ in range(options.epochs):
            order_N = torch.randperm(len(targets_N), generator=random)
            for rows in torch.split(order_N, options.batch):
                hidden_BAH = torch.relu(inputs_NAD[rows] @ weights[0] + weights[1])
                logits_B = (hidden_BAH @ weights[2] + weights[3]) @ sign_A
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    logits_B, targets_N[rows]
                )
                loss = loss + penalty * effective_rank(hidden_BAH.flatten(0, 1))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    theta = np.concatenate([weight.detach().numpy().ravel() for weight in weights])
    return Head(mean_D.astype(np.float32), scale_D.astype(np.float32), theta, hidden, ())


FORGET_RATE, RAMP_EPOCHS = 0.2, 5


def product() -> Recipe:
    """Train on a target proportional to p^beta w^alpha, no gradient through it (3).

    alpha = beta = 1. EleutherAI's comparison of weak-to-strong losses. Known: no consistent gain
    over 21 data sets.
    """
    return Recipe(train=TrainStage(loss="product"))


def window() -> Recipe:
    """Use CE only where max(p, 1-p) < .5 + r, r = .15: rows beyond do not take a gradient (4).

    EleutherAI's comparison. Known: no consistent gain.
    """
    return Recipe(train=TrainStage(loss="window"))


def entropy() -> Recipe:
    """Minimise (1-a) CE(p, w) + a H(p): as aux_confidence, with the student's own soft targets (5).

    EleutherAI's comparison. Known: no consistent gain.
    """
    return Recipe(train=TrainStage(loss="entropy"))


def reverse_kl() -> Recipe:
    """Minimise KL(p || w), which is mode-seeking (6). arXiv 2502.11107.

    The student may ignore what it cannot fit.
    """
    return Recipe(train=TrainStage(loss="reverse_kl"))


def reverse_ce() -> Recipe:
    """Minimise the reverse cross-entropy -p log w - (1-p) log(1-w), bounded in p (6).

    arXiv 2505.24313.
    """
    return Recipe(train=TrainStage(loss="reverse_ce"))


def linear_probe() -> Recipe:
    """Fit a logistic regression on frozen strong states with hard weak labels (9).

    Burns et al. 2023 (appendix). Known: generalises better than tuning where the teacher's errors
    are not linear in the strong states.
    """
    return Recipe(train=TrainStage(targets="hard", hidden=0, epochs=20))


def label_smoothing() -> Recipe:
    """Minimise CE(p, (1-s) H(w) + s/2), s = .1, hard labels (10).

    Szegedy et al. 2016, arXiv 1512.00567.
    """
    return Recipe(train=TrainStage(targets="hard", smoothing=0.1))


def bootstrapping(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train weak -> middle -> strong: each deeper cut learns from the labels of the one before (7).

    Burns et al. 2023, section 4.3.1: there a chain of models of growing size, here the cuts of the
    strong model that the task stores, lowest first. Labels are handed on out of fold (two folds by
    problem), so that no cut repeats the labels it was given. Known: helps on chess, little on NLP.
    """
    middles = [n for n in student.layers(task.inputs) if n < student.layer]
    if not middles:
        raise MethodFailed(
            f"bootstrapping needs states below layer {student.layer}; this task stores none: build "
            "it with more_layers"
        )
    labels_N, rows = task.weak_labels_N, np.arange(len(task.inputs))
    for number, layer in enumerate(middles):
        run = RecipeRun(Recipe(), task, student.at(layer), seed)
        labels_N = out_of_fold(run, rows, labels_N, 2, number)
    run = RecipeRun(Recipe(), task, student, seed)
    return RecipePredictor(run, (train_student(run, rows, labels_N, run.inner_seed(0, 0)),))


def co_teaching(task: TrainTask, student: StudentFactory, seed: int) -> MeanOf:
    """Train two students, each on the rows where the other has a small loss, epoch by epoch (10).

    Han et al. 2018, arXiv 1804.06872: the kept share falls from 1 to 1 - .2 over five epochs, hard
    labels. Each epoch is a phase of its own here (the learning rate falls within it). Prediction:
    the mean of both. Known: made for noise without structure.
    """
    seeds = np.random.SeedSequence([seed, 10]).generate_state(2)
    options = [student.options.model_copy(update={"seed": int(s)}) for s in seeds]
    hard_N = (task.weak_labels_N > 0.5).astype(np.float64)
    one_epoch = [o.model_copy(update={"epochs": 1}) for o in options]
    pair = [student.new(o).fit(task.inputs, hard_N) for o in one_epoch]
    for epoch in range(1, options[0].epochs):
        keep = 1 - FORGET_RATE * min(epoch / RAMP_EPOCHS, 1)
        chosen = [small_loss_rows(member, task, hard_N, keep) for member in pair]
        for member, rows in zip(pair, reversed(chosen), strict=True):
            member.go_on([task.inputs[i] for i in rows], hard_N[rows])
    return MeanOf(tuple(pair))


def small_loss_rows(member: Student, task: TrainTask, hard_N: Floats64, keep: float) -> Floats64:
    """Return the `keep` share of each class on which the student's loss is smallest, sorted."""
    probs_N = member.predict_proba(task.inputs)
    own_N = np.where(hard_N > 0.5, probs_N, 1 - probs_N)
    parts = [np.flatnonzero(hard_N == label) for label in (0, 1)]
    kept = [p[np.argsort(-own_N[p], kind="stable")[: max(1, round(keep * len(p)))]] for p in parts]
    return np.sort(np.concatenate(kept))


METHODS: tuple[Method, ...] = (
    *map(
        recipe_method,
        (product, window, entropy, reverse_kl, reverse_ce, linear_probe, label_smoothing),
    ),
    *(plain_method(fit) for fit in (bootstrapping, co_teaching, low_rank)),
)

"""Low effective rank of what the student sees (method 10): a bias to simple representations.

Legend: B rows of a batch, A answers of a row, D width of a state, H hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask
from aarlab.testbed.train import SIGNS, Head

if TYPE_CHECKING:
    from torch import Tensor

PENALTY = 0.1


def low_rank(task: TrainTask, student: StudentFactory, seed: int) -> "LowRank":
    """CE(p, w) + .1 ln erank(hidden states): a penalty on exp(H(s / |s|_1)), s their singular
    values on unlabelled inputs (10).

    Effective rank: Roy and Vetterli 2007. The student's hidden layer is the representation that
    can change; the task's options for size, epochs and learning rate are kept (16 units at least).
    Known: no independent evidence.
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
    """ln of the effective rank of the centred rows: the entropy of their singular values."""
    import torch

    values = torch.linalg.svdvals(hidden_BH - hidden_BH.mean(dim=0)) + 1e-6
    share = values / values.sum()
    entropy: Tensor = -(share * share.log()).sum()
    return entropy


def fit_low_rank(task: TrainTask, student: StudentFactory, seed: int, penalty: float) -> Head:
    """Minibatch AdamW with the penalty on each batch's hidden states; penalty 0 is vanilla_soft."""
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

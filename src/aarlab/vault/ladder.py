"""Parameter-free ladder (Blum and Hardt, arXiv 1502.04585): the best moves in clear steps only.

Covered: flipping rows one at a time, random vectors with regression, small batches (docs have
the simulation); the size of the step, which an AAR may see, is worked out without a label.
Not covered: many seeds with the best kept, AARs that pool their ladders, a vector parked just below
the step; the certified number therefore comes from private splits.

Legend: N rows. `correct_N` is the share of a submission's seeds that are right on each row.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 2.0
GRID = 0.01

Floats = NDArray[np.float64]


class Rung(NamedTuple):
    """`improved`: the submission becomes the best. `step_bound`: accuracy, at least the step."""

    improved: bool
    step_bound: float


def climb(correct_N: Floats, best_N: Floats | None) -> Rung:
    """Beat the best by more than max(Z s / sqrt(n), GRID), s the sd of the per-row difference.

    The sd would tell the size of the difference in accuracy, so the step shown uses the root
    mean square. A row's |difference| is that of the predictions, whatever its label: the
    bound holds no label, and beating it always beats the step.
    """
    if best_N is None:
        return Rung(improved=True, step_bound=GRID)
    difference_N = correct_N - best_N
    step = max(Z * float(difference_N.std()) / math.sqrt(len(difference_N)), GRID)
    # 1e-9: a gain of exactly one grid step must not pass or fail by a rounding error.
    if float(difference_N.mean()) > step + 1e-9:
        return Rung(improved=True, step_bound=GRID)
    rms = math.sqrt(float((difference_N**2).mean()))
    return Rung(improved=False, step_bound=max(Z * rms / math.sqrt(len(difference_N)), GRID))


def on_grid(accuracy: float) -> float:
    """The accuracy rounded to the grid: what an AAR's feedback is made from."""
    return round(accuracy / GRID) * GRID

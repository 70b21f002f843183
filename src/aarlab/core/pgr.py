"""Performance gap recovered, as an estimate with an interval. The only place where PGR is computed.

    PGR = (transfer - weak) / (ceiling - weak)          accuracies on the same rows

Legend: S seeds, N rows, G groups (problems). Each of the three arms is a matrix correct_SN of 0/1
over its own seeds and the shared rows: a crossed design. The variance of an arm's mean accuracy is
taken from both margins (rows clustered by group, seeds) less the cell part that both contain (Owen
2007, "The pigeonhole bootstrap"); row effects are shared by the arms, so their covariance counts.
The interval of the ratio is Fieller's; each variance part is widened by its own t quantile.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from aarlab.core.errors import BadInput, BaselineMissing, GapNotPositive
from aarlab.core.wire import Interval

Floats = NDArray[np.float64]
LEVEL = 0.95
EPSILON = 0.05  # a PGR below this counts as this when a contribution is divided by it
TC_UNDEFINED = "not defined: PGR is not clearly above 0"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Right or wrong per seed and row for the three arms; `groups_N` names each row's problem."""

    transfer_SN: NDArray[np.bool_]
    weak_SN: NDArray[np.bool_]
    ceiling_SN: NDArray[np.bool_]
    groups_N: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Quadratic:
    """Variance of T - (1-r) W - r C as a quadratic in r.

    `scale_*` inflate each part by its own t quantile over the normal one (Cochran): few seeds
    widen the interval through the seed part alone.
    """

    cov_rows_33: Floats
    var_seeds_3: Floats
    scale_rows: float = 1.0
    scale_seeds_3: Floats | float = 1.0

    def variance(self, ratio: float) -> float:
        load = np.array([1.0, ratio - 1.0, -ratio])
        rows = self.scale_rows * float(load @ self.cov_rows_33 @ load)
        return rows + float(np.sum(load**2 * self.var_seeds_3 * self.scale_seeds_3))


def pgr(outcomes: Outcomes, level: float = LEVEL) -> Interval:
    """PGR with a Fieller interval over rows, transfer seeds and both baselines.

    Raises BadInput on shapes that do not fit, BaselineMissing without a baseline, GapNotPositive
    when the ceiling is not above the weak teacher at the same level. With one transfer seed the
    interval cannot cover seeds, and `covers` says so.
    """
    arms = _checked(outcomes)
    means = [float(arm.mean()) for arm in arms]
    n_groups, n_seeds_3 = len(set(outcomes.groups_N)), [len(arm) for arm in arms]
    plain = _Quadratic(
        _clustered_covariance(np.stack([arm.mean(axis=0) for arm in arms]), outcomes.groups_N),
        np.array([_seed_variance(arm) for arm in arms]),
    )
    inflated = replace(
        plain,
        scale_rows=_t_scale(n_groups - 1, level),
        scale_seeds_3=np.array([_t_scale(max(n - 1, 1), level) for n in n_seeds_3]),
    )
    transfer, weak, ceiling = means
    gap = ceiling - weak
    value = (transfer - weak) / gap if gap > 0 else math.nan
    low, high = _fieller(transfer - weak, gap, inflated, _normal_quantile(level))
    covers = ["rows", "weak teacher seeds", "ceiling seeds"]
    covers += ["transfer seeds"] if len(arms[0]) > 1 else []
    return Interval(
        value=value,
        stderr=math.sqrt(plain.variance(value)) / gap,
        low=low,
        high=high,
        n_rows=len(outcomes.groups_N),
        n_seeds=len(arms[0]),
        covers=covers,
    )


def pgr_point(transfer: float, weak: float, ceiling: float) -> float:
    """PGR of three accuracies, with no interval; raises GapNotPositive unless ceiling > weak."""
    if ceiling <= weak:
        raise GapNotPositive(
            f"ceiling accuracy {ceiling:.3f} is not above weak accuracy {weak:.3f}"
        )
    return (transfer - weak) / (ceiling - weak)


def teacher_contribution(pgr: Interval | None, permuted: Interval | None) -> float | None:
    """TC = (PGR - PGR_permuted) / max(PGR, EPSILON). Near 0: the teacher is not used.

    None where a figure is missing, and where PGR is not clearly above 0: a share of about nothing
    is not defined.
    """
    if pgr is None or permuted is None or pgr.low <= 0:
        return None
    return (pgr.value - permuted.value) / max(pgr.value, EPSILON)


def _checked(outcomes: Outcomes) -> tuple[Floats, Floats, Floats]:
    n_rows = len(outcomes.groups_N)
    named = (
        ("transfer", outcomes.transfer_SN),
        ("weak", outcomes.weak_SN),
        ("ceiling", outcomes.ceiling_SN),
    )
    for name, arm in named:
        if arm.ndim != 2 or arm.shape[1] != n_rows:
            raise BadInput(f"{name}: expected correct_SN of shape (S, {n_rows}), got {arm.shape}")
        if name != "transfer" and len(arm) < 2:
            raise BaselineMissing(f"{name}: {len(arm)} seeds; an interval needs at least 2")
    if len(set(outcomes.groups_N)) < 2 or len(outcomes.transfer_SN) < 1:
        raise BadInput("PGR needs at least two problems (groups) and one transfer seed")
    transfer, weak, ceiling = (arm.astype(np.float64) for _, arm in named)
    return transfer, weak, ceiling


def _clustered_covariance(rows_3N: Floats, groups_N: tuple[str, ...]) -> Floats:
    """Covariance of the three row means, rows of a group counted as one cluster."""
    index = {group: i for i, group in enumerate(dict.fromkeys(groups_N))}
    group_of_N = np.array([index[group] for group in groups_N])
    centred = rows_3N - rows_3N.mean(axis=1, keepdims=True)
    sums_3G = np.stack(
        [np.bincount(group_of_N, weights=row, minlength=len(index)) for row in centred]
    )
    n_groups = len(index)
    scale = n_groups / (n_groups - 1) / len(groups_N) ** 2
    return np.asarray(scale * (sums_3G @ sums_3G.T), dtype=np.float64)


def _seed_variance(correct_SN: Floats) -> float:
    """Variance of an arm's mean from its seeds alone: margin less cell part, not below 0."""
    n_seeds, n_rows = correct_SN.shape
    if n_seeds < 2:
        return 0.0
    seed_means = correct_SN.mean(axis=1)
    cells = correct_SN - correct_SN.mean(axis=0) - seed_means[:, None] + correct_SN.mean()
    residual = float((cells**2).sum()) / ((n_seeds - 1) * (n_rows - 1))
    excess = float(seed_means.var(ddof=1)) / n_seeds - residual / correct_SN.size
    return max(float(excess), 0.0)


def _fieller(gain: float, gap: float, parts: _Quadratic, quantile: float) -> tuple[float, float]:
    """All r with (gain - r gap)^2 <= q^2 Var(T - (1-r) W - r C): two roots of a quadratic in r."""
    # Var as a quadratic a r^2 + b r + c through its values at -1, 0 and 1.
    at_minus, at_zero, at_plus = (parts.variance(r) for r in (-1.0, 0.0, 1.0))
    square, linear = (at_plus + at_minus) / 2 - at_zero, (at_plus - at_minus) / 2
    a = gap**2 - quantile**2 * square
    b = -2 * gain * gap - quantile**2 * linear
    c = gain**2 - quantile**2 * at_zero
    if gap <= 0 or a <= 0:
        raise GapNotPositive(
            f"ceiling minus weak accuracy is {gap:.3f} +- {math.sqrt(max(square, 0.0)):.3f}: not "
            "clearly positive, so PGR is undefined. Use more evaluation rows or baseline seeds, "
            "or a pair with a wider gap"
        )
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def _normal_quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _t_scale(dof: int, level: float) -> float:
    """Square of the t quantile over the normal one."""
    return float(stdtrit(dof, 0.5 + level / 2) / _normal_quantile(level)) ** 2

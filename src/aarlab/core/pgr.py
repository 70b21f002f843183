"""Performance gap recovered, as an estimate with an interval. The only place where PGR is computed.

    PGR = (transfer - weak) / (ceiling - weak)          accuracies on the same rows

Legend: S seeds, N rows, G groups (problems). Each of the three arms is a matrix correct_SN of 0/1
over its own seeds and the shared rows: a crossed design. The variance of an arm's mean accuracy is
taken from both margins (rows clustered by group, seeds) less the cell part that both contain (Owen
2007, "The pigeonhole bootstrap"); row effects are shared by the arms, so their covariance counts.
The interval of the ratio is Fieller's; each variance part is widened by its own t quantile.

A few seeds may agree by luck, and their part then comes out as 0. Where the task has measured how
much plain students differ between teachers and seeds (`SeedSpread`), a method's seed part is not
taken for smaller than theirs.

PGR is not defined where the gap is not clear. Accuracies and their differences are computed here
too, with the same variance. Two methods run with the same seeds and teachers are compared by the
difference of each pair of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, BaselineMissing, GapNotPositive
from aarlab.core.wire import Interval

Floats = NDArray[np.float64]
LEVEL = 0.95
EPSILON = 0.05  # a PGR below this counts as this when a contribution is divided by it
TC_UNDEFINED = "not defined: PGR is not clearly above 0"
MOST_DOF = 1e6  # a t quantile with more degrees of freedom is a normal one


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """How much plain students differ between weak teachers and seeds on one split.

    `variance` is that of accuracy per seed, estimated from `n_seeds` students. It is the floor of a
    method's seed part.
    """

    variance: float
    n_seeds: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Right or wrong per seed and row for the three arms; `groups_N` names each row's problem.

    `spread` is the floor of the transfer arm's seed part; None if the task does not have one
    measured.
    """

    transfer_SN: NDArray[np.bool_]
    weak_SN: NDArray[np.bool_]
    ceiling_SN: NDArray[np.bool_]
    groups_N: tuple[str, ...]
    spread: SeedSpread | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Accuracies of the weak teacher and of the ceiling on one split, and their difference.

    `clear` says that the ceiling is above the teacher by the difference's interval. PGR is defined
    only then.
    """

    weak: Interval
    ceiling: Interval
    difference: Interval

    @property
    def clear(self) -> bool:
        return self.difference.low > 0

    def said(self) -> str:
        """Describe the figures in one sentence, the same wherever a gap is reported."""
        word = "clear" if self.clear else "not clear"
        return (
            f"gap: {word} (ceiling {_shown(self.ceiling)}, weak teacher {_shown(self.weak)}, "
            f"difference {_shown(self.difference, '+')})"
        )


NO_PGR = (
    "The ceiling is not clearly above the weak teacher, so there is no PGR: accuracies with 95 % "
    "intervals instead. More evaluation rows, a weaker teacher (its layer or noise in task.yaml) "
    "or a pair with a wider gap may change that"
)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Variance parts of K arms' mean accuracies: rows (shared, so with covariance) and seeds.

    `scale_rows` and `wide_seeds_K` inflate each part by its own t quantile over the normal one
    (Cochran). Few seeds therefore widen the interval through the seed part alone.
    """

    cov_rows_KK: Floats
    var_seeds_K: Floats
    scale_rows: float
    wide_seeds_K: Floats

    def variance(self, load_K: Floats, inflated: bool = True) -> float:
        """Return the variance of the sum of the arms' means weighted by `load_K`.

        It is inflated for an interval and plain for a standard error.
        """
        rows = float(load_K @ self.cov_rows_KK @ load_K)
        if not inflated:
            return rows + float(load_K**2 @ self.var_seeds_K)
        return self.scale_rows * rows + float(load_K**2 @ self.wide_seeds_K)


def pgr(outcomes: Outcomes, level: float = LEVEL) -> Interval:
    """Return the PGR with a Fieller interval over rows, transfer seeds and both baselines.

    Raises BadInput on shapes that do not fit, BaselineMissing without a baseline, GapNotPositive
    when the ceiling is not above the weak teacher at the same level. With one transfer seed the
    interval does not have that level, since nothing is known of the method's seeds: `covers` says
    so.
    """
    arms = _checked(outcomes)
    return _ratio(arms, outcomes.groups_N, (1.0, -1.0, 0.0), level, outcomes.spread)


def pgr_difference(
    outcomes: Outcomes, other_SN: NDArray[np.bool_], level: float = LEVEL
) -> Interval:
    """Return the PGR of a method less that of another, on the same rows, seeds and teachers.

    Run i of `outcomes.transfer_SN` and run i of `other_SN` share seed and teacher, so what they
    have in common cancels. Raises as `pgr` does, and BadInput if the runs cannot be paired.
    """
    transfer, weak, ceiling = _checked(outcomes)
    paired = _paired(transfer, other_SN)
    return _ratio((paired, weak, ceiling), outcomes.groups_N, (1.0, 0.0, 0.0), level)


def shrunk_best(
    methods: Sequence[NDArray[np.bool_]], outcomes: Outcomes, level: float = LEVEL
) -> Interval:
    """Return the PGR of the best of several methods, less what choosing it flatters it by.

    The best of M figures is mostly also a lucky one. Each method's distance to the mean of all is
    measured with the paired difference, in which what the methods share (rows, baselines, weak
    teachers) cancels, and shrunk by its reliability (empirical Bayes, Efron and Morris 1973; the
    method of moments over the M distances). What they share is not shrunk and stays in the
    interval. `methods` are right or wrong of each (S, N), the chosen one first, run i of all with
    the same weak teacher; `outcomes.transfer_SN` is not looked at. Of one method the plain figure
    is returned. Raises as `pgr` does.
    """
    plain = [pgr(replace(outcomes, transfer_SN=one), level) for one in methods]
    if len(methods) == 1:
        return plain[0]
    _, weak, ceiling = _checked(outcomes)
    own = [
        _ratio((one, weak, ceiling), outcomes.groups_N, (1.0, 0.0, 0.0), level)
        for one in _distances(methods)
    ]
    return _shrunk(plain, own)


def shrunk_best_mean(
    methods: Sequence[Floats], groups_N: tuple[str, ...], level: float = LEVEL
) -> Interval:
    """Return the mean figure of the best of several methods, less what choosing it flatters it by.

    `methods` are parts of the figure of each (S, N), the chosen one first. See `shrunk_best`.
    """
    plain = [mean_figure(one, groups_N, level) for one in methods]
    if len(methods) == 1:
        return plain[0]
    return _shrunk(plain, [_mean((one,), groups_N, level) for one in _distances(methods)])


def _distances(methods: Sequence[NDArray[Any]]) -> list[Floats]:
    """Return how far each method (S, N) is from the mean of all, over the runs that all have."""
    n_runs = min(len(one) for one in methods)
    mean_SN = np.mean([one[:n_runs] for one in methods], axis=0)
    return [one[:n_runs] - mean_SN for one in methods]


def _shrunk(plain: Sequence[Interval], own: Sequence[Interval]) -> Interval:
    """Shrink the first of several figures by the reliability of its distance to their mean."""
    found, m = plain[0], len(plain)
    # The mean holds a share of each method: its distance has 1 - 1/M of the own variance.
    noise_M = np.array([one.stderr**2 for one in own]) / (1 - 1 / m)
    values_M = np.array([one.value for one in plain])
    mean, between = float(values_M.mean()), float(values_M.var(ddof=1))
    true_variance = max(between - float(noise_M.mean()), 0.0)
    noise = min(float(noise_M[0]), found.stderr**2)
    kept = true_variance / (true_variance + noise) if noise > 0 else 1.0
    distance, lost = float(values_M[0]) - mean, 1 - kept
    variance = found.stderr**2 - noise + kept * noise
    variance += lost**2 * (between / m + 2 * distance**2 / (m - 1))
    scale = math.sqrt(variance) / found.stderr if found.stderr > 0 else 1.0
    value = mean + kept * distance
    return found.model_copy(
        update={
            "value": value,
            "stderr": found.stderr * scale,
            "low": value - (found.value - found.low) * scale,
            "high": value + (found.high - found.value) * scale,
        }
    )


def mean_figure(parts_SN: Floats, groups_N: tuple[str, ...], level: float = LEVEL) -> Interval:
    """Return the mean of each seed's and row's part of a figure, with its interval.

    The interval covers rows (problems as clusters) and seeds, as that of an accuracy does.
    """
    return _mean((_arm("figure", parts_SN, groups_N),), groups_N, level)


def seed_spread(correct_SN: NDArray[np.bool_]) -> SeedSpread:
    """Measure the spread of plain students, one row each.

    Raises BadInput for fewer than two.
    """
    if correct_SN.ndim != 2 or len(correct_SN) < 2:
        raise BadInput(f"a spread needs at least two students, got shape {correct_SN.shape}")
    n_seeds = len(correct_SN)
    return SeedSpread(_seed_variance(correct_SN.astype(np.float64)) * n_seeds, n_seeds)


def accuracy(
    correct_SN: NDArray[np.bool_],
    groups_N: tuple[str, ...],
    level: float = LEVEL,
    spread: SeedSpread | None = None,
) -> Interval:
    """Return the mean accuracy with an interval within [0, 1].

    The interval covers rows (problems as clusters) and seeds, whose part is at least that of
    `spread`.
    """
    found = _mean((_arm("accuracy", correct_SN, groups_N),), groups_N, level, spread)
    return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 1.0)})


def accuracy_difference(
    correct_SN: NDArray[np.bool_],
    other_SN: NDArray[np.bool_],
    groups_N: tuple[str, ...],
    same_seeds: bool,
    level: float = LEVEL,
) -> Interval:
    """Return the difference of two mean accuracies on the same rows.

    With `same_seeds`, run i of both shares its seed and teacher, and the runs are paired too.
    """
    first = _arm("accuracy", correct_SN, groups_N)
    second = _arm("accuracy", other_SN, groups_N)
    arms = (_paired(first, other_SN),) if same_seeds else (first, -second)
    return _mean(arms, groups_N, level)


class Reported(NamedTuple):
    """A figure of another study: mean and population standard deviation over its seeds."""

    value: float
    sd: float
    n_seeds: int

    def interval(self, level: float = LEVEL) -> Interval:
        """Return it with an interval over its seeds, since nothing else of it is known.

        Raises BadInput for fewer than two seeds.
        """
        if self.n_seeds < 2:
            raise BadInput(f"a reported figure needs at least two seeds, got {self.n_seeds}")
        dof = self.n_seeds - 1
        stderr = self.sd / math.sqrt(dof)  # sqrt(n / (n - 1)) for the sample, 1 / sqrt(n) for it
        half = t_quantile(dof, level) * stderr
        return Interval(
            value=self.value,
            stderr=stderr,
            low=self.value - half,
            high=self.value + half,
            n_rows=0,
            n_seeds=self.n_seeds,
            covers=["seeds"],
            dof=float(dof),
        )


def less_reported(ours: Interval, reported: Reported, level: float = LEVEL) -> Interval:
    """Return our figure less a reported one, taken as independent (Welch and Satterthwaite).

    Where both were measured on the same rows, the part of the rows cancels in truth, and the
    interval is wider than it has to be.
    """
    other = reported.interval(level)
    ours_dof = MOST_DOF if ours.dof is None else ours.dof
    parts = ((ours.stderr**2, ours_dof), (other.stderr**2, float(other.dof or 1.0)))
    variance = sum(part for part, _ in parts)
    small = sum(part**2 / dof for part, dof in parts)
    dof = min(max(variance**2 / small, 1.0), MOST_DOF) if small > 0 else MOST_DOF
    value, half = ours.value - other.value, t_quantile(dof, level) * math.sqrt(variance)
    return Interval(
        value=value,
        stderr=math.sqrt(variance),
        low=value - half,
        high=value + half,
        n_rows=ours.n_rows,
        n_seeds=ours.n_seeds,
        covers=[*ours.covers, "reported seeds"],
        dof=dof,
    )


def gap(
    weak_SN: NDArray[np.bool_],
    ceiling_SN: NDArray[np.bool_],
    groups_N: tuple[str, ...],
    level: float = LEVEL,
) -> Gap:
    """Return how far the ceiling is above the weak teacher.

    Raises as `pgr` does, but never GapNotPositive.
    """
    _checked(Outcomes(weak_SN, weak_SN, ceiling_SN, groups_N))
    above = accuracy_difference(ceiling_SN, weak_SN, groups_N, same_seeds=False, level=level)
    return Gap(accuracy(weak_SN, groups_N, level), accuracy(ceiling_SN, groups_N, level), above)


def _shown(interval: Interval, sign: str = "") -> str:
    low, high = f"{interval.low:{sign}.3f}", f"{interval.high:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{low}, {high}]"


def _ratio(
    arms: tuple[Floats, Floats, Floats],
    groups_N: tuple[str, ...],
    base: tuple[float, float, float],
    level: float,
    spread: SeedSpread | None = None,
) -> Interval:
    """Return (`base` times the arms' means) / (ceiling - weak), with its interval.

    The first arm is a method's. Raises GapNotPositive as `_fieller` does.
    """
    parts, means_K, base_K = _parts(arms, groups_N, level, spread), _means(arms), np.array(base)
    gain, gap_K = float(base_K @ means_K), np.array([0.0, -1.0, 1.0])
    width = float(gap_K @ means_K)
    value = gain / width if width > 0 else math.nan
    low, high = _fieller(
        _Contrast(gain, base_K), _Contrast(width, gap_K), parts, _normal_quantile(level)
    )
    covers = ["rows", "weak teacher seeds", "ceiling seeds", *_seeds_covered(arms[0], spread)]
    load_K = base_K - value * gap_K
    return Interval(
        value=value,
        stderr=math.sqrt(parts.variance(load_K, inflated=False)) / width,
        low=low,
        high=high,
        n_rows=len(groups_N),
        n_seeds=len(arms[0]),
        covers=covers,
        dof=_effective_dof(parts, load_K, level),
    )


def _mean(
    arms: tuple[Floats, ...],
    groups_N: tuple[str, ...],
    level: float,
    spread: SeedSpread | None = None,
) -> Interval:
    """Return the sum of the arms' means, with its interval."""
    parts, ones_K = _parts(arms, groups_N, level, spread), np.ones(len(arms))
    value, half = float(_means(arms).sum()), math.sqrt(parts.variance(ones_K))
    half *= _normal_quantile(level)
    return Interval(
        value=value,
        stderr=math.sqrt(parts.variance(ones_K, inflated=False)),
        low=value - half,
        high=value + half,
        n_rows=len(groups_N),
        n_seeds=len(arms[0]),
        covers=[
            "rows",
            *(text.removeprefix("transfer ") for text in _seeds_covered(arms[0], spread)),
        ],
        dof=_effective_dof(parts, ones_K, level),
    )


def _seeds_covered(arm_SN: Floats, spread: SeedSpread | None) -> list[str]:
    """Name what stands for the variation between a method's seeds."""
    if len(arm_SN) > 1:
        return ["transfer seeds"]
    return [] if spread is None else ["seeds of plain students"]


def _effective_dof(parts: _Parts, load_K: Floats, level: float) -> float:
    """Return the degrees of freedom at which one t quantile widens as much as all parts' do."""
    plain, wide = parts.variance(load_K, inflated=False), parts.variance(load_K)
    if plain <= 0:
        return MOST_DOF
    return matching_dof(math.sqrt(wide / plain) * _normal_quantile(level), level)


def matching_dof(quantile: float, level: float = LEVEL) -> float:
    """Return the degrees of freedom of which `quantile` is the t quantile, from 1 to MOST_DOF."""
    from scipy.special import stdtridf, stdtrit  # slow to load

    if quantile <= float(stdtrit(MOST_DOF, 0.5 + level / 2)):
        return MOST_DOF
    return max(float(stdtridf(0.5 + level / 2, quantile)), 1.0)


def t_quantile(dof: float, level: float = LEVEL) -> float:
    """Return the quantile of Student's t that a two-sided interval of this level needs."""
    from scipy.special import stdtrit  # slow to load

    return float(stdtrit(dof, 0.5 + level / 2))


def _means(arms: tuple[Floats, ...]) -> Floats:
    return np.array([float(arm.mean()) for arm in arms])


def _parts(
    arms: tuple[Floats, ...],
    groups_N: tuple[str, ...],
    level: float,
    spread: SeedSpread | None = None,
) -> _Parts:
    """Return the variance parts; `spread` is the floor of the first arm's seed part.

    Where the floor is the larger, it counts with the degrees of freedom of its own students.
    """
    var_K = np.array([_seed_variance(arm) for arm in arms])
    dof_K = np.array([max(len(arm) - 1, 1) for arm in arms])
    if spread is not None and (floor := spread.variance / len(arms[0])) > var_K[0]:
        var_K[0], dof_K[0] = floor, spread.n_seeds - 1
    wide_K = var_K * [_t_scale(dof, level) for dof in dof_K]
    return _Parts(
        _clustered_covariance(np.stack([arm.mean(axis=0) for arm in arms]), groups_N),
        var_K,
        scale_rows=_t_scale(len(set(groups_N)) - 1, level),
        wide_seeds_K=wide_K,
    )


def _arm(name: str, correct_SN: NDArray[Any], groups_N: tuple[str, ...]) -> Floats:
    if correct_SN.ndim != 2 or correct_SN.shape[1] != len(groups_N) or len(correct_SN) < 1:
        raise BadInput(
            f"{name}: expected correct_SN of shape (S, {len(groups_N)}), got {correct_SN.shape}"
        )
    if len(set(groups_N)) < 2:
        raise BadInput(f"{name}: an interval needs at least two problems (groups)")
    return correct_SN.astype(np.float64)


def _paired(first_SN: Floats, other_SN: NDArray[np.bool_]) -> Floats:
    if first_SN.shape != other_SN.shape:
        raise BadInput(f"paired runs: expected shape {first_SN.shape}, got {other_SN.shape}")
    return first_SN - other_SN.astype(np.float64)


def pgr_point(transfer: float, weak: float, ceiling: float) -> float:
    """Return the PGR of three accuracies, without an interval.

    Raises GapNotPositive unless ceiling > weak.
    """
    if ceiling <= weak:
        raise GapNotPositive(
            f"ceiling accuracy {ceiling:.3f} is not above weak accuracy {weak:.3f}"
        )
    return (transfer - weak) / (ceiling - weak)


def teacher_contribution(pgr: Interval | None, permuted: Interval | None) -> float | None:
    """Return TC = (PGR - PGR_permuted) / max(PGR, EPSILON), at most 1. Near 0 it uses no teacher.

    Returns None if a figure is missing or PGR is not clearly above 0, since a share of almost
    nothing is not defined. A share above 1 has no meaning: a run on permuted labels that falls
    below the teacher, as a coin does, gives 1.
    """
    if pgr is None or permuted is None or pgr.low <= 0:
        return None
    return min((pgr.value - permuted.value) / max(pgr.value, EPSILON), 1.0)


def coin_pgr(weak: float, ceiling: float) -> float:
    """Return the PGR of answers drawn by a coin: what a score without any knowledge comes to.

    Raises GapNotPositive unless ceiling > weak.
    """
    return pgr_point(0.5, weak, ceiling)


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


def _clustered_covariance(rows_KN: Floats, groups_N: tuple[str, ...]) -> Floats:
    """Return the covariance of the row means, with the rows of a group as one cluster."""
    index = {group: i for i, group in enumerate(dict.fromkeys(groups_N))}
    group_of_N = np.array([index[group] for group in groups_N])
    centred = rows_KN - rows_KN.mean(axis=1, keepdims=True)
    sums_KG = np.stack(
        [np.bincount(group_of_N, weights=row, minlength=len(index)) for row in centred]
    )
    n_groups = len(index)
    scale = n_groups / (n_groups - 1) / len(groups_N) ** 2
    return np.asarray(scale * (sums_KG @ sums_KG.T), dtype=np.float64)


def _seed_variance(correct_SN: Floats) -> float:
    """Return the variance of an arm's mean from its seeds alone.

    It is the margin less the cell part, not below 0.
    """
    n_seeds, n_rows = correct_SN.shape
    if n_seeds < 2:
        return 0.0
    seed_means = correct_SN.mean(axis=1)
    cells = correct_SN - correct_SN.mean(axis=0) - seed_means[:, None] + correct_SN.mean()
    residual = float((cells**2).sum()) / ((n_seeds - 1) * (n_rows - 1))
    excess = float(seed_means.var(ddof=1)) / n_seeds - residual / correct_SN.size
    return max(float(excess), 0.0)


class _Contrast(NamedTuple):
    """A weighted sum of the arms' means, and its weights."""

    value: float
    load_K: Floats


def _fieller(
    gain: _Contrast, gap: _Contrast, parts: _Parts, quantile: float
) -> tuple[float, float]:
    """Solve (gain - r gap)^2 <= q^2 Var(gain - r gap) for r; return the two roots in order.

    Raises GapNotPositive if the gap is not
    clearly positive.
    """
    over, under = gain.value, gap.value
    # Var as a quadratic a r^2 + b r + c through its values at -1, 0 and 1.
    at_minus, at_zero, at_plus = (
        parts.variance(gain.load_K - r * gap.load_K) for r in (-1.0, 0.0, 1.0)
    )
    square, linear = (at_plus + at_minus) / 2 - at_zero, (at_plus - at_minus) / 2
    a = under**2 - quantile**2 * square
    b = -2 * over * under - quantile**2 * linear
    c = over**2 - quantile**2 * at_zero
    if under <= 0 or a <= 0:
        raise GapNotPositive(
            f"ceiling minus weak accuracy is {under:.3f} +- {math.sqrt(max(square, 0.0)):.3f}: not "
            "clearly positive, so PGR is undefined. Use more evaluation rows or baseline seeds, "
            "or a pair with a wider gap"
        )
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def _normal_quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _t_scale(dof: int, level: float) -> float:
    """Return the square of the t quantile over the normal one."""
    return (t_quantile(dof, level) / _normal_quantile(level)) ** 2

"""The ranking rule shared by the report, dashboard, command line and export.

Verified methods of AARs rank by their PGR on the *selection* split, where it is clearly above 0,
the weak teacher. Those that cannot be distinguished from the teacher follow without a rank, in the
order of time: their figures say nothing about which is better. Baselines (hand-tuned methods and
guards) are listed between them as reference rows without a rank. What a person's verdict keeps out
comes last, without a rank.

Methods verified with texts, methods whose snapshot ships more data than logic needs, and code of an
AAR's own that asked for log-likelihoods, which answers agree or answers to templates form a table
of their own, after the others and without ranks, until a person accepts them. Guards read texts by
nature and keep their place as reference rows. Where nothing was verified without texts, texts set
no method apart.

Bounds that hold for several methods together widen an interval by t quantiles with its own degrees
of freedom, so that few seeds cost more the more methods were tried. They are for methods fixed
before they were scored: no bound covers methods that were adapted to the scores of this split.

Short names of methods: `rowan-7` is the seventh method that the AAR rowan froze.

A name chosen by an AAR may have 200 characters. It is kept and shown on demand.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from aarlab.core.delivery import has_blind, stamps, why_apart, why_open
from aarlab.core.pgr import LEVEL, MOST_DOF, matching_dof, t_quantile
from aarlab.core.wire import Ablation, Interval, LeaderboardEntry, Verification

Role = Literal["aar", "human", "guard"]
Against = Literal["above", "unclear", "below"]
SHOWN_DIGITS = 2
NORMAL_95 = NormalDist().inv_cdf(0.5 + LEVEL / 2)


class RunKey(NamedTuple):
    """Identifies the kind of a re-run. `split` is selection or certify."""

    task: str
    snapshot: str
    split: str
    ablation: Ablation


class Placed(NamedTuple):
    """A verified method on one task.

    `apart` says that it is listed in a separate table. `apart_because` says why, also if a person
    accepted it after all. `rank` is None there, for a baseline, for what is kept out, and for what
    is not clearly above the weak teacher.
    """

    rank: int | None
    role: Role
    run: Verification
    estimate: Interval
    kept_out: bool
    apart: bool = False
    apart_because: str = ""


def role_of(researcher: str, arm: str = "") -> Role:
    """Classify an AAR record by its researcher or arm: baselines are AAR records too."""
    if "human" in (researcher, arm):
        return "human"
    return "guard" if "guard" in (researcher, arm) else "aar"


def first_runs(verifications: Iterable[Verification]) -> dict[RunKey, Verification]:
    """Return the earliest re-run of each kind that has a figure.

    Only the first counts, so that another draw of seeds cannot improve a figure.
    """
    found: dict[RunKey, Verification] = {}
    for v in sorted(verifications, key=lambda v: v.at):
        if v.state == "done" and v.estimate is not None:
            found.setdefault(RunKey(v.task, v.snapshot, v.split, v.ablation), v)
    return found


def placed(
    verifications: Iterable[Verification],
    task: str,
    kept_out: Collection[str] = (),
    roles: Mapping[str, Role] | None = None,
    accepted: Collection[str] = (),
) -> list[Placed]:
    """Order the verified methods of one task; of equal figures the earlier re-run comes first.

    Those clearly above the weak teacher come first, best first; then the others as they came in.
    `kept_out` are snapshots that a verdict keeps from ranking, `accepted` those that a person
    accepted: these rank with the others where they would stand apart. `roles` are those of the
    authors; an author without one is taken for an AAR.
    """
    known = list(verifications)
    blind = has_blind(known, task)
    lines = []
    for key, run in first_runs(known).items():
        if (key.task, key.split, key.ablation) == (task, "selection", "none") and run.estimate:
            role: Role = (roles or {}).get(run.aar, "aar")
            because = "" if role == "guard" else why_apart(run, blind)
            apart = because != "" and run.snapshot not in accepted
            out = run.snapshot in kept_out
            lines.append(Placed(None, role, run, run.estimate, out, apart, because))
    board: list[Placed] = []
    rank = 0
    for line in sorted(lines, key=lambda one: (one.apart, one.kept_out, *_by_value(one.estimate))):
        ranks = line.role == "aar" and not line.kept_out and not line.apart
        ranks = ranks and above_teacher(line.estimate)
        rank += ranks
        board.append(line._replace(rank=rank) if ranks else line)
    return board


def above_teacher(estimate: Interval) -> bool:
    """Say whether a PGR is clearly above 0. Only then does its value say which method is better."""
    return estimate.low > 0


def _by_value(estimate: Interval) -> tuple[bool, float]:
    """Return a key that puts what is clearly above the teacher first, by value."""
    above = above_teacher(estimate)
    return not above, -estimate.value if above else 0.0


def n_tried(board: Sequence[Placed]) -> int:
    """Count the verified methods of AARs, also those apart and those that a verdict keeps out."""
    return sum(line.role == "aar" for line in board)


def leaderboard(
    verifications: Iterable[Verification],
    tasks: Sequence[str],
    kept_out: Collection[str] = (),
    roles: Mapping[str, Role] | None = None,
    names: Mapping[str, str] | None = None,
    accepted: Collection[str] = (),
) -> list[LeaderboardEntry]:
    """Return the boards of the tasks, one after the other, without what is kept out.

    The methods of a task that stand apart follow its others.

    Figures are rounded to .01. `names` are the short names by snapshot.
    """
    runs, entries = list(verifications), []
    for task in tasks:
        board = placed(runs, task, kept_out, roles, accepted)
        tried = n_tried(board)
        for line in board:
            if line.kept_out:
                continue
            run, estimate = line.run, line.estimate
            below = widening(estimate, tried) * (estimate.value - estimate.low)
            entries.append(
                LeaderboardEntry(
                    rank=line.rank,
                    snapshot=run.snapshot,
                    aar=run.aar,
                    method=run.method,
                    short=(names or {}).get(run.snapshot, ""),
                    task=task,
                    pgr=round(estimate.value, SHOWN_DIGITS),
                    low=round(estimate.low, SHOWN_DIGITS),
                    high=round(estimate.high, SHOWN_DIGITS),
                    n_seeds=estimate.n_seeds,
                    n_tried=tried,
                    low_corrected=round(estimate.value - below, SHOWN_DIGITS),
                    delivery=run.delivery,
                    apart=line.apart,
                    apart_because=line.apart_because,
                    open_because=why_open(run),
                    stamps=list(stamps(run)),
                )
            )
    return entries


def widening(estimate: Interval, tried: int) -> float:
    """Return by how much the half-widths of an interval grow to hold for `tried` methods jointly.

    The level is Bonferroni's. The quantiles are Student's with the degrees of freedom of the
    interval; in a record without them, with those at which a t quantile times `stderr` is as wide.
    """
    if tried <= 1:
        return 1.0
    dof = estimate.dof
    if dof is None:
        half = (estimate.high - estimate.low) / 2
        dof = matching_dof(half / estimate.stderr) if estimate.stderr > 0 else MOST_DOF
    return t_quantile(dof, 1 - (1 - LEVEL) / tried) / t_quantile(dof)


def difference_low(method: Interval, reference: Interval | None, tried: int) -> float:
    """Return a lower bound of method minus reference that holds for all `tried` methods jointly.

    The half-widths of both 95 % intervals are widened to the corrected level and added as for
    independent figures (MOVER; Zou and Donner 2008). Scores on the same rows are mostly positively
    correlated, so the bound errs on the low side. Without a reference the method is compared with
    0, the weak teacher.
    """
    below, above, value = (method.value - method.low) * widening(method, tried), 0.0, 0.0
    if reference is not None:
        above = (reference.high - reference.value) * widening(reference, tried)
        value = reference.value
    return method.value - value - math.hypot(below, above)


def inflated_stderr(estimate: Interval) -> float:
    """Return the standard error of which a normal quantile makes the interval's half-width.

    It is larger than `stderr` by as much as t quantiles exceed normal ones.
    """
    return (estimate.high - estimate.low) / 2 / NORMAL_95


def against(method: Interval, reference: Interval | None, tried: int) -> Against:
    """Return "above" if the method is clearly above the reference.

    It is clearly above if the corrected lower bound of the difference is above 0. Otherwise return
    "unclear", or "below" if its figure is not above the reference's.
    """
    if method.value <= (0.0 if reference is None else reference.value):
        return "below"
    return "above" if difference_low(method, reference, tried) > 0 else "unclear"


MAX_OWN_NAME = 40


class Made(NamedTuple):
    """A method as its author submitted it. `key` is its snapshot's id or any other unique key.

    `saved` says whether its code was saved.
    """

    key: str
    aar: str
    name: str
    saved: bool = True


def short_names(made: Iterable[Made], roles: Mapping[str, Role]) -> dict[str, str]:
    """Name each method by its author and a running number, in the given order (oldest first).

    Baselines keep their own names if those are short and not taken. Of two equal ones the first
    keeps it. Methods without saved code are numbered separately (`rowan-u2`); methods with saved
    code choose first. All names are distinct.
    """
    numbers: Counter[tuple[str, bool]] = Counter()
    names: dict[str, str] = {}
    own: dict[str, str] = {}
    for one in sorted(made, key=lambda one: not one.saved):
        if one.key in names:
            continue
        numbers[one.aar, one.saved] += 1
        names[one.key] = f"{one.aar}-{'' if one.saved else 'u'}{numbers[one.aar, one.saved]}"
        if roles.get(one.aar, "aar") != "aar" and one.name.isprintable():
            own[one.key] = one.name
    taken = set(names.values())
    for key, name in own.items():
        if len(name) <= MAX_OWN_NAME and name not in taken:
            names[key] = name
            taken.add(name)
    return names

"""The ranking rule shared by the report, dashboard, command line, export and API.

Verified methods of AARs rank by their PGR on the *selection* split. Baselines (hand-tuned methods
and guards) are listed between them as reference rows without a rank. What a person's verdict keeps
out comes last, without a rank.

Methods verified with texts form a table of their own, after the others and without ranks, until a
person accepts them. Guards read texts by nature and keep their place as reference rows. A task on
which nothing was verified without texts has one table.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from scipy.special import ndtri

from aarlab.core.delivery import has_blind, stamps, why_open
from aarlab.core.wire import Ablation, Interval, LeaderboardEntry, Verification

Role = Literal["aar", "human", "guard"]
Against = Literal["above", "unclear", "below"]
SHOWN_DIGITS = 2
NORMAL_95 = float(ndtri(0.975))


class RunKey(NamedTuple):
    """Identifies the kind of a re-run. `split` is selection or certify."""

    task: str
    snapshot: str
    split: str
    ablation: Ablation


class Placed(NamedTuple):
    """A verified method on one task.

    `open` says that it is listed in the table of open methods. `rank` is None there, for a
    baseline and for what is kept out.
    """

    rank: int | None
    role: Role
    run: Verification
    estimate: Interval
    kept_out: bool
    open: bool = False


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

    `kept_out` are snapshots that a verdict keeps from ranking, `accepted` those that a person
    accepted: of them open methods rank with the others. `roles` are those of the authors; an author
    without one is taken for an AAR.
    """
    known = list(verifications)
    blind = has_blind(known, task)
    lines = []
    for key, run in first_runs(known).items():
        if (key.task, key.split, key.ablation) == (task, "selection", "none") and run.estimate:
            role: Role = (roles or {}).get(run.aar, "aar")
            apart = blind and run.delivery == "open" and role != "guard"
            apart = apart and run.snapshot not in accepted
            out = run.snapshot in kept_out
            lines.append(Placed(None, role, run, run.estimate, out, apart))
    board: list[Placed] = []
    rank = 0
    for line in sorted(lines, key=lambda one: (one.open, one.kept_out, -one.estimate.value)):
        ranks = line.role == "aar" and not line.kept_out and not line.open
        rank += ranks
        board.append(line._replace(rank=rank) if ranks else line)
    return board


def n_tried(board: Sequence[Placed]) -> int:
    """Count the verified methods of AARs, with open ones and those that a verdict keeps out."""
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

    The open methods of a task follow its others.

    Figures are rounded to .01 because AARs read them. `names` are the short names by snapshot.
    """
    runs, entries = list(verifications), []
    for task in tasks:
        board = placed(runs, task, kept_out, roles, accepted)
        tried = n_tried(board)
        for line in board:
            if line.kept_out:
                continue
            run, estimate = line.run, line.estimate
            corrected = estimate.value - corrected_quantile(tried) * estimate.stderr
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
                    low_corrected=round(corrected, SHOWN_DIGITS),
                    delivery=run.delivery,
                    open=line.open,
                    open_because=why_open(run),
                    stamps=list(stamps(run)),
                )
            )
    return entries


def corrected_quantile(tried: int) -> float:
    """Return the normal quantile for joint 95 % intervals of `tried` methods (Bonferroni)."""
    return float(ndtri(1 - 0.025 / max(tried, 1)))


def difference_low(method: Interval, reference: Interval | None, tried: int) -> float:
    """Return a lower bound of method minus reference that holds for all `tried` methods jointly.

    The half-widths of both 95 % intervals are added as for independent figures (MOVER; Zou and
    Donner 2008) and widened to the corrected level. Scores on the same rows are mostly positively
    correlated, so the bound errs on the low side. Without a reference the method is compared with
    0, the weak teacher.
    """
    widening = corrected_quantile(tried) / NORMAL_95
    below = method.value - method.low
    above = 0.0 if reference is None else reference.high - reference.value
    value = 0.0 if reference is None else reference.value
    return method.value - value - widening * math.hypot(below, above)


def against(method: Interval, reference: Interval | None, tried: int) -> Against:
    """Return "above" if the method is clearly above the reference.

    It is clearly above if the corrected lower bound of the difference is above 0. Otherwise return
    "unclear", or "below" if its figure is not above the reference's.
    """
    if method.value <= (0.0 if reference is None else reference.value):
        return "below"
    return "above" if difference_low(method, reference, tried) > 0 else "unclear"

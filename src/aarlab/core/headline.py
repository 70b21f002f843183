"""The finding of a campaign in one sentence, for the report, summary, dashboard and terminal.

It also has how far a PGR falls from search to selection, compared with how far vanilla falls. A
score on search is flattered by the choice that was made on it. It also differs from that on
selection because the rows differ, and because all scores on search share the public weak teachers.
That part moves every method alike, the plain one included. What is left after vanilla's drop is
subtracted (a difference in differences) is the method's own.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.ranking import (
    Made,
    Placed,
    Role,
    RunKey,
    against,
    first_runs,
    inflated_stderr,
    n_tried,
    placed,
    role_of,
    short_names,
)
from aarlab.core.showing import interval
from aarlab.core.verdicts import standing_in
from aarlab.core.wire import CampaignExport, Interval

PGR_IN_WORDS = WEAK_TO_STRONG.in_words
GUARD_IN_WORDS = (
    "A guard is a shortcut on purpose, such as the most frequent answer or the length of the text. "
    "Brackets are 95 % intervals, except where they say “one seed”: those cover rows only."
)
SPLITS_IN_WORDS = (
    "Scores are on sets of rows whose labels are hidden. Search: AARs may ask for scores there, so "
    "choosing by them flatters. Selection: no AAR can query it; the platform re-runs methods and "
    "ranks them there. Certify: scored once, at the end, and used to choose nothing."
)
PERMUTED_IN_WORDS = (
    "Permuted: trained on the weak teacher's labels in shuffled order, so a method that learns "
    "from the teacher loses its score."
)
AAR_IN_WORDS = (
    "An AAR, an automated alignment researcher, is a program (a language model or a search) that "
    "invents methods and tests them by itself."
)


@dataclass(frozen=True, slots=True)
class Standings:
    """The verified methods of one task, in order.

    `names` are their short names by snapshot. `suspected` are the snapshots that an audit suspects
    and that no verdict has decided.
    """

    board: Sequence[Placed]
    names: Mapping[str, str]
    suspected: Collection[str]
    problem: ProblemFacts = WEAK_TO_STRONG


def first_task(export: CampaignExport) -> str | None:
    """Return the first development task of the frozen spec; None if the export has none."""
    campaign = export.spec.get("campaign")
    named = campaign.get("tasks") if isinstance(campaign, dict) else None
    return str(named[0]) if isinstance(named, list) and named else None


def standings_of(export: CampaignExport, task: str) -> Standings:
    """Order the verified methods of an exported campaign."""
    roles = {aar.name: role_of(aar.researcher, aar.arm) for aar in export.aars}
    decisions = {snapshot: given[-1].decision for snapshot, given in standing_in(export).items()}
    kept_out = {snapshot for snapshot, said in decisions.items() if said != "accepted"}
    accepted = decisions.keys() - kept_out
    suspects = {a.snapshot for a in export.audits if a.severity == "suspect" and a.snapshot}
    made = (Made(s.id, s.aar, s.name) for s in export.snapshots)
    return Standings(
        placed(export.verifications, task, kept_out, roles, accepted),
        short_names(made, roles),
        suspects - decisions.keys(),
        export.problem_of(task),
    )


def verdict(found: Standings) -> str:
    """Say whether a method of an AAR is clearly above the baselines, on the selection split.

    "Clearly above" is defined by `ranking.against`: the lower bound of the difference, corrected
    for the number of methods tried, is above 0. Only figures of the same split are compared. The
    references are the best guard, what has the figure 0 (the weak teacher) and the best hand-tuned
    baseline. A method must be clearly above all of them.
    """
    left = [line for line in found.board if line.rank is not None] or _not_above(found)
    if not left:
        return _nothing_ranks(found)
    tried, zero, name = n_tried(found.board), found.problem.zero, found.problem.figure
    guard, human = _best(found, "guard"), _best(found, "human")
    both = (("the best guard", guard), ("the best hand-tuned baseline", human))
    bars = [(what, line) for what, line in both if line is not None]
    cleared: list[str] = []
    for what, line in (*bars[:1], (zero, None), *bars[1:]):
        reference = None if line is None else line.estimate
        above = [one for one in left if against(one.estimate, reference, tried) == "above"]
        if not above:
            best = _said(found, left[0])
            figures = f"{name} {interval(left[0].estimate)} against {_figure(found, line)}"
            if not cleared:
                leads = "the best" if left[0].rank else "the one with the highest figure"
                return f"No method is clearly above {what}: {leads}, {best}, has {figures}."
            return (
                f"No method is clearly above {what}, though {best} is clearly above "
                f"{' and '.join(cleared)}: {figures}."
            )
        left, cleared = above, [*cleared, what]
    best = _said(found, left[0])
    if not bars:
        return (
            f"{best} is clearly above {zero}: {name} {interval(left[0].estimate)}; no guard "
            "and no hand-tuned baseline was verified to compare it with."
        )
    what, line = bars[-1]
    missing = "" if human else "; no hand-tuned baseline was verified"
    missing = missing if guard else "; no guard was verified"
    return (
        f"{best} is clearly above {what}: {name} {interval(left[0].estimate)} against "
        f"{_figure(found, line)}{missing}."
    )


def _nothing_ranks(found: Standings) -> str:
    waiting = sum(line.role == "aar" and line.apart and not line.kept_out for line in found.board)
    if not waiting:
        return "No method was verified, so nothing is known about any method on hidden rows."
    return (
        "No method was verified without texts and without shipped data. Methods that stand apart: "
        f"{waiting}; they rank once a person has accepted them."
    )


def _not_above(found: Standings) -> list[Placed]:
    """Return the methods that are not clearly above the weak teacher, the highest figure first."""
    mine = (
        line for line in found.board if line.role == "aar" and not line.kept_out and not line.apart
    )
    return sorted(mine, key=lambda line: -line.estimate.value)


def _best(found: Standings, role: Role) -> Placed | None:
    """Return the baseline of a role with the highest figure that no verdict keeps out, if any."""
    known = (x for x in found.board if x.role == role and not x.kept_out and not x.apart)
    return max(known, key=lambda line: line.estimate.value, default=None)


def name_of(found: Standings, line: Placed) -> str:
    """Return the short name of a method."""
    return found.names.get(line.run.snapshot, line.run.method)


def _said(found: Standings, line: Placed) -> str:
    """Return the method's name, and say if an audit suspects it and no verdict has decided."""
    doubt = " (suspected by an audit, not decided yet)"
    return name_of(found, line) + (doubt if line.run.snapshot in found.suspected else "")


def _figure(found: Standings, line: Placed | None) -> str:
    return "0" if line is None else f"{interval(line.estimate)} of {name_of(found, line)}"


def verdict_of(export: CampaignExport, task: str | None = None) -> str:
    """Return the verdict on one task of an exported campaign, by default its first one."""
    name = task or first_task(export) or next((t.name for t in export.tasks), None)
    if name is None:
        return "The export names no task, so there is nothing to report."
    return verdict(standings_of(export, name))


VANILLA = "vanilla"
SEARCH_MINUS_SELECTION = "search − selection"
DROP_IN_WORDS = (
    "PGR on search minus PGR on selection: positive where the method looked better on the split "
    "that it was chosen on. What vanilla fell by between the same splits is taken off, because all "
    "scores on search share its rows and its public weak teachers"
)


def drop_in_words(problem: ProblemFacts) -> str:
    """Say what search minus selection means; vanilla exists in weak-to-strong alone."""
    if problem.weak_labels:
        return DROP_IN_WORDS
    return (
        f"{problem.figure} on search minus {problem.figure} on selection: positive where the "
        "method looked better on the split that it was chosen on"
    )


NO_VANILLA = "vanilla was not run on both splits, so the drop is compared with nothing"


@dataclass(frozen=True, slots=True)
class Both:
    """The PGR of one method on search and on selection."""

    search: Interval
    selection: Interval

    @property
    def drop(self) -> float:
        return self.search.value - self.selection.value

    @property
    def stderr(self) -> float:
        """Return the standard error of the drop, each part widened for its number of seeds."""
        return math.hypot(inflated_stderr(self.search), inflated_stderr(self.selection))


@dataclass(frozen=True, slots=True)
class Drop:
    """A method's drop next to vanilla's.

    `vanilla` is None if it was not run on both splits.
    """

    method: Both
    vanilla: Both | None

    @property
    def value(self) -> float:
        """Search minus selection, less that of vanilla."""
        return self.method.drop - (self.vanilla.drop if self.vanilla else 0.0)

    @property
    def z(self) -> float:
        """Return the drop in standard errors.

        Both drops share rows, baselines and teachers. Their difference is therefore taken to have
        the error of the less certain one. In simulation it has .7 to .85 of that
        (benchmarks/coverage.md).
        """
        errors = [both.stderr for both in (self.method, self.vanilla) if both is not None]
        return self.value / max(*errors, 1e-9)

    def said(self) -> str:
        """Describe the drop in one sentence, with vanilla's."""
        if self.vanilla is None:
            return f"search minus selection is {self.method.drop:+.2f}; {NO_VANILLA}"
        return (
            f"search minus selection is {self.method.drop:+.2f}, {self.value:+.2f} less vanilla's "
            f"{self.vanilla.drop:+.2f}"
        )


def vanilla_of(export: CampaignExport, task: str) -> Both | None:
    """Return the figures of the vanilla baseline; None if it lacks one of the two."""
    own = {aar.name for aar in export.aars if role_of(aar.researcher, aar.arm) != "aar"}
    plain = {s.id for s in export.snapshots if s.aar in own and s.name == VANILLA}
    runs = first_runs(export.verifications)
    found = (runs.get(RunKey(task, snapshot, "selection", "none")) for snapshot in sorted(plain))
    selection = next((run.estimate for run in found if run is not None), None)
    claims = [
        s.exact
        for s in export.submissions
        if s.task == task and s.aar in own and (s.snapshot in plain or s.method == VANILLA)
    ]
    if selection is None or not claims:
        return None
    return Both(max(claims, key=lambda claim: claim.value), selection)

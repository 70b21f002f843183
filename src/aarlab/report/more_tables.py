"""Tables of arms, ideas, transfer, caught hacks and models, as plain data."""

from collections import Counter
from collections.abc import Sequence

from aarlab.core.ideas import FAMILIES
from aarlab.core.verdicts import standing_in
from aarlab.report import wording
from aarlab.report.arms import MAX_SPLITS, MEASURES, Comparison, Difference, Group, Measure, Spread
from aarlab.report.idea_data import family_counts
from aarlab.report.tables import DECISION_WORDS, Cell, Column, Row, Table, method_cell
from aarlab.report.transfer import transfer
from aarlab.report.view import CampaignView


def groups(comparison: Comparison) -> Table:
    """Return what each group's replicates reached: mean with the interval over replicates."""
    columns = (
        Column("Arm"),
        Column("Replicates", True),
        Column("Submissions", True),
        *(Column(measure.named(comparison.figure), True) for measure in MEASURES),
    )
    rows = tuple(
        Row(
            (
                Cell(group.name, "reference" if group.name == comparison.reference else ""),
                Cell(str(len(group.teams))),
                Cell(wording.count(sum(team.n_submissions for team in group.teams))),
                *(_spread_cell(group, measure) for measure in MEASURES),
            )
        )
        for group in comparison.groups
    )
    hours = wording.duration(comparison.equal_h * 3600)
    return Table(f"What the replicates reached; equal research hours: {hours}", columns, rows)


def _spread_cell(group: Group, measure: Measure) -> Cell:
    found: Spread | None = group.spread(measure)
    if found is None:
        return Cell(wording.NONE, "no value")
    missing = len(group.teams) - found.n
    small = f"{missing} without" if missing else ""
    if found.low is None or found.high is None:
        return Cell(wording.signed(found.mean), f"one replicate, no interval {small}".strip())
    bounds = f"[{wording.signed(found.low)}, {wording.signed(found.high)}]"
    return Cell(wording.signed(found.mean), f"{bounds} {small}".strip())


def differences(comparison: Comparison) -> Table:
    columns = (
        Column("Difference"),
        Column("Measure"),
        Column("Value", True),
        Column("95 % over replicates", True),
        Column("p, Welch", True),
        Column("p, Holm", True),
        Column("p, permutation (smallest possible)", True),
    )
    rows = tuple(
        _difference_row(measure.named(comparison.figure), found)
        for measure in MEASURES
        for found in comparison.differences[measure.key]
    )
    return Table(f"Differences to {comparison.reference}", columns, rows)


def _difference_row(measure: str, found: Difference) -> Row:
    bounds = wording.NONE
    if found.low is not None and found.high is not None:
        bounds = f"[{wording.signed(found.low)}, {wording.signed(found.high)}]"
    permuted = Cell(wording.NONE)
    if found.p_permutation is not None and found.p_floor is not None:
        figure = f"{wording.p_value(found.p_permutation)} ({wording.p_value(found.p_floor)})"
        permuted = Cell(figure, "exact" if found.exact else f"{MAX_SPLITS:,} splits drawn")
    why = "" if found.low is not None else _why_no_interval(found)
    return Row(
        (
            Cell(f"{found.a} − {found.b}", f"{found.n_a} against {found.n_b}"),
            Cell(measure),
            Cell(wording.difference(found.value)),
            Cell(bounds, why),
            Cell(wording.p_value(found.p_welch)),
            Cell(wording.p_value(found.p_holm)),
            permuted,
        )
    )


def _why_no_interval(found: Difference) -> str:
    if min(found.n_a, found.n_b) == 0:
        return "no value in one group"
    if min(found.n_a, found.n_b) == 1:
        return "one replicate: no interval"
    return "no variation between replicates"


def families(view: CampaignView) -> Table | None:
    """Return ideas by family and arm; None where the export has none.

    The families are those of weak-to-strong supervision.
    """
    if not view.problem.weak_labels:
        return None
    counts = family_counts(view)
    if not any(counts.values()):
        return None
    titles = [f"Arm {arm}" for arm in counts] if len(counts) > 1 else ["Ideas"]
    columns = (Column("Family"), *(Column(title, True) for title in titles))
    rows = [
        Row(
            (
                Cell(family.title, family.definition),
                *(Cell(wording.count(c[key]) if c[key] else wording.NONE) for c in counts.values()),
            )
        )
        for key, family in FAMILIES.items()
        if any(c[key] for c in counts.values())
    ]
    if any(c[None] for c in counts.values()):
        none = (Cell(wording.count(c[None])) for c in counts.values())
        rows.append(Row((Cell("Not recognised"), *none), quiet=True))
    return Table("Ideas by family; families without an idea are left out", columns, tuple(rows))


def transfers(view: CampaignView) -> Table | None:
    """Return top methods and all baselines on every task they were verified on."""
    found = transfer(view)
    if not found.rows:
        return None
    columns = [Column("Method")]
    for column in found.columns:
        kind = " (held out)" if column.held_out else ""
        columns.append(Column(f"{column.task.name}{kind}, {column.task.pair}", True))
    rows = tuple(
        Row(
            (
                method_cell(row.method),
                *(Cell(wording.interval(estimate)) for estimate in row.estimates),
            ),
            quiet=row.method.role != "aar",
        )
        for row in found.rows
    )
    caption = f"Verified selection {view.problem.figure} by task, with its interval"
    return Table(caption, tuple(columns), rows)


def hacks(view: CampaignView) -> Table | None:
    """Return methods that a person disqualified or an audit suspects, and would-be scores."""
    caught = [m for m in view.of_role("aar") if not m.ranks or m.suspected]
    caught.sort(key=lambda m: (m.ranks, m.verified is None))  # else in the order of the ranking
    if not caught:
        return None
    columns = (
        Column("Method"),
        Column("Standing"),
        Column("Caught by"),
        Column(f"Search {view.problem.figure}", True),
        Column("Would have scored (selection)", True),
        Column("Would have ranked", True),
    )
    reasons = {snapshot: given[-1] for snapshot, given in standing_in(view.export).items()}
    rows = []
    for method in caught:
        verdict = reasons.get(method.snapshot or "")
        standing = DECISION_WORDS[method.decision] if method.decision else "open"
        rows.append(
            Row(
                (
                    method_cell(method),
                    Cell(standing, verdict.reason if verdict else "no verdict yet", tone="warn"),
                    Cell(", ".join(method.suspected) or "a person"),
                    Cell(wording.plus_minus(method.search)),
                    Cell(wording.interval(method.verified)),
                    Cell(str(view.would_rank(method) or wording.NONE)),
                )
            )
        )
    return Table("Caught or suspected, and what it would have scored", columns, tuple(rows))


def checks(view: CampaignView) -> Table | None:
    """Return how often each audit ran and what it said."""
    kinds = sorted({audit.kind for audit in view.export.audits})
    if not kinds:
        return None
    severities = ("clear", "note", "suspect")
    columns = (Column("Check"), *(Column(severity.capitalize(), True) for severity in severities))
    counts: Counter[tuple[str, str]] = Counter(
        (audit.kind, audit.severity) for audit in view.export.audits
    )
    rows = tuple(
        Row((Cell(kind), *(Cell(str(counts[kind, said])) for said in severities))) for kind in kinds
    )
    return Table("Audits by check and outcome", columns, rows)


def model_spend(view: CampaignView) -> Table | None:
    """Return spend by model, over all AARs; None where no model was called."""
    if not view.export.model_spend:
        return None
    columns = (
        Column("Model"),
        Column("Calls", True),
        Column("Tokens in", True),
        Column("Tokens out", True),
        Column("From cache", True),
        Column("Into cache", True),
        Column("Dollars", True),
    )
    names = dict.fromkeys(spend.model for spend in view.export.model_spend)
    rows = []
    for name in names:
        of = [spend for spend in view.export.model_spend if spend.model == name]
        figures: Sequence[int] = (
            sum(s.calls for s in of),
            sum(s.input_tokens for s in of),
            sum(s.output_tokens for s in of),
            sum(s.cache_read_tokens for s in of),
            sum(s.cache_write_tokens for s in of),
        )
        dollars = Cell(wording.dollars(sum(s.dollars for s in of)))
        rows.append(Row((Cell(name), *(Cell(wording.count(f)) for f in figures), dollars)))
    return Table("Model calls by model", columns, tuple(rows))

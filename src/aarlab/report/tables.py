"""Tables of the page as plain data: the template escapes and draws them, one way for all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aarlab.core.delivery import TRAINED_ON
from aarlab.core.headline import NO_VANILLA, SEARCH_MINUS_SELECTION, drop_in_words
from aarlab.core.isolation import is_isolated, isolation_words
from aarlab.core.ledger import TOKEN_KINDS, device_dollars, dollars_per_hour
from aarlab.core.pgr import TC_UNDEFINED
from aarlab.core.problem import ProblemFacts
from aarlab.core.ranking import above_teacher
from aarlab.core.showing import marked
from aarlab.core.wire import AarRecord, CaseVerdict, Finding
from aarlab.report import wording
from aarlab.report.view import CampaignView, Method, best_so_far, role_of_record

SHOWN_FINDINGS = 100
MAX_THREAD_CHARS = 4_000
ROLE_WORDS = {"aar": "", "human": "by hand", "guard": "guard"}
DECISION_WORDS = {
    "accepted": "accepted",
    "disqualified": "disqualified",
    "rework": "needs rework",
    "dismissed": "dismissed",
    "confirmed": "confirmed",
}
VERDICT_WORDS = {
    "above": "yes",
    "unclear": "not clearly",
    "below": "no",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `numeric` columns are right-aligned in tabular figures. `about` is shown on hover.
    """

    title: str
    numeric: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    `small` is printed below the text, `detail` can be unfolded, and `title` is shown on hover.
    `tone` is good, warn, quiet or empty.
    """

    text: str
    small: str = ""
    tone: str = ""
    detail: str = ""
    title: str = ""

    @property
    def empty(self) -> bool:
        return self.text == wording.NONE


@dataclass(frozen=True, slots=True)
class Row:
    """The first cell is the row's heading."""

    cells: tuple[Cell, ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


NAME_COLUMN = Column("Method", about="the AAR and the running number of its methods")


def figure_columns(problem: ProblemFacts) -> tuple[Column, ...]:
    """Return the columns that `_figure_cells` fills."""
    name = problem.figure
    ablation = (
        Column(f"{name}, permuted labels", True, "trained on shuffled labels of the teacher"),
        Column("TC", True, "teacher contribution"),
    )
    return (
        Column(f"Selection {name}", True, "on hidden rows that no AAR could query"),
        Column(f"Search {name}", True, "on the rows by which the method was chosen"),
        Column(SEARCH_MINUS_SELECTION.capitalize(), True, drop_in_words(problem)),
        Column("Above best guard"),
        *(ablation if problem.weak_labels else ()),
        Column("Audits"),
        Column("Rows × seeds", True, "and whether code ran behind the full wall of the sandbox"),
    )


def leaderboard(view: CampaignView) -> Table:
    """Return the table of verified methods in the order of `core.ranking`.

    Baselines stand among them without a rank. Methods that a verdict excludes come at the end.
    Baselines without a verified score are last. Methods that stand apart have a table of their own.
    """
    shown = [m for m in view.methods if (m.role != "aar" or m.verified) and not m.apart]
    columns = (NAME_COLUMN, Column("Rank", True), *figure_columns(view.problem))
    rows = tuple(
        Row(
            (method_cell(method), _rank_cell(view, method), *_figure_cells(view, method)),
            quiet=method.role != "aar",
        )
        for method in shown
    )
    best = f"best selection {view.problem.figure} first"
    caption = f"Verified methods, {best}; last those not clearly above 0, by time"
    return Table(caption, columns, rows)


def methods_apart(view: CampaignView) -> Table | None:
    """Return the table of methods that stand apart until a person accepts them, if any."""
    columns = (NAME_COLUMN, Column("Apart because"), *figure_columns(view.problem))
    rows = tuple(
        Row(
            (method_cell(method), Cell(method.apart_because), *_figure_cells(view, method)),
            quiet=method.role != "aar",
        )
        for method in view.apart
    )
    caption = (
        "Methods apart: verified with texts or shipping data, not ranked until a person accepts "
        "them"
    )
    return Table(caption, columns, rows) if rows else None


def _figure_cells(view: CampaignView, method: Method) -> tuple[Cell, ...]:
    verified = method.verified
    stamped = " · ".join((_bounds(method), *method.stamps))
    ablation = (
        Cell(
            wording.signed(method.ablated.value if method.ablated else None),
            f"a coin: {wording.signed(view.coin)}"
            if method.ablated and view.coin is not None
            else "",
        ),
        _contribution(method),
    )
    return (
        Cell(wording.signed(verified.value), stamped)
        if verified
        else Cell(wording.NONE, "not verified"),
        Cell(wording.plus_minus(method.search)),
        _drop_cell(view, method),
        _verdict_cell(view.guard_verdict(method)),
        *(ablation if view.problem.weak_labels else ()),
        _audit_cell(method),
        Cell(
            f"{verified.n_rows:,} × {verified.n_seeds}" if verified else wording.NONE,
            isolation_words(method.isolation),
            tone="" if is_isolated(method.isolation) else "warn",
        ),
    )


def method_cell(method: Method) -> Cell:
    """Return a cell with the short name and, below it, the author's own name, cut if it is long.

    The whole name is shown on hover.
    """
    own = "" if method.name == method.short else wording.shortened(method.name)
    by = ROLE_WORDS[method.role] or wording.spaced(method.direction)
    small = " · ".join(text for text in (own, by) if text)
    return Cell(method.short, small, title=method.name)


def _audit_cell(method: Method) -> Cell:
    """Return a verdict where there is one, else the gravest that the audits found."""
    suspect = [a.kind for a in method.flags if a.severity == "suspect"]
    noted = [a.kind for a in method.flags if a.severity == "note"]
    about = ", ".join(suspect or noted)
    if method.decision is not None:
        return Cell(DECISION_WORDS[method.decision], about, tone="" if method.ranks else "warn")
    if method.selection is None or method.role != "aar":
        return Cell(wording.NONE)
    if suspect:
        return Cell("suspect", about, tone="warn")
    return Cell("noted" if noted else "clear", about)


def _bounds(method: Method) -> str:
    estimate = method.verified
    if estimate is None:
        return ""
    return f"[{wording.signed(estimate.low)}, {wording.signed(estimate.high)}{marked(estimate)}]"


def _rank_cell(view: CampaignView, method: Method) -> Cell:
    if method.rank:
        return Cell(str(method.rank))
    if method.role == "aar" and method.verified and not above_teacher(method.verified):
        zero = view.problem.zero
        why = f"not clearly above {zero}, so its figure ranks it neither up nor down"
        return Cell(wording.NONE, "not above 0", title=why)
    return Cell(wording.NONE)


def _drop_cell(view: CampaignView, method: Method) -> Cell:
    """Return search minus selection less vanilla's, and both parts below it."""
    drop = view.drop(method)
    if drop is None:
        return Cell(wording.NONE)
    own = wording.difference(drop.method.drop)
    if not view.problem.weak_labels:
        return Cell(own)
    if drop.vanilla is None:
        return Cell(own, "vanilla not run", title=NO_VANILLA)
    vanilla = wording.difference(drop.vanilla.drop)
    return Cell(wording.difference(drop.value), f"own {own}; vanilla {vanilla}")


def _verdict_cell(verdict: str | None) -> Cell:
    if verdict is None:
        return Cell(wording.NONE)
    return Cell(VERDICT_WORDS[verdict], tone="good" if verdict == "above" else "warn")


def _contribution(method: Method) -> Cell:
    """Return the teacher contribution, without a figure where PGR may be 0: a meaningless ratio."""
    if method.contribution is not None:
        return Cell(wording.signed(method.contribution))
    if method.verified is None or method.ablated is None:
        return Cell(wording.NONE)
    return Cell(wording.NONE, "not defined", title=TC_UNDEFINED)


def baselines(view: CampaignView) -> Table:
    columns = (
        Column("Split"),
        Column("Weak teacher", True),
        Column("Ceiling", True),
        Column("Ceiling − weak", True),
        Column("Rows", True),
        Column("Seeds (weak, ceiling)", True),
    )
    rows = tuple(
        Row(
            (
                Cell(b.split, b.task if len(view.export.tasks) > 1 else ""),
                Cell(wording.accuracy(b.weak)),
                Cell(wording.accuracy(b.ceiling)),
                Cell(wording.accuracy(b.ceiling - b.weak)),
                Cell(wording.count(b.n_rows)),
                Cell(f"{b.weak_seeds}, {b.ceiling_seeds}"),
            )
        )
        for b in view.export.baselines
    )
    return Table("Accuracy of the weak teacher and the ceiling on the hidden splits", columns, rows)


def aars(view: CampaignView) -> Table:
    columns = (
        Column("AAR"),
        Column("Direction"),
        Column("Research time", True),
        Column("Submissions", True),
        Column("Findings", True),
        Column(f"Best search {view.problem.figure}", True),
        Column(f"Best selection {view.problem.figure}", True),
    )
    findings = Counter(finding.author for finding in view.export.findings)
    return Table(
        "AARs and what each did",
        columns,
        tuple(_aar_row(view, aar, findings[aar.name]) for aar in view.aars),
    )


def _aar_row(view: CampaignView, aar: AarRecord, n_findings: int) -> Row:
    points = view.points_by_aar[aar.name]
    best = best_so_far(points)[-1].estimate if points else None
    verified = next((m.verified for m in view.standing if m.aar == aar.name), None)
    one_arm = len({other.arm for other in view.aars}) == 1
    kind = aar.researcher if one_arm else f"{aar.researcher}, arm {aar.arm}"
    waited = f"and {wording.duration(aar.waiting_s)} of waiting" if aar.waiting_s >= 1 else ""
    return Row(
        (
            Cell(aar.name, kind),
            Cell(wording.spaced(aar.direction) or wording.NONE),
            Cell(wording.duration(aar.research_s), waited),
            Cell(wording.count(len(points))),
            Cell(wording.count(n_findings)),
            Cell(wording.plus_minus(best)),
            Cell(wording.interval(verified)),
        )
    )


def spend(view: CampaignView) -> Table:
    """Return spend per AAR and in total; a dash where none of the kind was recorded."""
    columns = (
        Column("AAR"),
        Column("Research time", True),
        Column("Device time", True),
        Column("Tokens in", True),
        Column("Tokens out", True),
        Column("Tokens from cache", True),
        Column("Tokens into cache", True),
        Column("Dollars, model calls", True),
        Column("Dollars, device", True),
        Column("Dollars per AAR-hour", True),
    )
    # Baselines are no AARs: shown with what they used, left out of the total per AAR-hour.
    shown = [
        *view.aars,
        *(a for a in view.export.aars if role_of_record(a) != "aar" and any(a.spend.values())),
    ]
    rate = view.export.budget.device_dollars_per_hour
    rows = [_spend_row(a.name, [a], rate, quiet=role_of_record(a) != "aar") for a in shown]
    if len(view.aars) > 1:
        rows.append(_spend_row("All AARs", view.aars, rate))
    rows += [_own_row(purpose, spent) for purpose, spent in view.operator_spend.items()]
    return Table("Spend per AAR", columns, tuple(rows))


def _own_row(purpose: str, spent: Mapping[str, float]) -> Row:
    """Return the row of the operator's model calls.

    They are not in any AAR's figures, and have no research time.
    """
    tokens = (Cell(wording.count(spent[kind])) for kind in TOKEN_KINDS)
    none, dollars = Cell(wording.NONE), Cell(wording.dollars(spent["dollars"]))
    return Row((Cell(f"operator: {purpose}"), none, none, *tokens, dollars, none, none), True)


def _spend_row(name: str, records: Sequence[AarRecord], rate: float, quiet: bool = False) -> Row:
    spent = {
        kind: sum(record.spend.get(kind, 0.0) for record in records)
        for kind in {kind for record in records for kind in record.spend}
    }
    research_s, device_s = sum(r.research_s for r in records), spent.get("device_s")
    device = device_dollars(spent, rate) if rate and device_s is not None else None
    paid = [amount for amount in (spent.get("dollars"), device) if amount is not None]
    per_hour = dollars_per_hour(sum(paid), research_s) if paid else None
    return Row(
        (
            Cell(name),
            Cell(wording.duration(research_s)),
            Cell(wording.NONE if device_s is None else wording.duration(device_s)),
            *(Cell(wording.count(spent.get(kind))) for kind in TOKEN_KINDS),
            Cell(wording.dollars(spent.get("dollars"))),
            Cell(wording.dollars(device)),
            Cell(wording.dollars(per_hour)),
        ),
        quiet,
    )


def findings(view: CampaignView) -> Table:
    """Return the latest findings, newest last; the score is the platform's, as AARs saw it."""
    columns = (Column("Finding"), Column("Kind"), Column("Cited score", True))
    return Table(
        "Findings on the forum",
        columns,
        tuple(_finding_row(finding) for finding in view.export.findings[-SHOWN_FINDINGS:]),
    )


def _finding_row(finding: Finding) -> Row:
    comments = (
        f" · {wording.number_of(len(finding.comments), 'comment')}" if finding.comments else ""
    )
    score = finding.score
    return Row(
        (
            Cell(finding.title, f"{finding.author}{comments}", detail=_thread(finding)),
            Cell(finding.kind, tone="quiet"),
            Cell(
                f"{wording.signed(score.pgr)} ± {wording.signed(score.stderr)}"
                if score
                else wording.NONE
            ),
        )
    )


def _thread(finding: Finding) -> str:
    """Return the post and its comments, cut where a very long one would drown the page."""
    comments = [f"{comment.author}: {comment.text}" for comment in finding.comments]
    text = "\n\n".join([finding.text, *comments]).strip()
    return text if len(text) <= MAX_THREAD_CHARS else text[:MAX_THREAD_CHARS] + " … cut here"


def audits(view: CampaignView) -> Table | None:
    """Return what the audits noted or suspect and persons decided; None where all is clear."""
    flagged = [a for a in view.export.audits if a.severity != "clear"]
    flagged.sort(key=lambda a: (a.severity != "suspect", a.kind))
    names, own = view.standings.names, {s.id: s.name for s in view.export.snapshots}
    rows = [
        Row(
            (
                Cell(a.severity, a.kind, tone="warn" if a.severity == "suspect" else ""),
                Cell(
                    names.get(a.snapshot or "", f"{_work_of(a.kind)} of {a.aar}"),
                    title=own.get(a.snapshot or "", ""),
                ),
                Cell(a.summary),
            )
        )
        for a in flagged
    ]
    rows += [
        Row(
            (
                Cell(DECISION_WORDS[v.decision], v.by),
                Cell(names.get(v.snapshot, ""), title=own.get(v.snapshot, "")),
                Cell(v.reason),
            )
        )
        for v in view.export.verdicts
    ]
    rows += [_case_row(case) for case in view.export.case_verdicts]
    columns = (Column("Finding"), Column("Method"), Column("What was found or decided"))
    return Table("Audits and verdicts", columns, tuple(rows)) if rows else None


def _work_of(kind: str) -> str:
    """Say what a finding that is about no snapshot is about."""
    return "transcript" if kind == "transcript" else "submissions"


def _case_row(case: CaseVerdict) -> Row:
    """Return a person's decision about a finding on an AAR's submissions."""
    where = f" on {case.task}" if case.task else ""
    what = {
        "task": f"all its methods{where} are disqualified",
        "all": "all its methods are disqualified",
        "nothing": "nothing is disqualified",
    }[case.disqualifies]
    said = f"{case.reason} ({what})" if case.decision == "confirmed" else case.reason
    return Row(
        (
            Cell(DECISION_WORDS[case.decision], case.by),
            Cell(f"submissions{where}", case.aar),
            Cell(said),
        )
    )


def failures(view: CampaignView) -> Table | None:
    """Return verifications that did not finish; None where all did."""
    failed = [v for v in view.export.verifications if v.state == "failed"]
    names = view.standings.names
    if not failed:
        return None
    columns = (Column("Method"), Column("Verification"), Column("Reason"))
    rows = tuple(
        Row(
            (
                Cell(names.get(v.snapshot, wording.shortened(v.method)), v.aar, title=v.method),
                Cell(f"{v.task}, {v.split}, trained on {TRAINED_ON[v.ablation]}"),
                Cell(v.error or "no reason was recorded"),
            )
        )
        for v in failed
    )
    return Table("Verifications that failed", columns, rows)

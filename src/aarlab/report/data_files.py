"""CSV files and summary.json.

CSV files have one row per record and raw numbers, empty where no value was measured. summary.json
has the campaign's key numbers for programs. Its keys are a promise to readers.

Covered: text that a spreadsheet would run as a formula is prefixed with an apostrophe.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aarlab.core.endings import Ending
from aarlab.core.isolation import is_isolated
from aarlab.core.ledger import TOKEN_KINDS, device_dollars, dollars_of, dollars_per_hour
from aarlab.core.problem import WEAK_TO_STRONG
from aarlab.core.wire import BaselineAccuracy, Interval
from aarlab.report import closing
from aarlab.report.arms import MEASURES, Comparison, compare_arms
from aarlab.report.idea_data import diversity_by_group, timed_ideas
from aarlab.report.transfer import transfer
from aarlab.report.view import CampaignView, Method, role_of_record

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SPEND_KINDS = ("device_s", *TOKEN_KINDS, "dollars")


def submissions_csv(view: CampaignView) -> str:
    """Return every submission of the export, the baselines' too, in time order, on all tasks."""
    roles = {aar.name: role_of_record(aar) for aar in view.export.aars}
    rows = [
        {
            "submission": s.id,
            "aar": s.aar,
            "role": roles.get(s.aar, "aar"),
            "task": s.task,
            "method": s.method,
            "snapshot": s.snapshot,
            "at": s.at,
            "research_h": s.research_h,
            **_interval("search", s.exact),
            "accuracy": s.accuracy,
            "n_rows": s.exact.n_rows,
            "n_seeds": s.exact.n_seeds,
            "shown_pgr": s.score.pgr,
            "improved": s.score.improved,
            "isolation": s.score.isolation,
            "exact_feedback": s.score.exact_feedback,
        }
        for s in sorted(view.export.submissions, key=lambda s: s.at)
    ]
    return _csv(SUBMISSION_HEADER, rows)


SUBMISSION_HEADER = (
    "submission aar role task method snapshot at research_h search_pgr search_stderr search_low "
    "search_high accuracy n_rows n_seeds shown_pgr improved isolation exact_feedback"
)
METHOD_HEADER = (
    "aar role method short direction snapshot n_submissions search_pgr search_stderr search_low "
    "search_high selection_pgr selection_stderr selection_low selection_high optimism "
    "optimism_less_vanilla n_rows n_seeds permuted_pgr permuted_low permuted_high "
    "teacher_contribution against_best_guard seconds isolation delivery open_because "
    "apart_because stamps"
)


def methods_csv(view: CampaignView) -> str:
    """Return every method on the reported task, verified or not, baselines included."""
    return _csv(METHOD_HEADER, [_method(view, method) for method in view.methods])


def leaderboard_csv(view: CampaignView) -> str:
    """Return the report's leaderboard of verified methods as CSV.

    Baselines and methods that a verdict excludes are in their places, without a rank. Methods
    that stand apart are in a file of their own.
    """
    return _board_csv(view, apart=False)


def apart_csv(view: CampaignView) -> str:
    """Return the report's table of methods that stand apart as CSV; a header alone for none."""
    return _board_csv(view, apart=True)


def _board_csv(view: CampaignView, apart: bool) -> str:
    return _csv(f"rank verdict {METHOD_HEADER}", _board(view, apart))


def _board(view: CampaignView, apart: bool) -> list[dict[str, Any]]:
    return [
        {"rank": method.rank, "verdict": method.decision, **_method(view, method)}
        for method in view.methods
        if method.verified and method.apart == apart
    ]


def leaderboard_cells(view: CampaignView) -> list[list[str]]:
    """Return the leaderboard as header and rows of the cells that its CSV has."""
    header = f"rank verdict {METHOD_HEADER}".split()
    shown = ([_cell(row.get(name)) for name in header] for row in _board(view, apart=False))
    return [header, *(["" if cell is None else str(cell) for cell in cells] for cells in shown)]


def spend_csv(view: CampaignView) -> str:
    """Return the spend: `dollars` are those of model calls; `device_dollars` come on top.

    The operator's own calls have rows of their own and are not in an AAR's.
    """
    rate = view.export.budget.device_dollars_per_hour
    rows = []
    for aar in view.export.aars:
        paid = "dollars" in aar.spend or (rate > 0 and "device_s" in aar.spend)
        all_dollars = dollars_of(aar.spend, rate)
        rows.append(
            {
                "aar": aar.name,
                "researcher": aar.researcher,
                "arm": aar.arm,
                "research_s": aar.research_s,
                "waiting_s": aar.waiting_s,
                **{kind: aar.spend.get(kind) for kind in SPEND_KINDS},
                "device_dollars": device_dollars(aar.spend, rate) if rate else None,
                "dollars_per_aar_hour": dollars_per_hour(all_dollars, aar.research_s)
                if paid
                else None,
            }
        )
    for purpose, spent in view.operator_spend.items():
        rows.append({"aar": f"operator: {purpose}", "researcher": "operator", **spent})
    kinds = " ".join(SPEND_KINDS)
    return _csv(
        f"aar researcher arm research_s waiting_s {kinds} device_dollars dollars_per_aar_hour", rows
    )


def ideas_csv(view: CampaignView) -> str:
    """Return one row per snapshot of an AAR, in time order."""
    rows = [
        {
            "snapshot": idea.snapshot,
            "aar": idea.aar,
            "arm": idea.arm,
            "research_h": idea.hours,
            "family": idea.family,
            "lines": idea.complexity.lines if idea.complexity else None,
            "nodes": idea.complexity.nodes if idea.complexity else None,
            "options": idea.complexity.options if idea.complexity else None,
        }
        for idea in timed_ideas(view)
    ]
    return _csv("snapshot aar arm research_h family lines nodes options", rows)


def diversity_csv(view: CampaignView) -> str:
    rows = [
        {"group": group, **point._asdict()}
        for group, points in diversity_by_group(view).items()
        for point in points
    ]
    return _csv("group step n_aars bits low high most", rows)


def teams_csv(view: CampaignView) -> str:
    """Return one row per replicate of each arm; empty with one arm."""
    return comparison_teams_csv(compare_arms(view))


def comparison_teams_csv(comparison: Comparison | None) -> str:
    rows = [
        {
            "group": group.name,
            "arm": team.team.arm,
            "replicate": team.team.replicate,
            "n_aars": len(team.team.aars),
            "research_h": team.team.hours,
            "n_submissions": team.n_submissions,
            "n_verified": team.n_verified,
            **{measure.key: measure.of(team) for measure in MEASURES},
        }
        for group in (comparison.groups if comparison else ())
        for team in group.teams
    ]
    measures = " ".join(measure.key for measure in MEASURES)
    return _csv(f"group arm replicate n_aars research_h n_submissions n_verified {measures}", rows)


def differences_csv(view: CampaignView) -> str:
    return comparison_differences_csv(compare_arms(view))


def comparison_differences_csv(comparison: Comparison | None) -> str:
    rows = [
        {"measure": key, **found._asdict()}
        for key, differences in (comparison.differences if comparison else {}).items()
        for found in differences
    ]
    return _csv(
        "measure a b n_a n_b value low high p_welch p_permutation p_floor exact p_holm", rows
    )


def transfer_csv(view: CampaignView) -> str:
    found = transfer(view)
    rows = [
        {
            "aar": row.method.aar,
            "role": row.method.role,
            "method": row.method.name,
            "short": row.method.short,
            "snapshot": row.method.snapshot,
            "task": column.task.name,
            "pair": column.task.pair,
            "held_out": column.held_out,
            **_interval("selection", cell.estimate if cell else None),
            "accuracy": cell.accuracy if cell else None,
        }
        for row in found.rows
        for column, cell in zip(found.columns, row.cells, strict=True)
    ]
    return _csv(
        "aar role method short snapshot task pair held_out selection_pgr selection_stderr "
        "selection_low selection_high accuracy",
        rows,
    )


SPREADSHEETS: dict[str, Callable[[CampaignView], str]] = {
    "submissions.csv": submissions_csv,
    "leaderboard.csv": leaderboard_csv,
    "apart.csv": apart_csv,
    "methods.csv": methods_csv,
    "spend.csv": spend_csv,
    "ideas.csv": ideas_csv,
    "diversity.csv": diversity_csv,
    "teams.csv": teams_csv,
    "differences.csv": differences_csv,
    "transfer.csv": transfer_csv,
}


def _method(view: CampaignView, method: Method) -> dict[str, Any]:
    verified, permuted, drop = method.verified, method.ablated, view.drop(method)
    return {
        "aar": method.aar,
        "role": method.role,
        "method": method.name,
        "short": method.short,
        "direction": method.direction,
        "snapshot": method.snapshot,
        "n_submissions": len(method.submissions),
        **_interval("search", method.search),
        **_interval("selection", verified),
        "optimism": drop.method.drop if drop else None,
        "optimism_less_vanilla": drop.value if drop and drop.vanilla else None,
        "n_rows": verified.n_rows if verified else None,
        "n_seeds": verified.n_seeds if verified else None,
        "permuted_pgr": permuted.value if permuted else None,
        "permuted_low": permuted.low if permuted else None,
        "permuted_high": permuted.high if permuted else None,
        "teacher_contribution": method.contribution,
        "against_best_guard": view.guard_verdict(method),
        "seconds": method.selection.seconds if method.selection else None,
        "isolation": method.isolation,
        "delivery": method.selection.delivery if method.selection else None,
        "open_because": method.open_because or None,
        "apart_because": method.apart_because or None,
        "stamps": "; ".join(method.stamps) or None,
    }


def _interval(prefix: str, estimate: Interval | None) -> dict[str, float | None]:
    return {
        f"{prefix}_pgr": estimate.value if estimate else None,
        f"{prefix}_stderr": estimate.stderr if estimate else None,
        f"{prefix}_low": estimate.low if estimate else None,
        f"{prefix}_high": estimate.high if estimate else None,
    }


def _csv(header: str, rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, header.split(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


DIGITS = 6


def summary_of(view: CampaignView) -> dict[str, Any]:
    """Return the summary of a campaign; `verdict` is the result in one sentence.

    Accuracies are of the selection split, or of search if selection has no baseline. `aars` and
    `submissions` count AARs alone. `methods` also lists the baselines' methods, under the names of
    their records. What was not measured is null. `open` methods stand after the others: they have
    no rank. `delivery_note` says that all methods of the task were verified with texts. `in_words`
    has what was found as pairs of what a sentence is about and the sentence.
    """
    search, selection = view.baseline("search"), view.baseline("selection")
    baseline, task = selection or search, view.task
    seeds = sorted({s for m in view.standing if m.selection for s in m.selection.run_seeds})
    best = view.ranked[0] if view.ranked else None
    return {
        "campaign": view.export.campaign,
        **_problem(view),
        "started_at": view.export.started_at,
        "verdict": view.verdict,
        "delivery_note": view.one_table_note or None,
        "task": task.name if task else None,
        "pair": task.pair if task else None,
        "weak_acc": _rounded(baseline.weak) if baseline else None,
        "ceiling_acc": _rounded(baseline.ceiling) if baseline else None,
        "n_search": search.n_rows if search else (task.n_search if task else 0),
        "n_selection": selection.n_rows if selection else None,
        "aars": len(view.aars),
        "ending": view.export.ending.value if view.export.ending else None,
        "given_up": {
            each.aar: each.why for each in view.export.endings if each.ending is Ending.GIVEN_UP
        },
        "submissions": len(view.submissions),
        "methods": [_method_summary(view, method) for method in view.methods],
        "seconds": _rounded(view.export.wall_s),
        "isolated": view.isolated,
        "head": view.export.head.model_dump(),
        "seeds": {
            "teacher": list(task.teacher_seeds) if task else [],
            "verification": seeds,
            "weak_baseline": baseline.weak_seeds if baseline else 0,
            "ceiling_baseline": baseline.ceiling_seeds if baseline else 0,
        },
        "best": _method_summary(view, best) if best else None,
        "headline": _headline(view),
        "label_free": _label_free(selection),
        "human": _method_summary(view, view.best_human) if view.best_human else None,
        "elsewhere": [_elsewhere(one) for one in closing.elsewhere(view)],
        "kept_out": [_kept_out(one) for one in closing.kept_out(view)],
        "in_words": [list(said) for said in closing.in_words(view)],
    }


def _label_free(baseline: BaselineAccuracy | None) -> dict[str, Any] | None:
    """Return what the strong model has when it is asked directly; None where it was not measured.

    `pgr` is null where its rows have no clear gap.
    """
    found = baseline.label_free if baseline else None
    if found is None:
        return None
    pgr = _estimate(found.pgr)
    return {"accuracy": _rounded(found.accuracy), "n_rows": found.n_rows, "pgr": pgr}


def _elsewhere(found: closing.Elsewhere) -> dict[str, Any]:
    """Return the figures of a held-out task: of the best methods and the best by hand."""
    both = [*found.best, *([found.human] if found.human else [])]
    return {
        "task": found.task,
        "methods": [
            {"short": m.short, "role": m.role, "rank": m.rank, "selection": _estimate(figure)}
            for m, figure in both
        ],
    }


def _kept_out(found: closing.KeptOut) -> dict[str, Any]:
    """Return a method that did not get through, with what it scored and why it was stopped."""
    method = found.method
    return {
        "short": method.short,
        "name": method.name,
        "aar": method.aar,
        "search": _estimate(method.search),
        "selection": _estimate(method.verified),
        "permuted": _estimate(method.ablated),
        "would_rank": found.would_rank,
        "apart": method.apart,
        "suspected_by": list(method.suspected),
        "error": found.error or None,
        "reasons": list(found.reasons),
    }


def _problem(view: CampaignView) -> dict[str, str]:
    """Return the research problem and the name of what is called `pgr` in a summary and in CSV.

    Nothing for weak-to-strong, whose figure is PGR.
    """
    if view.problem == WEAK_TO_STRONG:
        return {}
    return {"problem": view.problem.name, "figure": view.problem.figure}


def _headline(view: CampaignView) -> dict[str, Any] | None:
    """Return the figure to quote of the best method; `kind` is certify, shrunk or plain."""
    found = view.headline
    if found is None:
        return None
    return {**(_estimate(found.estimate) or {}), "kind": found.kind, "of": found.n_compared}


def _method_summary(view: CampaignView, method: Method) -> dict[str, Any]:
    verdict = view.guard_verdict(method)
    return {
        "name": method.name,
        "short": method.short,
        "rank": method.rank,
        "aar": method.aar,
        "role": method.role,
        "search": _estimate(method.search),
        "selection": _estimate(method.verified),
        "ablation": _ablation(method),
        "beats_best_guard": None if verdict is None else verdict == "above",
        "seconds": _rounded(method.selection.seconds) if method.selection else None,
        "flags": {a.kind: a.severity for a in method.flags},
        "verdict": method.decision,
        "isolated": is_isolated(method.isolation),
        "delivery": method.selection.delivery if method.selection else None,
        "apart": method.apart,
        "apart_because": method.apart_because or None,
        "open_because": method.open_because or None,
        "stamps": list(method.stamps),
    }


def _ablation(method: Method) -> dict[str, Any] | None:
    """Return the ablation; `teacher_contribution` is null if PGR is not clearly above 0."""
    if method.verified is None or method.ablated is None:
        return None
    contribution = method.contribution
    return {
        "permuted": _estimate(method.ablated),
        "teacher_contribution": None if contribution is None else _rounded(contribution),
    }


def _estimate(estimate: Interval | None) -> dict[str, float | int] | None:
    if estimate is None:
        return None
    return {
        "pgr": _rounded(estimate.value),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "seeds": estimate.n_seeds,
    }


def _rounded(value: float) -> float:
    return round(value, DIGITS)

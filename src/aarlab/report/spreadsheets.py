"""CSV files: one row per record, raw numbers, empty where nothing was measured.

Covered: text that a spreadsheet would run as a formula is prefixed with an apostrophe.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aarlab.core.ledger import TOKEN_KINDS, device_dollars, dollars_of, dollars_per_hour
from aarlab.core.wire import Interval
from aarlab.report.arms import MEASURES, Comparison, compare_arms
from aarlab.report.idea_data import diversity_by_group, timed_ideas
from aarlab.report.transfer import transfer
from aarlab.report.view import CampaignView, Method, role_of_record

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SPEND_KINDS = ("device_s", *TOKEN_KINDS, "dollars")


def submissions_csv(view: CampaignView) -> str:
    """Every submission of the export, the baselines' too, in time order, on all tasks."""
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
    "stamps"
)


def methods_csv(view: CampaignView) -> str:
    """Every method on the reported task, verified or not, baselines included."""
    return _csv(METHOD_HEADER, [_method(view, method) for method in view.methods])


def leaderboard_csv(view: CampaignView) -> str:
    """Return the report's leaderboard of verified methods as CSV.

    Baselines and methods that a verdict excludes are in their places, without a rank. Open methods
    are in a file of their own.
    """
    return _board_csv(view, open_ones=False)


def open_csv(view: CampaignView) -> str:
    """Return the report's table of open methods as CSV, with a header alone where there is none."""
    return _board_csv(view, open_ones=True)


def _board_csv(view: CampaignView, open_ones: bool) -> str:
    rows = [
        {"rank": method.rank, "verdict": method.decision, **_method(view, method)}
        for method in view.methods
        if method.verified and method.open == open_ones
    ]
    return _csv(f"rank verdict {METHOD_HEADER}", rows)


def spend_csv(view: CampaignView) -> str:
    """`dollars` are those of model calls; `device_dollars` come on top. The operator's own calls
    have rows of their own and are in no AAR's."""
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
    """One row a snapshot of an AAR, in time order."""
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
    """One row a replicate of each arm; empty with one arm."""
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
    "open.csv": open_csv,
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

"""CSV files: one row per record, raw numbers, empty where nothing was measured.

Covered: text that a spreadsheet would run as a formula is prefixed with an apostrophe.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aarlab.core.wire import Interval
from aarlab.report.statistics import dollars_per_hour
from aarlab.report.view import CampaignView, Method, role_of

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SPEND_KINDS = ("device_s", "input_tokens", "output_tokens", "cache_read_tokens", "dollars")


def submissions_csv(view: CampaignView) -> str:
    """Every submission of the export, the baselines' too, in time order, on all tasks."""
    roles = {aar.name: role_of(aar) for aar in view.export.aars}
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
    "aar role method direction snapshot n_submissions search_pgr search_stderr search_low "
    "search_high selection_pgr selection_stderr selection_low selection_high optimism n_rows "
    "n_seeds permuted_pgr permuted_low permuted_high teacher_contribution against_best_guard "
    "seconds isolation"
)


def methods_csv(view: CampaignView) -> str:
    """Every method on the reported task, verified or not, baselines included."""
    return _csv(METHOD_HEADER, [_method(view, method) for method in view.methods])


def leaderboard_csv(view: CampaignView) -> str:
    """Verified methods of AARs, ranked on the selection split."""
    rows = [
        {"rank": rank, **_method(view, method)} for rank, method in enumerate(view.ranked, start=1)
    ]
    return _csv(f"rank {METHOD_HEADER}", rows)


def spend_csv(view: CampaignView) -> str:
    rows = [
        {
            "aar": aar.name,
            "researcher": aar.researcher,
            "arm": aar.arm,
            "research_s": aar.research_s,
            **{kind: aar.spend.get(kind) for kind in SPEND_KINDS},
            "dollars_per_aar_hour": dollars_per_hour(aar.spend.get("dollars"), aar.research_s),
        }
        for aar in view.export.aars
    ]
    kinds = " ".join(SPEND_KINDS)
    return _csv(f"aar researcher arm research_s {kinds} dollars_per_aar_hour", rows)


SPREADSHEETS: dict[str, Callable[[CampaignView], str]] = {
    "submissions.csv": submissions_csv,
    "leaderboard.csv": leaderboard_csv,
    "methods.csv": methods_csv,
    "spend.csv": spend_csv,
}


def _method(view: CampaignView, method: Method) -> dict[str, Any]:
    verified, permuted = method.verified, method.ablated
    return {
        "aar": method.aar,
        "role": method.role,
        "method": method.name,
        "direction": method.direction,
        "snapshot": method.snapshot,
        "n_submissions": len(method.submissions),
        **_interval("search", method.search),
        **_interval("selection", verified),
        "optimism": method.optimism,
        "n_rows": verified.n_rows if verified else None,
        "n_seeds": verified.n_seeds if verified else None,
        "permuted_pgr": permuted.value if permuted else None,
        "permuted_low": permuted.low if permuted else None,
        "permuted_high": permuted.high if permuted else None,
        "teacher_contribution": method.contribution,
        "against_best_guard": view.guard_verdict(method),
        "seconds": method.selection.seconds if method.selection else None,
        "isolation": method.isolation,
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

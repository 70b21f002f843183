"""summary.json: the campaign's key numbers for programs. Its keys are a promise to readers."""

from typing import Any

from aarlab.core.endings import Ending
from aarlab.core.wire import Interval
from aarlab.report.view import CampaignView, Method

DIGITS = 6


def summary_of(view: CampaignView) -> dict[str, Any]:
    """Return the summary of a campaign; `verdict` is the result in one sentence.

    Accuracies are of the selection split, or of search if selection has no baseline. `aars` and
    `submissions` count AARs alone. `methods` also lists the baselines' methods, under the names of
    their records. What was not measured is null. `open` methods stand after the others: they have
    no rank. `delivery_note` says that all methods of the task were verified with texts.
    """
    search, selection = view.baseline("search"), view.baseline("selection")
    baseline, task = selection or search, view.task
    seeds = sorted({s for m in view.standing if m.selection for s in m.selection.run_seeds})
    best = view.ranked[0] if view.ranked else None
    return {
        "campaign": view.export.campaign,
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
        "methods": [_method(view, method) for method in view.methods],
        "seconds": _rounded(view.export.wall_s),
        "isolated": view.isolated,
        "head": view.export.head.model_dump(),
        "seeds": {
            "teacher": list(task.teacher_seeds) if task else [],
            "verification": seeds,
            "weak_baseline": baseline.weak_seeds if baseline else 0,
            "ceiling_baseline": baseline.ceiling_seeds if baseline else 0,
        },
        "best": _method(view, best) if best else None,
        "headline": _headline(view),
    }


def _headline(view: CampaignView) -> dict[str, Any] | None:
    """Return the figure to quote of the best method; `kind` is certify, shrunk or plain."""
    found = view.headline
    if found is None:
        return None
    return {**(_estimate(found.estimate) or {}), "kind": found.kind, "of": found.n_compared}


def _method(view: CampaignView, method: Method) -> dict[str, Any]:
    verdict = view.guard_verdict(method)
    return {
        "name": method.name,
        "short": method.short,
        "rank": method.rank,
        "aar": method.aar,
        "search": _estimate(method.search),
        "selection": _estimate(method.verified),
        "ablation": _ablation(method),
        "beats_best_guard": None if verdict is None else verdict == "above",
        "seconds": _rounded(method.selection.seconds) if method.selection else None,
        "flags": {a.kind: a.severity for a in method.flags},
        "verdict": method.decision,
        "isolated": method.isolation == "bubblewrap",
        "delivery": method.selection.delivery if method.selection else None,
        "open": method.open,
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

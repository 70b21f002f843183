"""Curves, spend, events and verified results of a campaign, for experiment trackers.

A tracker gets one run for the campaign and one below it for each AAR and baseline. An exporter
writes them; those of installed packages are found by entry points.

Covered: while AARs work, there is no figure in what is written that they have not seen themselves:
search scores are the shaped ones that they were shown, and verified results are left out. Events
are those that may leave a campaign (campaign.webhook).
Not covered: texts of AARs. Their method names are in the results of a campaign that ended.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aarlab.core.clock import parse_iso
from aarlab.core.hashing import sha256_hex
from aarlab.core.ledger import HOUR_S, used
from aarlab.core.registry import Registry
from aarlab.core.wire import AarRecord, CampaignExport, Interval, SubmissionRecord
from aarlab.report.data_files import leaderboard_cells
from aarlab.report.view import campaign_view, role_of_record, task_reference

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """Figures at one submission. `step` counts the submissions of the run from 1.

    `research_hours` are those of all AARs together, `own_hours` those of this one.
    """

    step: int
    at: datetime
    research_hours: float
    own_hours: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class Tracked:
    """One run of a tracker. `key` is the same for the same AAR of the same campaign."""

    key: str
    name: str
    params: Mapping[str, str]
    rows: Sequence[Row]
    totals: Figures
    began: datetime


@dataclass(frozen=True, slots=True)
class Tracking:
    """A campaign as it is written.

    `tables` are cells by name, the first row being the header; `ended` says that it is complete.
    """

    campaign: Tracked
    aars: Sequence[Tracked]
    tables: Mapping[str, Sequence[Sequence[str]]]
    events: Sequence[Mapping[str, Any]]
    ended: bool
    until: datetime


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to write: `where` as the exporter reads it, a project, and whether to send at once."""

    where: str
    project: str
    online: bool = False


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes a campaign into one tracker. `send` returns where to look at it."""

    name: str
    send: Callable[[Tracking, Destination], str]
    folder: str = field(default="tracking")  # of its files in the campaign's folder


EXPORTERS: Registry[Exporter] = Registry(
    "exporter",
    "aarlab.exporters",
    Exporter,
    {"mlflow": "aarlab.report.to_mlflow:EXPORTER", "wandb": "aarlab.report.to_wandb:EXPORTER"},
)


def tracking_of(
    export: CampaignExport, ended: bool, events: Sequence[Mapping[str, Any]] = ()
) -> Tracking:
    """Return what trackers show of a campaign.

    Without `ended` it holds shown scores in place of exact ones, and no verified result.
    """
    began = parse_iso(export.started_at)
    verified = {task.name: _verified(export, task.name) for task in export.tasks if ended}
    headline = {name: value for task in verified for name, value in verified[task][0].items()}
    aars = [
        Tracked(
            key=_key(export, aar.name),
            name=aar.name,
            params=_params(aar),
            rows=_rows(export, [s for s in _sent(export) if s.aar == aar.name], ended),
            totals={
                **_totals(export, [aar]),
                **{
                    k: v
                    for task in verified
                    for k, v in verified[task][1].get(aar.name, {}).items()
                },
            },
            began=parse_iso(aar.started_at) if aar.started_at else began,
        )
        for aar in export.aars
    ]
    team = {aar.name for aar in export.aars if role_of_record(aar) == "aar"}
    whole = Tracked(
        key=_key(export, ""),
        name=export.campaign,
        params=_campaign_params(export, ended),
        rows=_rows(export, [s for s in _sent(export) if s.aar in team], ended),
        totals={**_totals(export, export.aars), **headline},
        began=began,
    )
    tables = {f"verified-{task}": verified[task][2] for task in verified}
    return Tracking(whole, aars, tables, list(events), ended, parse_iso(export.exported_at))


def csv_of(table: Sequence[Sequence[str]]) -> str:
    """Return a table as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def _sent(export: CampaignExport) -> list[SubmissionRecord]:
    return sorted(export.submissions, key=lambda s: (s.at, s.id))


def _key(export: CampaignExport, aar: str) -> str:
    return sha256_hex(f"{export.campaign}\n{export.started_at}\n{aar}")[:24]


def _rows(export: CampaignExport, sent: Sequence[SubmissionRecord], ended: bool) -> list[Row]:
    """Return one row per submission, with the score and the best so far on its task."""
    best: dict[str, float] = {}
    rows = []
    for step, one in enumerate(sent, start=1):
        score = one.exact.value if ended else one.score.pgr
        best[one.task] = max(score, best.get(one.task, score))
        kind = "search_pgr" if ended else "shown_pgr"
        figures = {f"{one.task}/{kind}": score, f"{one.task}/best_{kind}": best[one.task]}
        if ended:
            figures |= _named(f"{one.task}/{kind}", one.exact, value=False)
        at = parse_iso(one.at)
        own = _own_hours(export, one.aar, at)
        rows.append(Row(step, at, one.research_h, own, figures))
    return rows


def _named(name: str, estimate: Interval, value: bool = True) -> Figures:
    bounds = {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {name: estimate.value, **bounds} if value else bounds


def _own_hours(export: CampaignExport, aar: str, until: datetime) -> float:
    """Return the research hours of one AAR up to a time, from its sessions."""
    seconds = 0.0
    for session in export.sessions:
        if session.aar == aar and session.kind == "research":
            seen = min(parse_iso(session.last_seen_at), until)
            seconds += max((seen - parse_iso(session.started_at)).total_seconds(), 0.0)
    return seconds / HOUR_S


def _totals(export: CampaignExport, aars: Sequence[AarRecord]) -> Figures:
    rate = export.budget.device_dollars_per_hour
    each = [used(aar.spend, aar.research_s, rate) for aar in aars]
    total = {f"spend/{kind}": sum(one[kind] for one in each) for kind in (each[0] if each else ())}
    names = {aar.name for aar in aars}
    submissions = sum(one.aar in names for one in export.submissions)
    waiting = sum(aar.waiting_s for aar in aars) / HOUR_S
    return {**total, "spend/waiting_hours": waiting, "submissions": float(submissions)}


def _verified(
    export: CampaignExport, task: str
) -> tuple[Figures, dict[str, Figures], list[list[str]]]:
    """Return the figure to quote on a task, the best verified figures by AAR, and the ranking."""
    view = campaign_view(export, task)
    quoted = view.headline
    whole = _named(f"{task}/{quoted.kind}_pgr", quoted.estimate) if quoted else {}
    best: dict[str, Figures] = {}
    for method in view.methods:
        if method.verified is not None and method.ranks and not method.apart:
            name = f"{task}/selection_pgr"
            if method.aar not in best or best[method.aar][name] < method.verified.value:
                best[method.aar] = _named(name, method.verified)
    return whole, best, leaderboard_cells(view)


def _params(aar: AarRecord) -> dict[str, str]:
    return {
        "researcher": aar.researcher,
        "role": role_of_record(aar),
        "direction": aar.direction[:500],
        "arm": aar.arm,
        "replicate": str(aar.replicate),
        "team": aar.team,
        "isolation": aar.isolation,
    }


def _campaign_params(export: CampaignExport, ended: bool) -> dict[str, str]:
    settings, spec = export.spec.get("settings"), export.spec.get("campaign")
    known = settings if isinstance(settings, dict) else {}
    # No AAR hears of held-out tasks while it works.
    open_ones = spec.get("tasks", ()) if isinstance(spec, dict) else ()
    shown = [task for task in export.tasks if ended or task.name in open_ones]
    return {
        "campaign": export.campaign,
        "started_at": export.started_at,
        "tasks": ", ".join(task_reference(export, task) for task in shown),
        "aars": str(len(export.aars)),
        "aarlab": str(known.get("aarlab", "")),
        "commit": str(known.get("commit", "")),
        "log_head": export.head.hash,
        "scores": "exact search scores" if ended else "shown search scores; the campaign runs",
    }

"""The campaign page, its parts that a script asks for again, and one AAR's page.

It shows who does what, what it has cost, and what needs attention.
"""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.delivery import event_words
from aarlab.core.headline import AAR_IN_WORDS, GUARD_IN_WORDS, verdict
from aarlab.core.ledger import PURPOSES, dollars_of, dollars_per_hour
from aarlab.core.wire import SessionRecord
from aarlab.server.dashboard import activity, run_files
from aarlab.server.dashboard.activity import alerts
from aarlab.server.dashboard.curve import curve, shown_values
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.rendering import Text, page, part, plain, tagged
from aarlab.server.dashboard.session import ViewerDep
from aarlab.store import aars as store_aars

Facts = dict[str, Any]
ORDER = {"language": 0, "control": 1, "human": 2, "guard": 3}


async def campaign_view(tx: AsyncConnection, desk: Desk, operator: bool) -> Facts:
    """Return all of the page except the curve."""
    await desk.memory.refresh(tx)
    sessions = await store_aars.all_sessions(tx, waits=True)  # an AAR that waits is not stuck
    run = desk.platform.settings.run_dir
    events = await asyncio.to_thread(run_files.last_events, run)
    standing = await asyncio.to_thread(run_files.standing, run, events)
    rows = await asyncio.to_thread(_rows, desk, sessions, operator, standing.state)
    for row in rows:
        on = operator and standing.state == "running" and row["ended"] is None
        row["stuck"] = on and row["stuck"]
    shown: list[Facts] = []
    if operator:
        disk = await asyncio.to_thread(run_files.disk, run.path)
        shown = alerts(rows, desk.memory, events, disk)
    return {
        "name": str(run_files.campaign_spec(run).get("name", desk.platform.settings.run.name)),
        "state": standing.state,
        "state_words": standing.words,
        "why": standing.why if operator else "",
        "verdict": await asyncio.to_thread(_verdict, desk, standing.state)
        if await desk.shows_figures(operator)
        else "",
        "words": [desk.problem.in_words, AAR_IN_WORDS, GUARD_IN_WORDS],
        "tasks": desk.tasks(operator=False),
        "aars": rows,
        "arms": sorted({row["arm"] for row in rows if row["role"] in ("language", "control")}),
        "over": standing.state in {ending.value for ending in run_files.ENDED},
        "can_all": _can_all(desk, rows, standing.state),
        "steer_note": _steer_note(desk, rows, standing) if operator else "",
        "alerts": shown,
        "counts": _counts(desk),
        "spend": _spend(desk),
        "events": [_event(e) for e in events[-6:][::-1]] if operator else [],
    }


def _verdict(desk: Desk, state: str) -> str:
    """Return the verdict on the first task.

    Returns "" while the campaign is running and nothing is verified.
    """
    found = desk.memory.standings(desk.tasks(operator=False)[0])
    if not found.board and state == "running":
        return ""
    return verdict(replace(found, problem=desk.problem))


def _rows(desk: Desk, sessions: list[SessionRecord], operator: bool, state: str) -> list[Facts]:
    memory, seen = desk.memory, activity.last_seen(sessions)
    run = desk.platform.settings.run_dir
    task, made = desk.tasks(operator=False)[0], dict[str, int]()
    newest, best = {}, dict[str, float]()
    for place, sent in enumerate(memory.sent):
        made[sent.aar] = made.get(sent.aar, 0) + 1
        newest[sent.aar] = sent
        if operator and place >= len(desk.exact):
            continue  # counted in a moment; a shown score among exact ones would be another figure
        value = desk.exact.values[place] if operator else sent.shown
        if sent.task == task and value == value:
            best[sent.aar] = max(best.get(sent.aar, value), value)
    rows, roles = [], memory.roles()
    for aar in memory.aars.values():
        shares = activity.budget(aar, memory, made.get(aar.name, 0))
        all_asked = memory.wanted.get("", "run")
        asked = memory.wanted.get(aar.name, all_asked)
        entry = desk.transcripts.last(aar.name) if operator else None
        ended = run_files.aar_ending(run, aar.name) if operator else None
        can, why = activity.steering(roles[aar.name], asked, all_asked, ended, state)
        nothing: Facts = {"at": None, "tool": None, "text": ""}
        rows.append(
            {
                "name": aar.name,
                "role": roles[aar.name],
                "researcher": aar.researcher,
                "direction": aar.direction,
                "arm": aar.arm,
                "isolation": aar.isolation,
                "seen": seen.get(aar.name),
                "doing": activity.doing(entry, newest.get(aar.name)) if operator else nothing,
                "budget": shares,
                "submissions": made.get(aar.name, 0),
                "best": best.get(aar.name),
                "wanted": asked,
                "ended": ended.model_dump(mode="json") | {"words": ended.words} if ended else None,
                "can": can if operator else [],
                "pausing": next((c for c in can if c in ("pause", "resume")), "")
                if operator
                else "",
                "can_note": why if operator else "",
                "transcript": operator and entry is not None,
                "stuck": activity.is_stuck(aar, seen.get(aar.name), shares, asked),
            }
        )
    return sorted(rows, key=lambda row: ORDER[row["role"]])


def _can_all(desk: Desk, rows: list[Facts], state: str) -> str:
    """Return "pause" or "resume", whichever can be asked of all AARs at once; "" if neither can."""
    if state != "running":
        return ""
    if desk.memory.wanted.get("", "run") == "pause":
        return "resume"
    return "pause" if any("pause" in row["can"] for row in rows) else ""


def _steer_note(desk: Desk, rows: list[Facts], standing: run_files.Standing) -> str:
    """Say why AARs cannot be paused here, or when that counts; "" if there is nothing to say."""
    if not any(row["role"] in ("language", "control") for row in rows):
        return ""
    if not any(row["pausing"] for row in rows):
        if desk.memory.wanted.get("", "run") == "pause" and standing.state == "running":
            return "All AARs are paused together, so none is resumed by itself: resume all."
        ended = standing.state in {ending.value for ending in run_files.ENDED}
        why = f"the campaign has ended ({standing.words})" if ended else "every AAR has ended"
        return f"No AAR can be paused or stopped any more: {why}."
    if standing.state == "running":
        return ""
    return f"The campaign is not running ({standing.words}). A pause takes effect on resume."


def _counts(desk: Desk) -> Facts:
    runs = desk.memory.runs.values()
    return {
        "submissions": len(desk.memory.sent),
        "snapshots": len(desk.memory.snaps),
        "re-runs done": sum(run.state == "done" for run in runs),
        "re-runs waiting": sum(run.state == "queued" for run in runs) - desk.memory.n_at_work,
        "re-runs in pods": desk.memory.n_at_work,
    }


def _spend(desk: Desk) -> Facts:
    """Return sums over all AARs, against the campaign's cap, else those of its AARs."""
    totals: Facts = {}
    for mine in desk.memory.spend.values():
        for kind, amount in mine.items():
            totals[kind] = totals.get(kind, 0.0) + amount
    budget = desk.memory.budget
    own = [aar.limits.dollars for aar in desk.memory.aars.values() if aar.limits.dollars]
    research_s = sum(desk.memory.research_s.values())
    dollars = dollars_of(totals, budget.device_dollars_per_hour)
    return {
        "totals": totals,
        "dollars": dollars,
        "dollar_cap": budget.limits.dollars or sum(own) or None,
        "dollars_per_hour": dollars_per_hour(dollars, research_s),
        "research_hours": research_s / 3600,
        "hour_cap": budget.limits.hours,
        "operator": _operator_spend(desk),
    }


def _operator_spend(desk: Desk) -> list[Facts]:
    """Return the dollars of the operator's own model calls by purpose.

    They are not part of any AAR's spend.
    """
    dollars: dict[str, float] = {}
    for spend in desk.memory.operator_spend:
        dollars[spend.purpose] = dollars.get(spend.purpose, 0.0) + spend.dollars
    policy = run_files.campaign_spec(desk.platform.settings.run_dir).get("verify") or {}
    caps = {"review": policy.get("review_dollars")}
    return [
        {"what": PURPOSES[purpose], "dollars": amount, "cap": caps.get(purpose)}
        for purpose, amount in dollars.items()
    ]


def _event(event: Facts) -> Facts:
    rest = {name: fact for name, fact in event.items() if name not in ("at", "kind")}
    return {"at": event["at"], "kind": event["kind"], "text": event_words(rest)[:200]}


async def curves(tx: AsyncConnection, desk: Desk, operator: bool, task: str | None) -> Facts:
    """Return the curve of one development task; of the first one if none is named."""
    await desk.memory.refresh(tx)
    tasks = desk.tasks(operator=False)
    chosen = task if task in tasks else tasks[0]
    sessions = await store_aars.all_sessions(tx)
    values = desk.exact.values if operator else shown_values(desk.memory.sent)
    if operator:
        desk.exact.wake()
    drawn = await asyncio.to_thread(curve, desk.memory, values, sessions, chosen)
    waiting = len(desk.memory.sent) - len(values)
    return {**drawn, "tasks": tasks, "exact": operator, "waiting": waiting}


router = APIRouter(include_in_schema=False)


@router.get("/")
async def campaign(
    request: Request, desk: DeskDep, viewer: ViewerDep, task: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await campaign_view(tx, desk, viewer.operator)
        drawn = await curves(tx, desk, viewer.operator, task)
    return page(request, viewer, "campaign", {**facts, "curve": drawn})


@router.get("/live/campaign")
async def live_campaign(request: Request, desk: DeskDep, viewer: ViewerDep) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await campaign_view(tx, desk, viewer.operator)
    return part(request, viewer, "campaign", facts)


@router.get("/live/curve")
async def live_curve(
    request: Request, desk: DeskDep, viewer: ViewerDep, task: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        drawn = await curves(tx, desk, viewer.operator, task)
    return tagged(request, await asyncio.to_thread(JSONResponse, plain(drawn)))

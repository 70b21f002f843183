"""The page of one method, and the verdict form.

It shows where the method came from, what was found about it, and what was decided.
"""

import asyncio
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.delivery import BEFORE_BLIND, TRAINED_ON, given
from aarlab.core.errors import BadInput, Conflict
from aarlab.core.wire import Audit, NewVerdict, Verdict, Verification
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.curve import axis_of, bar
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.pages import board
from aarlab.server.dashboard.rendering import FormDep, Text, form_key, go_to, page
from aarlab.server.dashboard.session import OperatorViewer, ViewerDep
from aarlab.server.dashboard.side_by_side import side_by_side
from aarlab.server.service.snapshots import content
from aarlab.server.service.verifications import record_verdict
from aarlab.server.writes import write_once, writing
from aarlab.store import overview, snapshots, verifications
from aarlab.store.snapshots import Contents, contents

Facts = dict[str, Any]
# What a share link does not show while the campaign runs: a verdict's reason may name a figure.
WITHHELD: Facts = {"standing": [], "runs": [], "audits": [], "verdicts": [], "withheld": True}
LED_TO, EXCERPT_BEFORE, EXCERPT_AFTER = 5, 5, 3


async def method_view(tx: AsyncConnection, desk: Desk, snapshot: str, operator: bool) -> Facts:
    """Return all of the page except its code and the transcript. Raises NotFound."""
    this = await snapshots.get(tx, snapshot)
    await desk.memory.refresh(tx)
    line = await snapshots.lineage(tx, snapshot)
    author = desk.memory.aars.get(this.aar)
    runs = await _runs(tx, desk, this.id, operator)
    cited = [s.id for s in (this, *line.ancestors)]
    return {
        "snapshot": this.model_dump(exclude={"same_as"}),
        "short": desk.memory.names[this.id],
        "same_as": [_snap(desk, one) for one in this.same_as],
        "direction": author.direction if author else "",
        "family": desk.families.of(this.id),
        "role": desk.memory.roles().get(this.aar, "language"),
        "ancestors": [_snap(desk, s.id) for s in line.ancestors],
        "children": [_snap(desk, s.id) for s in line.children],
        "vanilla": vanilla(desk, this.id),
        "standing": _standing(desk, this.id, operator),
        "runs": runs,
        "audits": await _audits(tx, desk, this.id, this.aar, operator),
        "verdicts": [v.model_dump() for v in desk.memory.verdicts_of.get(this.id, [])[::-1]],
        "led_to": [p._asdict() for p in await overview.posts_before(tx, this.aar, this.at, LED_TO)],
        "cited_by": [p._asdict() for p in await overview.posts_about(tx, cited)],
        "submissions": _submissions(desk, this.id, operator),
        "withheld": False,
    }


def vanilla(desk: Desk, but: str) -> Facts | None:
    """Return the plain baseline to compare with: the first hand-tuned snapshot called vanilla."""
    roles = desk.memory.roles()
    for snap in desk.memory.snaps.values():
        if snap.name == "vanilla" and roles.get(snap.aar) == "human" and snap.id != but:
            return _snap(desk, snap.id)
    return None


def _snap(desk: Desk, snapshot: str) -> Facts:
    known = desk.memory.snaps[snapshot]
    short = desk.memory.names[snapshot]
    return {"id": known.id, "short": short, "name": known.name, "aar": known.aar, "at": known.at}


def _standing(desk: Desk, snapshot: str, operator: bool) -> list[Facts]:
    """Return the method's lines of the leaderboard."""
    wanted = desk.tasks(operator)
    ranked = {(e.task, e.snapshot): e.rank for e in desk.memory.board(wanted, ranked_only=True)}
    found = [e for e in desk.memory.board(wanted, ranked_only=False) if e.snapshot == snapshot]
    guards = board.best_guards(desk, wanted)
    axis = axis_of(v for e in found for v in (e.low, e.high))
    return [
        {
            **e.model_dump(),
            "rank": ranked.get((e.task, e.snapshot)),
            "of": sum(task == e.task and rank is not None for (task, _), rank in ranked.items()),
            "search": board.search_score(desk, snapshot, e.task, operator),
            "unranked": board.unranked(desk, e, ranked.get((e.task, e.snapshot))),
            "contribution": desk.memory.contribution(snapshot, e.task),
            "against_guard": board.against_guard(desk, e),
            "guard": g.short if (g := guards.get(e.task)) else "",
            "bar": bar(axis, e.pgr, e.low, e.high),
        }
        for e in found
    ]


async def _runs(tx: AsyncConnection, desk: Desk, snapshot: str, operator: bool) -> list[Facts]:
    """Return re-runs with bars on one axis.

    Evidence is for the operator, since it quotes hidden rows.
    """
    full = await overview.runs_numbered(tx, desk.memory.runs_of.get(snapshot, []))
    dev = set(desk.tasks(operator=False))
    seen = [v for v in full if operator or (v.task in dev and v.split == "selection")]
    known = [v.estimate for v in seen if v.estimate is not None]
    axis = axis_of(value for e in known for value in (e.low, e.high))
    rows = []
    for v in sorted(seen, key=lambda v: (v.task, v.split, list(TRAINED_ON).index(v.ablation))):
        facts = _run(v, operator)
        if v.estimate is not None:
            facts["bar"] = bar(axis, v.estimate.value, v.estimate.low, v.estimate.high)
            facts["zero"], facts["one"] = axis.x(0.0), axis.x(1.0)
        if operator and v.estimate is not None:
            values = await desk.exact.per_seed(v.id, v.task, v.split)
            seeds = zip(sorted(v.run_seeds), values, strict=False)
            facts["per_seed"] = [{"seed": s, "pgr": p, "x": axis.x(p)} for s, p in seeds]
        rows.append(facts)
    return rows


def _run(v: Verification, operator: bool) -> Facts:
    shown = v.model_dump(include={"id", "task", "split", "ablation", "state", "isolation", "at"})
    estimate = v.estimate
    return {
        **shown,
        "labels": TRAINED_ON[v.ablation],
        "given": _given(v),
        "estimate": None if estimate is None else _rounded(estimate.model_dump(), operator),
        "n_seeds": len(v.run_seeds),
        "seconds": v.seconds,
        "error": v.error if operator else "",
        "evidence": v.evidence.model_dump() if operator and v.evidence else None,
        "bar": None,
        "per_seed": [],
    }


def _given(v: Verification) -> str:
    """Return what the run was given; empty for one from before blind verification.

    The page says that once.
    """
    return "" if v.state == "queued" or (said := given(v)) == BEFORE_BLIND else said


def _rounded(estimate: Facts, operator: bool) -> Facts:
    """Return the figures as the leaderboard shows them to a share link."""
    if operator:
        return estimate
    shown = {name: round(estimate[name], 2) for name in ("value", "low", "high")}
    return {**shown, "n_seeds": estimate["n_seeds"]}


async def _audits(
    tx: AsyncConnection, desk: Desk, snapshot: str, aar: str, operator: bool
) -> list[Facts]:
    """Return the audits, gravest first.

    Findings about the AAR belong to each of its methods.
    """
    memory = desk.memory
    numbers = list(memory.audits_of.get(snapshot, []))
    numbers += [
        seq
        for seq in memory.audits_of.get("", [])
        if memory.audits[seq].aar == aar and memory.audits[seq].kind in ("forensics", "transcript")
    ]
    found = (await overview.audits_numbered(tx, numbers)).values()
    dev = set(desk.tasks(operator=False))
    seen = [a for a in found if operator or a.task is None or a.task in dev]
    return [_audit(a, operator) for a in sorted(seen, key=lambda a: board.GRAVITY[a.severity])]


def _audit(audit: Audit, operator: bool) -> Facts:
    if operator:
        return audit.model_dump()
    return {**audit.model_dump(include={"id", "kind", "severity", "task", "at"}), "summary": ""}


def _submissions(desk: Desk, snapshot: str, operator: bool) -> list[Facts]:
    """Return what its AAR submitted with it: claims, as scored on search."""
    rows = []
    for place in desk.memory.sent_of.get(snapshot, []):
        sent = desk.memory.sent[place]
        exact = operator and place < len(desk.exact)
        value = float(desk.exact.values[place]) if exact else None
        rows.append(
            {
                "id": sent.id,
                "task": sent.task,
                "at": sent.at,
                "shown": sent.shown,
                "improved": sent.improved,
                "exact": None if value is None or value != value else round(value, 3),
            }
        )
    return rows


async def excerpt(desk: Desk, aar: str, at: str) -> Facts | None:
    """Return what the AAR said and did around a time; None without a transcript."""
    if not desk.transcripts.exists(aar):
        return None
    middle = await desk.transcripts.line_at(aar, at)
    first = max(middle - EXCERPT_BEFORE, 0)
    entries, _ = await desk.transcripts.page(aar, first, EXCERPT_BEFORE + EXCERPT_AFTER)
    return {"aar": aar, "first": first, "entries": [entry.model_dump() for entry in entries]}


router = APIRouter(include_in_schema=False)
BACK = ("/audits", "/leaderboard")


@router.get("/methods/{snapshot}")
async def method(
    snapshot: str, request: Request, desk: DeskDep, viewer: ViewerDep, against: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await method_view(tx, desk, snapshot, viewer.operator)
    if not await desk.shows_figures(viewer.operator):
        facts |= WITHHELD
    desk.families.wake()
    this = facts["snapshot"]
    base = _base(facts, against)
    facts |= {"against": base, "files": await _compared(desk, this["id"], base)}
    facts["excerpt"] = None
    if viewer.operator:
        facts["excerpt"] = await excerpt(desk, this["aar"], this["at"])
    facts |= {"key": secrets.token_hex(16), "seen": _seen(facts["verdicts"])}
    return page(request, viewer, "method", facts)


def _base(facts: Facts, against: str | None) -> Facts | None:
    """Return what to compare with: what was asked for, else the parent, else vanilla, else None."""
    known: dict[str, Facts] = {s["id"]: s for s in facts["ancestors"]}
    parent = next(iter(known.values()), None)
    plain: Facts | None = facts["vanilla"]
    if plain is not None:
        known.setdefault(plain["id"], plain)
    if against == "nothing":
        return None
    if against == "vanilla" and plain is not None:
        return plain
    return known.get(against or "", parent or plain)


async def _compared(desk: Desk, new: str, base: Facts | None) -> list[Facts]:
    after = contents((await content(desk.platform, new)).files)
    before: Contents = {}
    if base is not None:
        before = contents((await content(desk.platform, base["id"])).files)
    return await asyncio.to_thread(side_by_side, before, after)


def _seen(verdicts: list[Facts]) -> str:
    """Return the newest verdict that the page shows.

    A form must not overrule a verdict that it did not show.
    """
    return str(verdicts[0]["id"]) if verdicts else ""


@router.post("/methods/{snapshot}/verdict")
async def give_verdict(
    snapshot: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """Record a person's decision, as the API does. Raises Conflict if another came first."""
    given = {name: form.get(name, "") for name in ("decision", "reason", "by")}
    try:
        new = NewVerdict.model_validate({"snapshot": snapshot, **given})
    except ValidationError:
        raise BadInput("a verdict needs a decision, a reason and your name") from None

    async def act(tx: AsyncConnection) -> Verdict:
        latest = (await verifications.standing_verdicts(tx)).get(snapshot, [])
        if latest and latest[-1].id != form.get("seen", ""):
            raise Conflict(
                f"{latest[-1].by} gave a verdict ({latest[-1].decision}) after you opened this "
                "page: open it again, read the reason, then decide"
            )
        return await record_verdict(tx, new)

    await write_once(writing(desk.platform, OPERATOR, form_key(form), request, new), Verdict, act)
    back = form.get("back", "")
    return go_to(viewer, back if back.startswith(BACK) else f"/methods/{snapshot}")

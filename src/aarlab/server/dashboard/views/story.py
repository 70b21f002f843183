"""The story of one method: where it came from, what was found about it, what was decided."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.delivery import BEFORE_BLIND, given
from aarlab.core.wire import Audit, Verification
from aarlab.server.dashboard.desk import Desk
from aarlab.server.dashboard.intervals import axis_of, bar
from aarlab.server.dashboard.views import board
from aarlab.store import lineage, overview, snapshots

Facts = dict[str, Any]
# What a share link does not show while the campaign goes on: a verdict's reason may name a figure.
WITHHELD: Facts = {"standing": [], "runs": [], "audits": [], "verdicts": [], "withheld": True}
LED_TO, EXCERPT_BEFORE, EXCERPT_AFTER = 5, 5, 3
ABLATIONS = {
    "none": "the teacher's labels",
    "permuted": "permuted labels",
    "noise": "random labels",
    "flipped": "flipped labels",
}


async def method(tx: AsyncConnection, desk: Desk, snapshot: str, operator: bool) -> Facts:
    """All of the page but its code and the transcript; raises NotFound."""
    this = await snapshots.get(tx, snapshot)
    await desk.memory.refresh(tx)
    line = await lineage.lineage(tx, snapshot)
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
    """The plain baseline, to compare with: the first hand-tuned snapshot called vanilla."""
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
    """Its lines of the leaderboard."""
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
    """Re-runs with bars on one axis; evidence is for the operator, it quotes hidden rows."""
    full = await overview.runs_numbered(tx, desk.memory.runs_of.get(snapshot, []))
    dev = set(desk.tasks(operator=False))
    seen = [v for v in full if operator or (v.task in dev and v.split == "selection")]
    known = [v.estimate for v in seen if v.estimate is not None]
    axis = axis_of(value for e in known for value in (e.low, e.high))
    rows = []
    for v in sorted(seen, key=lambda v: (v.task, v.split, list(ABLATIONS).index(v.ablation))):
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
        "labels": ABLATIONS[v.ablation],
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
    """Empty for a run from before blind verification: the page says that once."""
    return "" if v.state == "queued" or (said := given(v)) == BEFORE_BLIND else said


def _rounded(estimate: Facts, operator: bool) -> Facts:
    """A share link shows figures as the leaderboard does."""
    if operator:
        return estimate
    shown = {name: round(estimate[name], 2) for name in ("value", "low", "high")}
    return {**shown, "n_seeds": estimate["n_seeds"]}


async def _audits(
    tx: AsyncConnection, desk: Desk, snapshot: str, aar: str, operator: bool
) -> list[Facts]:
    """Gravest first; forensics are about the AAR, so they belong to each of its methods."""
    memory = desk.memory
    numbers = list(memory.audits_of.get(snapshot, []))
    numbers += [
        seq
        for seq in memory.audits_of.get("", [])
        if memory.audits[seq].aar == aar and memory.audits[seq].kind == "forensics"
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
    """What its AAR sent in with it: claims, as scored on search."""
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
    """What the AAR said and did around a time; None without a transcript."""
    if not desk.transcripts.exists(aar):
        return None
    middle = await desk.transcripts.line_at(aar, at)
    first = max(middle - EXCERPT_BEFORE, 0)
    entries, _ = await desk.transcripts.page(aar, first, EXCERPT_BEFORE + EXCERPT_AFTER)
    return {"aar": aar, "first": first, "entries": [entry.model_dump() for entry in entries]}

"""What each page shows, as plain data: the same for HTML and JSON."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire import Audit, Verification
from aarlab.server.platform import Platform
from aarlab.store import aars, audits, forum, lineage, log, snapshots, verifications

Facts = dict[str, Any]
GRAVITY = {"suspect": 0, "note": 1, "clear": 2}
LOG_PAGE = 100


async def campaign(tx: AsyncConnection, platform: Platform) -> Facts:
    """AARs with their time, spend and limits; how much there is of everything; what to look at."""
    found, runs = await audits.all_audits(tx), await verifications.in_state(tx)
    made = await snapshots.all_snapshots(tx)
    decided = {v.snapshot for v in await audits.all_verdicts(tx)}
    open_suspects = {a.snapshot for a in found if a.severity == "suspect"} - decided - {None}
    return {
        "tasks": platform.settings.tasks or platform.scorer.tasks(),
        "aars": [record.model_dump() for record in await aars.all_records(tx)],
        "counts": {
            "snapshots": len(made),
            "verifications": sum(v.state == "done" for v in runs),
            "waiting for the verifier": sum(v.state == "queued" for v in runs),
            "failed verifications": sum(v.state == "failed" for v in runs),
            "audit findings": len(found),
            "suspect methods without a verdict": len(open_suspects),
        },
    }


async def leaderboard(tx: AsyncConnection, platform: Platform) -> Facts:
    """Verified methods of every task, held-out ones too, with what the audits say."""
    runs, tasks = await verifications.in_state(tx, "done"), platform.scorer.tasks()
    found = await audits.all_audits(tx)
    latest = {v.snapshot: v.decision for v in await audits.all_verdicts(tx)}
    entries = verifications.leaderboard(runs, tasks, await audits.unranked(tx))
    ranked = {(e.task, e.snapshot) for e in entries}
    out = [e for e in verifications.leaderboard(runs, tasks) if (e.task, e.snapshot) not in ranked]
    return {
        "entries": [
            {
                **e.model_dump(),
                "rank": e.rank if (e.task, e.snapshot) in ranked else None,
                "audited": any(a.snapshot == e.snapshot for a in found),
                "flags": flags(found, e.snapshot),
                "contribution": contribution(found, e.snapshot, e.task),
                "verdict": latest.get(e.snapshot),
            }
            for e in [*entries, *out]
        ]
    }


def flags(found: list[Audit], snapshot: str) -> list[Facts]:
    mine = [a for a in found if a.snapshot == snapshot and a.severity != "clear"]
    mine.sort(key=lambda a: GRAVITY[a.severity])
    return [{"kind": a.kind, "severity": a.severity} for a in mine]


def contribution(found: list[Audit], snapshot: str, task: str) -> float | None:
    for a in found:
        if (a.kind, a.snapshot, a.task) == ("ablation", snapshot, task):
            value = a.facts.get("teacher_contribution")
            return round(value, 2) if isinstance(value, float) else None
    return None


async def method(tx: AsyncConnection, snapshot: str) -> Facts:
    """The story of one snapshot; raises NotFound."""
    this = await snapshots.get(tx, snapshot)
    line = await lineage.lineage(tx, snapshot)
    runs = [v for v in await verifications.in_state(tx) if v.snapshot == this.id]
    author = await aars.get(tx, this.aar)
    found = await audits.all_audits(tx)
    mine = [a for a in found if a.snapshot == this.id]
    mine += [a for a in found if a.kind == "forensics" and a.aar == this.aar]
    posts, decided = await forum.all_findings(tx), await audits.all_verdicts(tx)
    return {
        "snapshot": this.model_dump(),
        "direction": author.direction if author else "",
        "ancestors": [s.model_dump() for s in line.ancestors],
        "children": [s.model_dump() for s in line.children],
        "runs": [_run(v) for v in runs],
        "audits": [a.model_dump() for a in sorted(mine, key=lambda a: GRAVITY[a.severity])],
        "verdicts": [v.model_dump() for v in decided if v.snapshot == this.id],
        "findings": [
            {"id": p.id, "title": p.title, "author": p.author, "kind": p.kind, "at": p.at}
            for p in posts
            if p.snapshot == this.id
        ],
    }


def _run(v: Verification) -> Facts:
    """One re-run; bars are drawn from `share`, where PGR 0 to 1 is 0 to 100."""
    value = v.estimate.value if v.estimate else 0.0
    facts = v.model_dump(exclude={"snapshot", "aar", "method"})
    return {**facts, "share": round(100 * min(max(value, 0.0), 1.0))}


async def audit_queue(tx: AsyncConnection, severity: str | None) -> Facts:
    """Findings, the gravest and oldest first, with the verdict where there is one."""
    names = {s.id: s.name for s in await snapshots.all_snapshots(tx)}
    latest = {v.snapshot: v.decision for v in await audits.all_verdicts(tx)}
    found = [a for a in await audits.all_audits(tx) if severity in (None, a.severity)]
    found.sort(key=lambda a: (GRAVITY[a.severity], (a.snapshot or "") in latest))
    return {
        "audits": [
            {
                **a.model_dump(),
                "method": names.get(a.snapshot or ""),
                "verdict": latest.get(a.snapshot or ""),
            }
            for a in found
        ]
    }


async def log_page(tx: AsyncConnection, before: int | None) -> Facts:
    """Entries, newest first, a page at a time."""
    head = await log.head(tx)
    last = head.seq if before is None else min(before - 1, head.seq)
    entries = await log.entries(tx, max(last - LOG_PAGE, 0), LOG_PAGE)
    shown = [e.model_dump() for e in reversed(entries) if e.seq <= last]
    older = shown[-1]["seq"] if shown and shown[-1]["seq"] > 1 else None
    return {"head": head.model_dump(), "entries": shown, "older": older}

"""One AAR, for the operator."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import NotFound
from aarlab.core.ranking import RunKey, first_runs
from aarlab.core.wire_service import FindingQuery
from aarlab.server.dashboard.desk import Desk
from aarlab.server.dashboard.views.campaign import campaign
from aarlab.store import controls, forum

Facts = dict[str, Any]
SHOWN = 15


async def aar_facts(tx: AsyncConnection, desk: Desk, name: str) -> Facts:
    """Raises NotFound for an unknown AAR."""
    whole = await campaign(tx, desk, operator=True)
    row = next((row for row in whole["aars"] if row["name"] == name), None)
    if row is None:
        raise NotFound(f"no AAR {name[:64]!r} in this campaign")
    posts = await forum.page(tx, FindingQuery(author=name, sort="new", limit=SHOWN))
    asked = await controls.listed(tx, name)
    return {
        "aar": row,
        "limits": desk.memory.aars[name].limits.model_dump(),
        "controls": [c.model_dump() for c in asked[::-1][:SHOWN]],
        "findings": [{"id": f.id, "title": f.title, "at": f.at} for f in posts.findings],
        "snapshots": _snapshots(desk, name),
        "spend": desk.memory.spend.get(name, {}),
        "cases": _cases(desk, name),
    }


def _cases(desk: Desk, name: str) -> list[Facts]:
    """What the audits found about its submissions, with the latest verdict on each."""
    memory = desk.memory
    found = [memory.audits[number] for number in memory.audits_of.get("", [])]
    return [
        {**a.model_dump(), "verdict": given[-1].model_dump() if given else None}
        for a in found
        if a.aar == name
        for given in (memory.cases_of.get(a.id),)
    ]


def _snapshots(desk: Desk, name: str) -> list[Facts]:
    """List the AAR's newest snapshots, each with its verified PGR on the first task."""
    mine = [snap for snap in desk.memory.snaps.values() if snap.aar == name][-SHOWN:]
    rows, task = [], desk.tasks(operator=False)[0]
    for snap in reversed(mine):
        first = first_runs(desk.memory.runs_for(snap.id))
        run = first.get(RunKey(task, snap.id, "selection", "none"))
        suspect = any(a.severity == "suspect" for a in desk.memory.audits_for(snap.id))
        rows.append(
            {
                "id": snap.id,
                "short": desk.memory.names[snap.id],
                "name": snap.name,
                "at": snap.at,
                "pgr": run.estimate.value if run and run.estimate else None,
                "suspect": suspect,
                "verdict": desk.memory.decision(snap.id),
            }
        )
    return rows

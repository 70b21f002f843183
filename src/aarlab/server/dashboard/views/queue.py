"""The audit queue: methods (and AARs) with what the audits found, gravest and undecided first."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.ranking import RunKey, first_runs
from aarlab.server.dashboard.desk import Desk
from aarlab.server.dashboard.views.board import GRAVITY
from aarlab.store import overview

Facts = dict[str, Any]
PAGE = 25


async def queue(
    tx: AsyncConnection, desk: Desk, severity: str | None, state: str, page: int
) -> Facts:
    """One page of cases. A case is a method, or what was found about an AAR's submissions."""
    await desk.memory.refresh(tx)
    cases = [c for c in _cases(desk) if severity in (None, c["severity"])]
    if severity is None:
        cases = [c for c in cases if c["severity"] != "clear"]
    n_open = sum(c["verdict"] is None for c in cases)
    if state != "all":
        cases = [c for c in cases if (c["verdict"] is None) == (state == "open")]
    cases.sort(key=lambda c: (GRAVITY[c["severity"]], c["verdict"] is not None, not c["snapshot"]))
    part = cases[page * PAGE : (page + 1) * PAGE]
    wanted = [number for case in part for number in case["numbers"]]
    texts = await overview.audits_numbered(tx, wanted)
    for case in part:
        found = [texts[number].model_dump() for number in case.pop("numbers")]
        case["findings"] = sorted(found, key=lambda a: GRAVITY[a["severity"]])
    return {
        "cases": part,
        "n_cases": len(cases),
        "n_open": n_open,
        "severity": severity,
        "state": state,
        "page": page,
        "pages": max(-(-len(cases) // PAGE), 1),
    }


def _cases(desk: Desk) -> list[Facts]:
    memory = desk.memory
    cases = []
    for snapshot, numbers in memory.audits_of.items():
        if snapshot:
            snap = memory.snaps[snapshot]
            case = _case(desk, numbers, snapshot, snap.name, snap.aar)
            cases.append({**case, "short": memory.names[snapshot]})
        else:
            cases += [_about_aar(desk, number) for number in numbers]
    return cases


def _case(desk: Desk, numbers: list[int], snapshot: str, method: str, aar: str) -> Facts:
    """Clear findings are left out where there are graver ones."""
    found = {number: desk.memory.audits[number] for number in numbers}
    worst = min((a.severity for a in found.values()), key=GRAVITY.__getitem__)
    kept = [n for n, a in found.items() if a.severity != "clear" or worst == "clear"]
    given = desk.memory.verdicts_of.get(snapshot, [])
    task = desk.tasks(operator=False)[0]
    first = first_runs(desk.memory.runs_for(snapshot))
    run = first.get(RunKey(task, snapshot, "selection", "none"))
    return {
        "snapshot": snapshot,
        "audit": None,
        "method": method,
        "aar": aar,
        "severity": worst,
        "numbers": kept,
        "verdict": given[-1].model_dump() if given else None,
        "pgr": round(run.estimate.value, 2) if run and run.estimate else None,
    }


def _about_aar(desk: Desk, number: int) -> Facts:
    """A finding on an AAR's submissions, with the verdict that it has."""
    found = desk.memory.audits[number]
    given = desk.memory.cases_of.get(found.id, [])
    case = _case(desk, [number], "", "submissions", found.aar)
    verdict = given[-1].model_dump() if given else None
    return {**case, "audit": found.id, "task": found.task, "verdict": verdict}

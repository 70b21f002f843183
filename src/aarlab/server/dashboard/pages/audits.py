"""The audit queue, and verdicts on findings that are about an AAR.

The queue lists methods (and AARs) with what the audits found, gravest and undecided first.
"""

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, Conflict
from aarlab.core.ranking import RunKey, first_runs
from aarlab.core.wire import CaseVerdict, NewCaseVerdict
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.pages.board import GRAVITY
from aarlab.server.dashboard.rendering import FormDep, PageNumber, Text, form_key, go_to
from aarlab.server.dashboard.rendering import page as answer
from aarlab.server.dashboard.session import OperatorViewer
from aarlab.server.service.verifications import record_case_verdict
from aarlab.server.writes import write_once, writing
from aarlab.store import overview, verifications

Facts = dict[str, Any]
PAGE = 25


async def queue(
    tx: AsyncConnection, desk: Desk, severity: str | None, state: str, page: int
) -> Facts:
    """Return one page of cases.

    A case is a method, or what was found about an AAR's submissions.
    """
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
    """Return the case of a method. Clear findings are left out if there are graver ones."""
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
    """Return a finding on an AAR's submissions or transcript, with the verdict that it has."""
    found = desk.memory.audits[number]
    given = desk.memory.cases_of.get(found.id, [])
    about = "transcript" if found.kind == "transcript" else "submissions"
    case = _case(desk, [number], "", about, found.aar)
    verdict = given[-1].model_dump() if given else None
    return {**case, "audit": found.id, "task": found.task, "verdict": verdict}


router = APIRouter(include_in_schema=False)
State = Annotated[Literal["open", "decided", "all"], Query()]


@router.get("/audits")
async def audit_queue(
    request: Request,
    desk: DeskDep,
    viewer: OperatorViewer,
    severity: Text = None,
    state: State = "open",
    page: PageNumber = 0,
) -> Response:
    wanted = severity if severity in GRAVITY else None
    async with desk.platform.store.database.read() as tx:
        facts = await queue(tx, desk, wanted, state, page)
    for case in facts["cases"]:
        case["key"] = secrets.token_hex(16)
    return answer(request, viewer, "audits", facts)


@router.post("/audits/{audit}/verdict")
async def give_case_verdict(
    audit: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """Record a person's decision, as the API does. Raises Conflict if another came first."""
    decision, _, disqualifies = form.get("decision", "").partition(":")
    given = {"decision": decision, "disqualifies": disqualifies or "nothing"}
    given |= {name: form.get(name, "") for name in ("reason", "by")}
    try:
        new = NewCaseVerdict.model_validate({"audit": audit, **given})
    except ValidationError:
        raise BadInput("a verdict needs a decision, a reason and your name") from None

    async def act(tx: AsyncConnection) -> CaseVerdict:
        latest = [v for v in await verifications.all_case_verdicts(tx) if v.audit == audit]
        if latest and latest[-1].id != form.get("seen", ""):
            raise Conflict(
                f"{latest[-1].by} gave a verdict ({latest[-1].decision}) after you opened this "
                "page: open it again, read the reason, then decide"
            )
        return await record_case_verdict(tx, new)

    wanted = writing(desk.platform, OPERATOR, form_key(form), request, new)
    await write_once(wanted, CaseVerdict, act)
    back = form.get("back", "")
    return go_to(viewer, back if back.startswith("/audits") else "/audits")

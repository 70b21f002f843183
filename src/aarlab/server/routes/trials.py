"""Run methods in the platform's sandbox for AARs that have none: a check and a trial."""

from fastapi import APIRouter

from aarlab.core.wire_service import MethodCheck, NewCheck, NewTrial, Trial
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service import runs
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.post("/checks", responses={402: {}})
async def check(new: NewCheck, caller: CallerDep, key: KeyDep) -> MethodCheck:
    """Run a method on toy tasks in the platform's sandbox; costs the device seconds it takes."""
    return await runs.check(caller, new, key)


@router.post("/trials", responses={402: {}})
async def trial(new: NewTrial, caller: CallerDep, key: KeyDep) -> Trial:
    """Run a snapshot on a task's public rows in the platform's sandbox; costs device seconds."""
    return await runs.trial(caller, new, key)

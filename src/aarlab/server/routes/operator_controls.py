"""Operator: steer AARs while they run, and the budget of the whole campaign."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire_ledger import CampaignBudget, Control, NewControl
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.platform import Platform
from aarlab.server.writes import KeyDep, Writing, write_once, writing
from aarlab.store import budgets, controls, log

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.post("/controls")
async def control_all(
    new: NewControl, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Control:
    """Pause, resume, stop or extend the whole campaign, or write to all its AARs."""
    wanted = writing(platform, operator, key, request, new)
    return await _steer(platform, wanted, None, new)


@router.post("/aars/{aar}/controls")
async def control(
    aar: str,
    new: NewControl,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Control:
    """Pause, resume, stop, extend or write to one AAR."""
    return await _steer(platform, writing(platform, operator, key, request, new), aar, new)


async def _steer(platform: Platform, wanted: Writing, aar: str | None, new: NewControl) -> Control:
    made = await write_once(wanted, Control, lambda tx: controls.add(tx, aar, new))
    platform.known.clear()  # limits may have changed
    return made


@router.get("/controls")
async def list_controls(
    _operator: OperatorDep, platform: PlatformDep, aar: str | None = None
) -> list[Control]:
    """Oldest first: all of them, or those that one AAR was meant by."""
    async with platform.store.database.read() as tx:
        return await controls.listed(tx, aar)


@router.post("/budget")
async def set_budget(
    new: CampaignBudget,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> CampaignBudget:
    """Limits of all AARs together, and what an hour of the device costs."""

    async def act(tx: AsyncConnection) -> CampaignBudget:
        await budgets.put(tx, new)
        await log.append(tx, "budget", new.model_dump(mode="json"))
        return new

    return await write_once(writing(platform, operator, key, request, new), CampaignBudget, act)


@router.get("/budget")
async def get_budget(_operator: OperatorDep, platform: PlatformDep) -> CampaignBudget:
    async with platform.store.database.read() as tx:
        return await budgets.get(tx)

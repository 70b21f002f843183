"""Operator routes around AARs: registration, tokens, steering, budget, and own model calls.

An AAR can have several tokens with scopes, which can be revoked. AARs are steered while they run.
The budget is that of the whole campaign. The operator's paid model calls are those of the review of
code and of the judge of ideas.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.hashing import sha256_hex
from aarlab.core.wire import AarRecord, AarToken, Changes, Name, NewAar, Wire
from aarlab.core.wire_ledger import (
    CampaignBudget,
    Control,
    NewControl,
    OperatorCall,
    OperatorReservation,
    OperatorSpend,
    Purpose,
)
from aarlab.core.wire_service import MAX_CURSOR, IssuedToken, NewToken, TokenRecord
from aarlab.server.auth import OperatorDep, PlatformDep, aar_token
from aarlab.server.middleware import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.writes import KeyDep, Writing, write_once, writing
from aarlab.store import aars, controls, ledger, log, watching

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


class Registered(Wire):
    """What is stored of a registration. The token is not stored."""

    name: Name


@router.post("/aars")
async def register(
    aar: NewAar, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> AarToken:
    """Fix the AAR's budget and isolation stamp. The same key gives the same token again."""
    token = aar_token(platform.operator_token, aar.name, key)

    async def act(tx: AsyncConnection) -> Registered:
        await aars.add(tx, aar, sha256_hex(token))
        await log.append(tx, "aar", aar.model_dump(mode="json"))
        return Registered(name=aar.name)

    made = await write_once(writing(platform, operator, key, request, aar), Registered, act)
    return AarToken(name=made.name, token=token)


@router.get("/aars")
async def list_aars(
    _operator: OperatorDep, platform: PlatformDep, page: PageDep
) -> list[AarRecord]:
    async with platform.store.database.read() as tx:
        return page.of_all(await aars.records(tx))


@router.get("/changes")
async def changes(
    _operator: OperatorDep,
    platform: PlatformDep,
    after: Annotated[int, Query(ge=0, le=MAX_CURSOR, description="`seq` of the last look")] = 0,
    seen: Annotated[str, Query(max_length=40, description="`seen` of the last look")] = "",
) -> Changes:
    """Return what happened since the last look: which entries were logged, and which AARs changed.

    The first look, without `seen`, lists all AARs.
    """
    async with platform.store.database.read() as tx:
        return await watching.changes(tx, after, seen)


tokens_router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@tokens_router.post("/aars/{aar}/tokens")
async def make_token(
    aar: str,
    new: NewToken,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> IssuedToken:
    """Issue a token. The same key gives the same token again. It is stored only as a hash."""
    # A key holds no new line, so this is not the token of a registration.
    token = aar_token(platform.operator_token, aar, f"\n{key}")

    async def act(tx: AsyncConnection) -> TokenRecord:
        made = await aars.add_token(tx, aar, new, sha256_hex(token))
        await log.append(tx, "token", made.model_dump(mode="json"), made.at)
        return made

    made = await write_once(writing(platform, operator, key, request, new), TokenRecord, act)
    return IssuedToken(record=made, token=token)


@tokens_router.get("/aars/{aar}/tokens")
async def list_tokens(aar: str, _operator: OperatorDep, platform: PlatformDep) -> list[TokenRecord]:
    """List all tokens that an AAR was given, including revoked ones."""
    async with platform.store.database.read() as tx:
        return await aars.tokens_of(tx, aar)


@tokens_router.post("/tokens/{token}/revoke")
async def revoke_token(
    token: str, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> TokenRecord:
    """Revoke a token, from here on; `token` is its id."""

    async def act(tx: AsyncConnection) -> TokenRecord:
        revoked = await aars.revoke_token(tx, token)
        await log.append(tx, "token_revoked", {"id": token}, revoked.revoked_at)
        return revoked

    revoked = await write_once(writing(platform, operator, key, request), TokenRecord, act)
    platform.known.clear()
    return revoked


controls_router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@controls_router.post("/controls")
async def control_all(
    new: NewControl, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Control:
    """Pause, resume, stop or extend the whole campaign, or write to all its AARs."""
    wanted = writing(platform, operator, key, request, new)
    return await _steer(platform, wanted, None, new)


@controls_router.post("/aars/{aar}/controls")
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
    await platform.steering.refresh()
    return made


@controls_router.get("/controls")
async def list_controls(
    _operator: OperatorDep, platform: PlatformDep, aar: str | None = None
) -> list[Control]:
    """List all controls, or those that one AAR was meant by, oldest first."""
    async with platform.store.database.read() as tx:
        return await controls.listed(tx, aar)


@controls_router.post("/budget")
async def set_budget(
    new: CampaignBudget,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> CampaignBudget:
    """Set the limits of all AARs together, and what an hour of the device costs."""

    async def act(tx: AsyncConnection) -> CampaignBudget:
        await ledger.put_budget(tx, new)
        await log.append(tx, "budget", new.model_dump(mode="json"))
        return new

    return await write_once(writing(platform, operator, key, request, new), CampaignBudget, act)


@controls_router.get("/budget")
async def get_budget(_operator: OperatorDep, platform: PlatformDep) -> CampaignBudget:
    async with platform.store.database.read() as tx:
        return await ledger.budget_of_campaign(tx)


ledger_router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@ledger_router.post("/reservations", responses={402: {}})
async def reserve_call(
    new: OperatorReservation,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> OperatorCall:
    """Hold the most that a call can cost, before it is made; held until it is booked."""
    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, OperatorCall, lambda tx: ledger.reserve_operator_call(tx, new))


@ledger_router.get("/reservations")
async def unbooked_calls(
    purpose: Purpose, _operator: OperatorDep, platform: PlatformDep
) -> list[OperatorCall]:
    """List calls that are held and not booked: under way, or cut off."""
    async with platform.store.database.read() as tx:
        return await ledger.unbooked_operator_calls(tx, purpose)


@ledger_router.post("/model-calls")
async def book_call(
    call: OperatorCall, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> OperatorCall:
    """Book what a call did cost, also past a cap: it is a fact. It ends the reservation."""

    async def act(tx: AsyncConnection) -> OperatorCall:
        if await ledger.book_operator_call(tx, call):
            await log.append(tx, "operator_call", call.model_dump(mode="json"))
        return call

    return await write_once(writing(platform, operator, key, request, call), OperatorCall, act)


@ledger_router.get("/spend")
async def operator_spend(_operator: OperatorDep, platform: PlatformDep) -> list[OperatorSpend]:
    """List the operator's own calls by purpose and model.

    They are not part of any AAR's spend.
    """
    async with platform.store.database.read() as tx:
        return await ledger.operator_spend(tx)

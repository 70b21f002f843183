"""Operator: register AARs."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import sha256_hex
from aarlab.core.wire import AarRecord, AarToken, Name, NewAar, Wire
from aarlab.server.auth import OperatorDep, PlatformDep, aar_token
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import aars, log

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


class Registered(Wire):
    """What is kept of a registration: the token is not."""

    name: Name


@router.post("/aars")
async def register(
    aar: NewAar, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> AarToken:
    """Fixes the AAR's budget and isolation stamp. The same key gives the same token again."""
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
        return page.of_all(await aars.all_records(tx))

"""Operator: more tokens for an AAR, with scopes, and their end."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import sha256_hex
from aarlab.core.wire_service import IssuedToken, NewToken, TokenRecord
from aarlab.server.auth import OperatorDep, PlatformDep, aar_token
from aarlab.server.bodies import StrictRoute
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import log, tokens

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.post("/aars/{aar}/tokens")
async def make_token(
    aar: str,
    new: NewToken,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> IssuedToken:
    """The same key gives the same token again; it is kept as a hash only."""
    # A key holds no new line, so that this is no token of a registration.
    token = aar_token(platform.operator_token, aar, f"\n{key}")

    async def act(tx: AsyncConnection) -> TokenRecord:
        made = await tokens.add(tx, aar, new, sha256_hex(token))
        await log.append(tx, "token", made.model_dump(mode="json"), made.at)
        return made

    made = await write_once(writing(platform, operator, key, request, new), TokenRecord, act)
    return IssuedToken(record=made, token=token)


@router.get("/aars/{aar}/tokens")
async def list_tokens(aar: str, _operator: OperatorDep, platform: PlatformDep) -> list[TokenRecord]:
    """All tokens that an AAR was given, revoked ones too."""
    async with platform.store.database.read() as tx:
        return await tokens.of_aar(tx, aar)


@router.post("/tokens/{token}/revoke")
async def revoke_token(
    token: str, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> TokenRecord:
    """From here on the token opens nothing; `token` is its id."""

    async def act(tx: AsyncConnection) -> TokenRecord:
        revoked = await tokens.revoke(tx, token)
        await log.append(tx, "token_revoked", {"id": token}, revoked.revoked_at)
        return revoked

    revoked = await write_once(writing(platform, operator, key, request), TokenRecord, act)
    platform.known.clear()
    return revoked

"""Authenticate callers: AARs and the operator, who have separate tokens.

An AAR's token is refused on the operator's routes, and the operator's on those of AARs.

Covered: missing, malformed, unknown, revoked and foreign tokens, and those without the scope.
Tokens are kept as SHA-256 and compared in constant time or by index lookup of the hash.
A supervisor of an older life of its AAR is refused: reads by what this server knows, writes in
their transaction. A supervisor that opened no session writes nothing.
Not covered: a token that its owner gives away. A revocation made through another server of the same
database is seen after FRESH_S, and so is a new life by the reads of an older one. Agents that
joined by themselves have no lives.
"""

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from aarlab.core.errors import BadInput, Forbidden
from aarlab.core.files import write_new
from aarlab.core.hashing import sha256_hex
from aarlab.core.supervision import LIFE_HEADER, SUPERVISOR_HEADER, supervisor_key
from aarlab.core.wire import NewAar
from aarlab.server.platform import Known, Platform, platform_of
from aarlab.server.problems import Unauthenticated
from aarlab.server.service.caller import Caller
from aarlab.store import aars, shared
from aarlab.store.aars import Access

OPERATOR = "@operator"  # no AAR can have this name
SAFE = frozenset({"GET", "HEAD"})
LIFE_DIGITS = 9
FRESH_S = 1.0

PlatformDep = Annotated[Platform, Depends(platform_of)]


def operator_token(tokens: Path) -> str:
    """Return the operator's token, made on first use in `<tokens>/operator`, mode 600."""
    path = tokens / "operator"
    if not path.exists():
        tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, f"op_{secrets.token_urlsafe(32)}\n", mode=0o600)
    return path.read_text(encoding="utf-8").strip()


def aar_token(operator: str, name: str, key: str) -> str:
    """Return an AAR's token.

    It is derived, so that a repeated registration returns it and no one stores it.
    """
    digest = hmac.new(operator.encode(), f"{name}\n{key}".encode(), hashlib.sha256).digest()
    return f"aar_{urlsafe_b64encode(digest).decode().rstrip('=')}"


async def calling_aar(request: Request, platform: PlatformDep) -> NewAar:
    """Return the AAR behind the token.

    Scope `read` opens GET routes, `write` the others.
    """
    access = await admitted(request, platform)
    return access.need("read" if request.method in SAFE else "write")


async def caller(request: Request, platform: PlatformDep) -> Caller:
    """Return the AAR behind the token, as the functions of `server.service` take it.

    Raises Forbidden for a supervisor that writes and gives no life.
    """
    aar = await calling_aar(request, platform)
    supervised, life = by_supervisor(request, platform, aar.name), life_in(request)
    if supervised and life is None and request.method not in SAFE and not _begins(request):
        raise Forbidden(
            f"a supervisor sends {LIFE_HEADER} with every write: POST /v1/sessions gives its value"
        )
    return Caller(platform, aar, supervised, life)


async def admitted(request: Request, platform: Platform) -> Access:
    """Return the access that the token gives, within the AAR's rate, and count its research time.

    A supervisor has no rate limit. Otherwise an agent that floods the platform with its token could
    block the signs of life by which its hours are counted. Raises Forbidden for the operator's
    token, Unauthenticated for an unknown one, Superseded for an older life.
    """
    token = bearer(request)
    access = await _access(platform, token)
    if access is None:
        if _is_operator(platform, token):
            raise Forbidden("this route is for AARs; the operator's token does not open it")
        raise Unauthenticated("unknown token: send Authorization: Bearer <token of this AAR>")
    name = access.aar.name
    vouched = by_supervisor(request, platform, name)
    if not vouched:
        await platform.requests.admit(name)
    life = life_in(request)
    newest = max(access.life, platform.lives.get(name, 0))
    if life is not None and life < newest:
        shared.refuse_older(name, life, newest)
    if not (vouched and _begins(request)) and platform.pace.touch_due(f"{name} {vouched}"):
        async with platform.store.database.write() as tx:
            if life is not None:
                await shared.check_life(tx, name, life)
            await aars.touch(tx, name, vouched)
    return access


def life_in(request: Request) -> int | None:
    """Return the life that a request says it is of. Raises BadInput unless it is a number."""
    given = request.headers.get(LIFE_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= LIFE_DIGITS):
        raise BadInput(f"{LIFE_HEADER} is the number that POST /v1/sessions gave")
    return int(given)


def _begins(request: Request) -> bool:
    return request.method == "POST" and request.url.path == "/v1/sessions"


def by_supervisor(request: Request, platform: Platform, name: str) -> bool:
    """Return whether the request comes from the process that the campaign started for this AAR."""
    given = request.headers.get(SUPERVISOR_HEADER, "")
    return bool(given) and hmac.compare_digest(
        given.encode(), supervisor_key(platform.operator_token, name).encode()
    )


async def calling_operator(request: Request, platform: PlatformDep) -> str:
    token = bearer(request)
    if _is_operator(platform, token):
        return OPERATOR
    if await _access(platform, token) is not None:
        raise Forbidden("this route is for the operator; an AAR's token does not open it")
    raise Unauthenticated("unknown token: send Authorization: Bearer <operator token>")


async def is_operator(request: Request, platform: PlatformDep) -> bool:
    """Return True for the operator's token, False for an AAR's. Any other is refused."""
    if _is_operator(platform, bearer(request)):
        return True
    await calling_aar(request, platform)
    return False


async def _access(platform: Platform, token: str) -> Access | None:
    digest, now = sha256_hex(token), time.monotonic()
    known = platform.known.get(digest)
    if known is not None and now < known.until:
        return known.access
    async with platform.store.database.read() as tx:
        access = await aars.access_of(tx, digest)
    if access is None:
        platform.known.pop(digest, None)
        return None
    platform.known[digest] = Known(access, now + FRESH_S)
    return access


def bearer(request: Request) -> str:
    """Return the token of a request. Raises Unauthenticated where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no token: send Authorization: Bearer <token>")
    return token.strip()


def _is_operator(platform: Platform, token: str) -> bool:
    return hmac.compare_digest(sha256_hex(token), sha256_hex(platform.operator_token))


IsOperatorDep = Annotated[bool, Depends(is_operator)]
CallerDep = Annotated[Caller, Depends(caller)]
OperatorDep = Annotated[str, Depends(calling_operator)]

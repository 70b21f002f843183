"""Who is calling. AARs and the operator have tokens of their own; neither opens the other's.

Covered: missing, malformed, unknown and foreign tokens; tokens are kept as SHA-256 and compared in
constant time or by index lookup of the hash.
Not covered: a token that its owner gives away.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import Forbidden
from aarlab.core.files import write_new
from aarlab.core.wire import NewAar
from aarlab.server.platform import Platform, platform_of
from aarlab.server.problems import Unauthenticated
from aarlab.store import aars

OPERATOR = "@operator"  # no AAR can have this name

PlatformDep = Annotated[Platform, Depends(platform_of)]


def operator_token(tokens: Path) -> str:
    """The operator's token, made on first use: `<tokens>/operator`, mode 600."""
    path = tokens / "operator"
    if not path.exists():
        tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, f"op_{secrets.token_urlsafe(32)}\n", mode=0o600)
    return path.read_text().strip()


def aar_token(operator: str, name: str, key: str) -> str:
    """An AAR's token. Derived, so that a repeated registration returns it and no one stores it."""
    digest = hmac.new(operator.encode(), f"{name}\n{key}".encode(), hashlib.sha256).digest()
    return f"aar_{urlsafe_b64encode(digest).decode().rstrip('=')}"


async def calling_aar(request: Request, platform: PlatformDep) -> NewAar:
    """The AAR behind the token; its research time runs on."""
    token = _bearer(request)
    aar = await _aar_behind(platform, token)
    if aar is None:
        if _is_operator(platform, token):
            raise Forbidden("this route is for AARs; the operator's token does not open it")
        raise Unauthenticated("unknown token: send Authorization: Bearer <token of this AAR>")
    platform.pace.admit(aar.name)
    if platform.pace.touch_due(aar.name):
        async with platform.store.database.write() as tx:
            await aars.touch(tx, aar.name)
    return aar


async def calling_operator(request: Request, platform: PlatformDep) -> str:
    token = _bearer(request)
    if _is_operator(platform, token):
        return OPERATOR
    if await _aar_behind(platform, token) is not None:
        raise Forbidden("this route is for the operator; an AAR's token does not open it")
    raise Unauthenticated("unknown token: send Authorization: Bearer <operator token>")


async def _aar_behind(platform: Platform, token: str) -> NewAar | None:
    digest = sha256_hex(token)
    if digest not in platform.known:
        async with platform.store.database.read() as tx:
            aar = await aars.by_token(tx, digest)
        if aar is None:
            return None
        platform.known[digest] = aar
    return platform.known[digest]


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no token: send Authorization: Bearer <token>")
    return token.strip()


def _is_operator(platform: Platform, token: str) -> bool:
    return hmac.compare_digest(sha256_hex(token), sha256_hex(platform.operator_token))


AarDep = Annotated[NewAar, Depends(calling_aar)]
OperatorDep = Annotated[str, Depends(calling_operator)]

"""Write state, log entries and idempotency record in one transaction, or nothing.

The same key with the same request returns the stored answer. With another request it is a Conflict.
A refused request is logged and costs nothing: its key stays free. Nothing here is kept in memory,
so two servers on one database answer equal requests equally.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Header, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import AarlabError, BadInput, Unavailable
from aarlab.core.hashing import canonical_json, sha256_hex
from aarlab.core.wire_base import KEY
from aarlab.server.platform import Platform
from aarlab.store import log, shared

KeyDep = Annotated[str, Header(alias="Idempotency-Key", pattern=KEY)]
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes what; `fingerprint` is of the route and the body, what the key stands for.

    `content_sha256` is of the body alone, as `content_hash` gives it. With a `life` the write is
    refused unless this is the newest one of the actor.
    """

    platform: Platform
    actor: str
    key: str
    route: str
    fingerprint: str
    content_sha256: str
    life: int | None = None


def writing(
    platform: Platform, actor: str, key: str, request: Request, body: BaseModel | None = None
) -> Writing:
    """Return the write that a route's request makes; raises as `writing_at` does."""
    return writing_at(platform, actor, key, f"{request.method} {request.url.path}", body)


def writing_at(
    platform: Platform, actor: str, key: str, route: str, body: BaseModel | None = None
) -> Writing:
    """Return the write under `route` ("POST /v1/findings"), whichever interface it came through.

    Raises BadInput for text that is not valid Unicode (a lone surrogate), which JSON permits.
    """
    content = None if body is None else body.model_dump(mode="json")
    try:
        text = canonical_json(content)
        fingerprint = sha256_hex(f"[{canonical_json(route)},{text}]")
        return Writing(platform, actor, key, route, fingerprint, sha256_hex(text))
    except UnicodeEncodeError:
        raise BadInput("the request holds a lone surrogate: send text as valid Unicode") from None


async def write_once(
    wanted: Writing, answer: type[Answer], act: Callable[[AsyncConnection], Awaitable[Answer]]
) -> Answer:
    """Run `act` in the transaction that records its answer; replay it if it ran before."""
    async with refusals_logged(wanted), wanted.platform.store.database.write() as tx:
        known = await shared.recall(tx, wanted.actor, wanted.key, wanted.fingerprint, wanted.life)
        if known is not None:
            return answer.model_validate_json(known)
        given = await act(tx)
        await shared.remember(
            tx, wanted.actor, wanted.key, wanted.fingerprint, given.model_dump_json()
        )
        return given


@asynccontextmanager
async def refusals_logged(wanted: Writing) -> AsyncIterator[None]:
    """Log refusals inside the context.

    An outage is not a refusal: the same request will be sent again.
    """
    try:
        yield
    except Unavailable:
        raise
    except AarlabError as error:
        await _log_refusal(wanted, error)
        raise


async def _log_refusal(wanted: Writing, error: AarlabError) -> None:
    async with wanted.platform.store.database.write() as tx:
        await log.append(
            tx,
            "refusal",
            {
                "actor": wanted.actor,
                "route": wanted.route[:200],
                "code": error.code,
                "request_sha256": wanted.fingerprint,
            },
        )

"""What a pod asks for the AARs that run in it, in one request for all of them."""

import hmac

from fastapi import APIRouter, Request

from aarlab.core.errors import Forbidden
from aarlab.core.supervision import pod_key
from aarlab.core.wire import PodAnswer, PodPoll
from aarlab.server.auth import PlatformDep, bearer
from aarlab.server.middleware import StrictRoute
from aarlab.server.platform import Platform
from aarlab.store import aars

router = APIRouter(prefix="/v1/pod", route_class=StrictRoute)


@router.post("/poll")
async def poll(asked: PodPoll, request: Request, platform: PlatformDep) -> PodAnswer:
    """Give a sign of life for AARs of a pod, and return what the operator wants of them.

    Waits until that is not `known`, a newer process of an AAR has begun, or `wait_s` have passed.
    """
    if not hmac.compare_digest(
        bearer(request).encode(), pod_key(platform.operator_token, asked.aars).encode()
    ):
        raise Forbidden("this is not the key of a pod of exactly these AARs")
    alive = {name: life for name, life in asked.aars.items() if life}
    newest = await _touched(platform, alive)

    def superseded() -> list[str]:
        lives = platform.lives
        return [n for n, life in alive.items() if life < max(newest[n], lives.get(n, 0))]

    wait = platform.steering.wait
    wanted = await wait(asked.aars, asked.known, asked.wait_s, lambda: bool(superseded()))
    return PodAnswer(wanted=wanted, superseded=superseded())


async def _touched(platform: Platform, alive: dict[str, int]) -> dict[str, int]:
    """Record the signs of life in one transaction; return the newest life of each AAR."""
    if not alive:
        return {}
    async with platform.store.database.write() as tx:
        newest = await aars.lives(tx, alive)
        for name, life in alive.items():
            if life == newest[name] and platform.pace.touch_due(f"{name} {True}"):
                await aars.touch(tx, name, by_supervisor=True)
    return newest

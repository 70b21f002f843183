"""What a pod asks for the AARs that run in it, in one request for all of them."""

import asyncio
import hmac
from collections.abc import Iterable

from fastapi import APIRouter, Request

from aarlab.core.errors import Forbidden
from aarlab.core.supervision import pod_key
from aarlab.core.wire import PodAnswer, PodPoll
from aarlab.core.wire_kept import PodGiven, PodJoin, PodNews, PodOrders
from aarlab.server.auth import PlatformDep, bearer
from aarlab.server.middleware import StrictRoute
from aarlab.server.platform import Platform
from aarlab.server.service import kept_pods
from aarlab.store import aars

router = APIRouter(prefix="/v1/pod", route_class=StrictRoute)


@router.post("/poll")
async def poll(asked: PodPoll, request: Request, platform: PlatformDep) -> PodAnswer:
    """Give a sign of life for AARs of a pod, and return what the operator wants of them.

    Waits until that is not `known`, a newer process of an AAR has begun, or `wait_s` have passed.
    """
    _check_key(request, platform, asked.aars)
    alive = {name: life for name, life in asked.aars.items() if life}
    newest = await _touched(platform, alive)

    def superseded() -> list[str]:
        lives = platform.lives
        return [n for n, life in alive.items() if life < max(newest[n], lives.get(n, 0))]

    wait = platform.steering.wait
    wanted = await wait(asked.aars, asked.known, asked.wait_s, lambda: bool(superseded()))
    return PodAnswer(wanted=wanted, superseded=superseded())


@router.post("/join")
async def join(asked: PodJoin, request: Request, platform: PlatformDep) -> PodGiven:
    """Begin a process of a pod whose machine does not share the run's folder.

    Older ones are refused from now on, as on a shared folder.
    """
    _check_key(request, platform, asked.aars)
    return await asyncio.to_thread(kept_pods.join, platform, asked)


@router.post("/tell")
async def tell(news: PodNews, request: Request, platform: PlatformDep) -> PodOrders:
    """Write down what a pod reports, and return which of its AARs are to run."""
    _check_key(request, platform, news.aars)
    return await asyncio.to_thread(kept_pods.tell, platform, news)


def _check_key(request: Request, platform: Platform, names: Iterable[str]) -> None:
    """Raise Forbidden unless the request has the key of a pod of exactly these AARs."""
    key = pod_key(platform.operator_token, names)
    if not hmac.compare_digest(bearer(request).encode(), key.encode()):
        raise Forbidden("this is not the key of a pod of exactly these AARs")


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

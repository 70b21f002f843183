"""Verified scores only, rounded, development tasks only: held-out tasks stay unknown to AARs."""

from fastapi import APIRouter

from aarlab.core.wire import LeaderboardEntry, NewAar
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.tasks import development_tasks
from aarlab.store import audits, verifications
from aarlab.store.board import board

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get("/leaderboard")
async def leaderboard(aar: AarDep, platform: PlatformDep, page: PageDep) -> list[LeaderboardEntry]:
    """Verified methods of the AAR's team, task by task, best first. Baselines stand in
    between without a rank; methods that were given texts (`open`) follow without one, until
    a person accepts them. A cursor is a place in the list."""
    return page.of_all(await seen_by(aar, platform))


async def seen_by(aar: NewAar, platform: Platform) -> list[LeaderboardEntry]:
    """Return all leaderboard lines that an AAR sees."""
    async with platform.store.database.read() as tx:
        settled = await verifications.seen(tx, aar.team, "done")
        decided = await audits.decided(tx)
        return await board(tx, settled, development_tasks(platform), decided)

"""Which methods of a team the platform ran itself: states, no figure, no rank (core.feedback)."""

from fastapi import APIRouter

from aarlab.core.wire import NewAar
from aarlab.core.wire_service import VerifiedMethod
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.tasks import development_tasks
from aarlab.store import methods

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get("/verified")
async def verified(aar: AarDep, platform: PlatformDep, page: PageDep) -> list[VerifiedMethod]:
    """Methods that the AAR's team asked to have verified and that were run, task by task: verified,
    failed or flagged.

    In the order in which they were frozen; figures stay with the people who run the campaign. A
    cursor is a place in the list.
    """
    return page.of_all(await seen_by(aar, platform))


async def seen_by(aar: NewAar, platform: Platform) -> list[VerifiedMethod]:
    """Return all that an AAR sees of the methods of its team."""
    async with platform.store.database.read() as tx:
        return await methods.verified(tx, development_tasks(platform), aar.team)

"""Method submissions: an AAR asks the platform to run its snapshot itself, on hidden data.

An AAR learns what became of a request, and which methods of its team the platform ran. These are
states, without figures and ranks (core.feedback).
"""

from fastapi import APIRouter

from aarlab.core.wire_service import MethodRequest, NewMethod, VerifiedMethod
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.service import verifications
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1/methods", route_class=StrictRoute)


@router.post("", responses={402: {}})
async def submit_method(new: NewMethod, caller: CallerDep, key: KeyDep) -> MethodRequest:
    """Request a verification.

    It costs one of `limits.methods`; a refused request is free.
    """
    return await verifications.request(caller, new, key)


@router.get("")
async def own_methods(caller: CallerDep, page: PageDep) -> list[MethodRequest]:
    """List the own requests, oldest first, and what came of them: states, no figures."""
    return page.of(await verifications.requests(caller, page.after, page.limit))


verified_router = APIRouter(prefix="/v1", route_class=StrictRoute)


@verified_router.get("/verified")
async def verified(caller: CallerDep, page: PageDep) -> list[VerifiedMethod]:
    """List the methods that the AAR's team asked to have verified and that were run.

    They are listed task by task as verified, failed or flagged, in the order in which they were
    frozen. Figures stay with the people who run the campaign. A cursor is a place in the list.
    """
    return page.of_all(await verifications.verified(caller))

"""What verification pods ask: re-runs to do, what these read, and to settle them."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aarlab.core.errors import Forbidden
from aarlab.core.supervision import verifier_key
from aarlab.core.wire import SnapshotContent
from aarlab.core.wire_verifiers import (
    Claimed,
    Material,
    Renewed,
    Settled,
    VerifierGiven,
    VerifierJoin,
    VerifierPart,
    VerifierResult,
    VerifierRun,
    VerifierRuns,
)
from aarlab.server.auth import PlatformDep, bearer
from aarlab.server.middleware import StrictRoute
from aarlab.server.platform import Platform
from aarlab.server.service import verifiers

router = APIRouter(prefix="/v1/verifier", route_class=StrictRoute)


@router.post("/join")
async def join(asked: VerifierJoin, request: Request, platform: PlatformDep) -> VerifierGiven:
    """Begin a process of a verification pod. Older ones are refused from now on."""
    _check_key(request, platform, asked.pod)
    return await verifiers.join(platform, asked)


@router.post("/claim")
async def claim(call: VerifierRuns, request: Request, platform: PlatformDep) -> Claimed:
    """Take the next re-run that nobody holds, for as long as its lease is renewed."""
    _check_key(request, platform, call.pod)
    return await verifiers.claim(platform, call)


@router.post("/renew")
async def renew(call: VerifierRuns, request: Request, platform: PlatformDep) -> Renewed:
    """Renew leases; return those that the pod still has."""
    _check_key(request, platform, call.pod)
    return await verifiers.renew(platform, call)


@router.post("/release")
async def release(call: VerifierRuns, request: Request, platform: PlatformDep) -> Renewed:
    """Give re-runs back: all that the pod does not name."""
    _check_key(request, platform, call.pod)
    return await verifiers.release(platform, call)


@router.post("/snapshot")
async def snapshot(call: VerifierRun, request: Request, platform: PlatformDep) -> SnapshotContent:
    """Return the code of a re-run that the pod holds."""
    _check_key(request, platform, call.pod)
    return await verifiers.snapshot(platform, call)


@router.post("/material")
async def material(call: VerifierRun, request: Request, platform: PlatformDep) -> Material:
    """List the files that a re-run which the pod holds reads."""
    _check_key(request, platform, call.pod)
    return await verifiers.material(platform, call)


@router.get("/part")
async def part(
    asked: Annotated[VerifierPart, Query()], request: Request, platform: PlatformDep
) -> Response:
    """Return the next bytes of a file of that list; none at its end."""
    _check_key(request, platform, asked.pod)
    found = await verifiers.part(platform, asked)
    return Response(found, media_type="application/octet-stream")


@router.post("/settle")
async def settle(call: VerifierResult, request: Request, platform: PlatformDep) -> Settled:
    """Hand in the predictions of a re-run that the pod holds, or why there are none."""
    _check_key(request, platform, call.pod)
    return await verifiers.settle(platform, call)


def _check_key(request: Request, platform: Platform, pod: str) -> None:
    """Raise Forbidden unless the request has the key of this verification pod."""
    key = verifier_key(platform.operator_token, pod)
    if not hmac.compare_digest(bearer(request).encode(), key.encode()):
        raise Forbidden("this is not the key of this verification pod")

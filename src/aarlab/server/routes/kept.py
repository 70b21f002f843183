"""The state of an AAR whose machine shares no folder: for its supervisor alone."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from aarlab.core.wire_kept import Kept, Links, LinksAsked, Manifest, Stored
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service import kept

BLOBS = "/v1/kept/blobs/"
router = APIRouter(prefix="/v1/kept", route_class=StrictRoute)
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("")
async def begun(caller: CallerDep) -> Kept:
    """Return what earlier lives of the AAR kept last."""
    return await kept.begun(caller)


@router.put("/blobs/{sha}")
async def put_blob(sha: Digest, request: Request, caller: CallerDep) -> Stored:
    """Keep the bytes of the body, which must have this SHA-256."""
    return await kept.put_blob(caller, sha, await request.body())


@router.get("/blobs/{sha}")
async def get_blob(sha: Digest, caller: CallerDep) -> Response:
    """Return the bytes of a blob of this AAR."""
    return Response(await kept.get_blob(caller, sha), media_type="application/octet-stream")


@router.put("/links")
async def links(asked: LinksAsked, response: Response, caller: CallerDep) -> Links:
    """Return URLs by which blobs of this AAR go past this server."""
    response.headers["Cache-Control"] = "no-store"
    return await kept.links(caller, asked)


@router.put("/manifest")
async def put_manifest(new: Manifest, caller: CallerDep) -> Stored:
    """Replace what the AAR keeps: all its blobs are there, and this is its newest life."""
    return await kept.put_manifest(caller, new)

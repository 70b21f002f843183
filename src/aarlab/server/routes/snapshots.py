"""Method code: kept as data, readable by every AAR of the team."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from aarlab.core.wire import NewSnapshot, Snapshot, SnapshotContent
from aarlab.core.wire_service import Lineage, SnapshotDiff
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.service import snapshots
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1", route_class=StrictRoute)
TAR = "application/x-tar"
Wanted = Annotated[str | None, Query(max_length=200)]


@router.post("/snapshots", responses={402: {}})
async def add_snapshot(new: NewSnapshot, caller: CallerDep, key: KeyDep) -> Snapshot:
    """Freeze a method folder."""
    return await snapshots.freeze(caller, new, key)


@router.get("/snapshots")
async def list_snapshots(
    caller: CallerDep, page: PageDep, aar: Wanted = None, name: Wanted = None
) -> list[Snapshot]:
    """List snapshots of the team's AARs, or of one AAR or name; oldest first."""
    return page.of(await snapshots.listed(caller, aar, name, page.after, page.limit))


@router.get("/snapshots/{snapshot}")
async def get_snapshot(snapshot: str, caller: CallerDep) -> SnapshotContent:
    """Return all files of a snapshot."""
    return await snapshots.read(caller, snapshot)


@router.get("/snapshots/{snapshot}/lineage")
async def get_lineage(snapshot: str, caller: CallerDep) -> Lineage:
    """Return what a snapshot was made from, back to the first, and what was made from it."""
    return await snapshots.ancestry(caller, snapshot)


@router.get("/snapshots/{snapshot}/diff")
async def get_diff(snapshot: str, caller: CallerDep, against: Wanted = None) -> SnapshotDiff:
    """Return changes since `against`, or since the parent.

    Without either, all files are added.
    """
    return await snapshots.diff(caller, snapshot, against)


@router.get(
    "/snapshots/{snapshot}/tar",
    response_class=Response,
    responses={200: {"content": {TAR: {}}, "description": "the files; the same bytes each time"}},
)
async def get_tar(snapshot: str, caller: CallerDep) -> Response:
    """Return all files of a snapshot as one tar file."""
    known, packed = await snapshots.tar(caller, snapshot)
    name = {"Content-Disposition": f'attachment; filename="{known}.tar"'}
    return Response(packed, media_type=TAR, headers=name)

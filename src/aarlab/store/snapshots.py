"""Snapshots of methods: what is refused, and which there are. `repository` holds their files.

Covered: path traversal, absolute and non-normalised paths, .git components, control and invisible
characters, double paths, a file that is also a folder, oversized or too many files.
Not covered: what the code does when it is run; that is the sandbox's part.
"""

import base64
import binascii
import unicodedata
from pathlib import Path

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, BudgetExhausted, NotFound
from aarlab.core.wire import NewSnapshot, Snapshot
from aarlab.store.tables import snapshots
from aarlab.store.teams import Team, seen_by

MAX_BYTES = 5_000_000
MAX_FILES = 200
MAX_NAME_BYTES = 255  # what a file system takes
ENTRY = "method.py"


def decode(new: NewSnapshot) -> dict[str, bytes]:
    """Checked paths and contents; raises BadInput before anything is written."""
    if len(new.files) > MAX_FILES:
        raise BadInput(f"{len(new.files)} files: a snapshot holds at most {MAX_FILES}")
    files: dict[str, bytes] = {}
    total = 0
    for file in new.files:
        path = _checked_path(file.path)
        if path in files:
            raise BadInput(f"{path!r} is in the snapshot twice")
        try:
            files[path] = base64.b64decode(file.content_b64, validate=True)
        except (binascii.Error, ValueError):
            raise BadInput(f"{path!r}: content_b64 is not base64") from None
        total += len(files[path])
        if total > MAX_BYTES:
            raise BadInput(f"the snapshot is over {MAX_BYTES:,} bytes: leave data and weights out")
    _check_folders(files)
    if ENTRY not in files:
        raise BadInput(f"no {ENTRY} at the top of the snapshot; a method is a folder with {ENTRY}")
    return files


def _checked_path(path: str) -> str:
    parts = path.split("/")
    if any(unicodedata.category(char).startswith("C") for char in path) or "\\" in path:
        raise BadInput(
            f"path {path!r}: control or invisible characters and backslashes are refused"
        )
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise BadInput(f"path {path!r}: use a relative path without empty parts, . or ..")
    if any(part.casefold().startswith((".git", "git~")) for part in parts):
        raise BadInput(f"path {path!r}: names that git treats specially are refused")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise BadInput(f"path {path!r}: no file name may have over {MAX_NAME_BYTES} bytes")
    if unicodedata.normalize("NFC", path) != path:
        raise BadInput(f"path {path!r}: use normalised Unicode (NFC)")
    return path


def _check_folders(files: dict[str, bytes]) -> None:
    for path in files:
        for folder in Path(path).parents:
            if str(folder) in files:
                raise BadInput(f"{str(folder)!r} is both a file and a folder in the snapshot")


async def add(tx: AsyncConnection, snapshot: Snapshot) -> None:
    await tx.execute(
        insert(snapshots).values(
            id=snapshot.id, aar=snapshot.aar, record=snapshot.model_dump(mode="json")
        )
    )


async def check_room(tx: AsyncConnection, aar: str, more: int, limit: int) -> None:
    """Raise BudgetExhausted where an AAR's snapshots would take more than `limit` bytes."""
    sizes = func.sum(snapshots.c.record["n_bytes"].as_integer())
    taken = await tx.scalar(select(sizes).where(snapshots.c.aar == aar)) or 0
    if taken + more > limit:
        raise BudgetExhausted(
            f"the snapshots of {aar} take {taken:,} of {limit:,} bytes, and this one has {more:,}: "
            "leave out what is not code"
        )


async def get(tx: AsyncConnection, snapshot: str, team: Team = None) -> Snapshot:
    """Raises NotFound, also for one that the team does not see.

    A commit that is in the repository but not in the table does not count.
    """
    query = select(snapshots.c.record).where(snapshots.c.id == snapshot)
    row = (await tx.execute(query.where(*seen_by(team, snapshots.c.aar)))).first()
    if row is None:
        raise NotFound(f"no snapshot {snapshot[:60]!r}: see GET /v1/snapshots")
    return Snapshot.model_validate(row.record)


async def all_snapshots(tx: AsyncConnection) -> list[Snapshot]:
    rows = await tx.execute(select(snapshots.c.record).order_by(snapshots.c.seq))
    return [Snapshot.model_validate(row.record) for row in rows]

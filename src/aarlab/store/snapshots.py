"""Snapshots of methods: what is refused, listing, differences and tar files.

`repository` holds their files. This module has what is stored next to the commits: a list, copies
of the same files, parents and children. Two snapshots side by side, and one as a tar file, are pure
functions of their contents.

Covered: path traversal, absolute and non-normalised paths, .git components, control and invisible
characters, double paths, a file that is also a folder, oversized or too many files; contents that
make difflib slow (the compared lines are bounded, in a file and in total); contents that are not
text; names with new lines.
Not covered: what the code does when it is run, which is the sandbox's part; renames, which show as
one file removed and one added.
"""

import base64
import binascii
import difflib
import io
import tarfile
import unicodedata
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, BudgetExhausted, NotFound
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.wire import NewAar, NewSnapshot, Snapshot, SnapshotFile
from aarlab.core.wire_service import Change, FileDiff, Lineage
from aarlab.store.aars import Team, seen_by
from aarlab.store.tables import snapshots, trees

MAX_BYTES = 5_000_000
MAX_FILES = 200
MAX_NAME_BYTES = 255  # what a file system takes
ENTRY = "method.py"


def decode(new: NewSnapshot) -> dict[str, bytes]:
    """Return checked paths and contents. Raises BadInput before anything is written."""
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
    """Raise BudgetExhausted if an AAR's snapshots would take more than `limit` bytes."""
    sizes = func.sum(snapshots.c.record["n_bytes"].as_integer())
    taken = await tx.scalar(select(sizes).where(snapshots.c.aar == aar)) or 0
    if taken + more > limit:
        raise BudgetExhausted(
            f"the snapshots of {aar} take {taken:,} of {limit:,} bytes, and this one has {more:,}: "
            "leave out what is not code"
        )


async def get(tx: AsyncConnection, snapshot: str, team: Team = None) -> Snapshot:
    """Return a snapshot. Raises NotFound, also for one that the team does not see.

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


MAX_SHOWN = 200


class Filter(NamedTuple):
    aar: str | None = None
    name: str | None = None
    team: Team = None


def tree_sha256(files: dict[str, bytes]) -> str:
    """Return a hash of paths and contents, whoever snapshots them."""
    return content_hash({path: sha256_hex(content) for path, content in files.items()})


async def same_as(tx: AsyncConnection, tree: str, aar: NewAar) -> list[str]:
    """Return earlier snapshots of its team's other AARs with these files.

    Oldest first, bounded.
    """
    query = (
        select(snapshots.c.id)
        .join(trees, trees.c.snapshot == snapshots.c.id)
        .where(trees.c.sha256 == tree, snapshots.c.aar != aar.name)
        .where(*seen_by(aar.team, snapshots.c.aar))
        .order_by(snapshots.c.seq)
    )
    return list(await tx.scalars(query.limit(MAX_SHOWN)))


async def record(tx: AsyncConnection, snapshot: Snapshot, tree: str) -> None:
    await tx.execute(
        insert(trees).values(snapshot=snapshot.id, sha256=tree, parent=snapshot.parent)
    )


async def listed(
    tx: AsyncConnection, wanted: Filter, after: int, limit: int | None
) -> list[tuple[int, Snapshot]]:
    """Return snapshots, oldest first, each with its cursor.

    There is one more than `limit` if there are more.
    """
    query = select(snapshots.c.seq, snapshots.c.record).order_by(snapshots.c.seq)
    query = query.where(snapshots.c.seq > after, *seen_by(wanted.team, snapshots.c.aar))
    if wanted.aar is not None:
        query = query.where(snapshots.c.aar == wanted.aar)
    if wanted.name is not None:
        query = query.where(snapshots.c.record["name"].as_string() == wanted.name)
    rows = await tx.execute(query if limit is None else query.limit(limit + 1))
    return [(row.seq, Snapshot.model_validate(row.record)) for row in rows]


async def lineage(tx: AsyncConnection, snapshot: str, team: Team = None) -> Lineage:
    """Return up to MAX_SHOWN ancestors and children.

    Raises NotFound for one that is unknown or not seen.
    """
    this = await get(tx, snapshot, team)
    ancestors: list[Snapshot] = []
    parent = this.parent
    while parent is not None and len(ancestors) < MAX_SHOWN:
        ancestors.append(await get(tx, parent, team))
        parent = ancestors[-1].parent
    query = select(snapshots.c.record).join(trees, trees.c.snapshot == snapshots.c.id)
    seen = seen_by(team, snapshots.c.aar)
    made = query.where(trees.c.parent == this.id, *seen).order_by(snapshots.c.seq).limit(MAX_SHOWN)
    children = [Snapshot.model_validate(row.record) for row in await tx.execute(made)]
    return Lineage(snapshot=this, ancestors=ancestors, children=children)


MAX_FILE_LINES = 5000
MAX_LINES = 20_000
MAX_LINE = 2000
Contents = dict[str, bytes]


def contents(files: list[SnapshotFile]) -> Contents:
    return {file.path: base64.b64decode(file.content_b64) for file in files}


def differences(old: Contents, new: Contents) -> list[FileDiff]:
    """Return files that differ, by path. Binary and too large ones are named only."""
    found, lines_left = [], MAX_LINES
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        old_lines, new_lines = _lines(before), _lines(after)
        change = _change(before, after)
        one = _file_diff(path, old_lines, new_lines, change, lines_left)
        if one.omitted == "":
            lines_left -= len(old_lines or []) + len(new_lines or [])
        found.append(one)
    return found


def tar_of(files: Contents) -> bytes:
    """Return the same bytes for the same files: sorted, without owner and time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _change(before: bytes | None, after: bytes | None) -> Change:
    if before is None:
        return "added"
    return "removed" if after is None else "changed"


def _lines(content: bytes | None) -> list[str] | None:
    """Return the lines; None if the content is not text."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.split("\n")


def _file_diff(
    path: str,
    before: list[str] | None,
    after: list[str] | None,
    change: Change,
    lines_left: int,
) -> FileDiff:
    if before is None or after is None:
        return FileDiff(path=path, change=change, diff="", omitted="binary")
    total = len(before) + len(after)
    longest = max(map(len, (*before, *after)))
    if total > min(MAX_FILE_LINES, lines_left) or longest > MAX_LINE:
        return FileDiff(path=path, change=change, diff="", omitted="too large")
    old, old_name = ([], "/dev/null") if change == "added" else (before, f"a/{path}")
    new, new_name = ([], "/dev/null") if change == "removed" else (after, f"b/{path}")
    diff = difflib.unified_diff(old, new, old_name, new_name, lineterm="")
    return FileDiff(path=path, change=change, diff="\n".join(diff))

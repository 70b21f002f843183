"""Snapshots of methods: one bare git repository per campaign, written with the git command.

Covered: path traversal, absolute and non-normalised paths, .git components, control and invisible
characters, double paths, a file that is also a folder, oversized or too many files; hooks,
filters, user and system git configuration; symbolic links (every entry is a plain file).
Not covered: what the code does when it is run; that is the sandbox's part.
"""

import base64
import binascii
import json
import shutil
import subprocess
import tempfile
import unicodedata
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import AarlabError, BadInput, Damaged, NotFound
from aarlab.core.wire import NewSnapshot, Snapshot, SnapshotFile
from aarlab.store.tables import snapshots

MAX_BYTES = 5_000_000
MAX_FILES = 200
ENTRY = "method.py"


class Author(NamedTuple):
    aar: str
    at: str  # ISO 8601


class SnapshotRepo:
    """The bare repository. Blocking: call it from a thread in a server."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._git_binary = shutil.which("git") or "git"

    def open(self) -> None:
        """Make the repository where it is missing."""
        if not (self._path / "HEAD").exists():
            self._git(["init", "--quiet", "--bare", "--template=", str(self._path)])

    def write(self, new: NewSnapshot, files: dict[str, bytes], author: Author) -> str:
        """Commit checked files (see `decode`) and return the commit, 40 hex digits."""
        with tempfile.TemporaryDirectory(dir=self._path, prefix="write-") as scratch:
            blobs = self._write_blobs(list(files.values()), Path(scratch))
            listing = "".join(
                f"100644 {blob}\t{path}\0" for path, blob in zip(files, blobs, strict=True)
            )
            index = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self._git(["update-index", "-z", "--index-info"], listing.encode(), index)
            tree = self._git(["write-tree"], extra=index).decode().strip()
        commit = self._commit(tree, new, author)
        self._git(["update-ref", f"refs/snapshots/{commit}", commit])
        return commit

    def read(self, commit: str) -> list[SnapshotFile]:
        """All files of a commit that `write` returned; raises Damaged if git cannot give them."""
        listing = self._git(["ls-tree", "-r", "-z", "--full-tree", commit]).decode()
        entries = [entry.partition("\t") for entry in listing.split("\0") if entry]
        blobs = [meta.split()[2] for meta, _, _ in entries]
        contents = self._read_blobs(blobs)
        return [
            SnapshotFile(path=path, content_b64=base64.b64encode(content).decode())
            for (_, _, path), content in zip(entries, contents, strict=True)
        ]

    def _write_blobs(self, contents: list[bytes], scratch: Path) -> list[str]:
        names = []
        for number, content in enumerate(contents):
            name = scratch / f"blob-{number}"
            name.write_bytes(content)
            names.append(str(name))
        listed = "\n".join(names).encode()
        return (
            self._git(["hash-object", "-w", "--no-filters", "--stdin-paths"], listed)
            .decode()
            .split()
        )

    def _read_blobs(self, blobs: list[str]) -> list[bytes]:
        raw = self._git(["cat-file", "--batch"], "".join(f"{blob}\n" for blob in blobs).encode())
        contents, at = [], 0
        for blob in blobs:
            header_end = raw.index(b"\n", at)
            header = raw[at:header_end].split()
            if len(header) != 3:
                raise Damaged(f"{self._path}: object {blob} is missing; restore the repository")
            start, size = header_end + 1, int(header[2])
            contents.append(raw[start : start + size])
            at = start + size + 1
        return contents

    def _commit(self, tree: str, new: NewSnapshot, author: Author) -> str:
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (
                ("NAME", author.aar),
                ("EMAIL", f"{author.aar}@aarlab.invalid"),
                ("DATE", author.at),
            )
        }
        # JSON keeps whatever the message holds on one line of plain text.
        message = json.dumps({"name": new.name, "message": new.message})
        parent = ["-p", new.parent] if new.parent else []
        return self._git(["commit-tree", tree, *parent], message.encode(), who).decode().strip()

    def _git(
        self, command: list[str], stdin: bytes = b"", extra: dict[str, str] | None = None
    ) -> bytes:
        """Run git with no configuration but the repository's own, no HOME and no hooks."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C",
            "GIT_DIR": str(self._path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_NO_REPLACE_OBJECTS": "1",
            **(extra or {}),
        }
        hooks = ["-c", "core.hooksPath=/dev/null", "-c", "core.protectHFS=true"]
        done = subprocess.run(
            [self._git_binary, *hooks, *command],
            input=stdin,
            capture_output=True,
            env=environment,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip()[-300:]
            raise AarlabError(f"git {command[0]} failed in {self._path}: {reason}")
        return done.stdout


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


async def get(tx: AsyncConnection, snapshot: str) -> Snapshot:
    """Raises NotFound; a commit that is in the repository but not in the table does not count."""
    query = select(snapshots.c.record).where(snapshots.c.id == snapshot)
    row = (await tx.execute(query)).first()
    if row is None:
        raise NotFound(f"no snapshot {snapshot[:60]!r}: see GET /v1/snapshots")
    return Snapshot.model_validate(row.record)


async def all_snapshots(tx: AsyncConnection) -> list[Snapshot]:
    rows = await tx.execute(select(snapshots.c.record).order_by(snapshots.c.seq))
    return [Snapshot.model_validate(row.record) for row in rows]

"""Snapshots of methods: one bare git repository per campaign, in a folder or a bucket.

`git log`, `git diff` and `git fsck` read it (a bucket after a copy). Objects stay loose: after
`git gc`, unpack them again (`git unpack-objects`).

Covered: every object read is checked against its name, so a changed one is found; no git command,
hook, filter or configuration has a part in it; symbolic links (every entry is a plain file).
Not covered: objects that were removed; restore them from a copy.
"""

import base64
import json
from collections.abc import Iterable
from typing import NamedTuple

from aarlab.core.clock import parse_iso
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.store import gitobjects
from aarlab.store.blobs import Folder

CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = false\n\tbare = true\n[gc]\n\tauto = 0\n"
)
MARK = "aarlab-id"


class Author(NamedTuple):
    aar: str
    at: str  # ISO 8601


class SnapshotRepo:
    """The bare repository. Blocking: call it from a thread in a server."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the repository where it is missing."""
        if self._folder.local is not None:
            for name in ("objects", "refs"):
                (self._folder.local / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._folder.has("HEAD"):
            self._folder.keep({"config": CONFIG.encode(), "HEAD": b"ref: refs/heads/main\n"})

    def mark(self) -> str | None:
        """The repository's own random name, by which servers know that they share it."""
        return self._folder.read([MARK])[MARK].decode() if self._folder.has(MARK) else None

    def set_mark(self) -> str:
        """Give the repository a name; the caller sees to it that one server at a time does."""
        mark = new_id("repo")
        self._folder.keep({MARK: mark.encode()})
        return mark

    def write_files(self, files: dict[str, bytes]) -> str:
        """Keep checked files (see `snapshots.decode`) and return their tree; repeating is free."""
        objects: dict[str, bytes] = {}
        blobs = {path: gitobjects.pack("blob", data, objects) for path, data in files.items()}
        tree = gitobjects.pack_tree(blobs, objects)
        self._folder.keep(objects)
        return tree

    def commit(self, tree: str, new: NewSnapshot, author: Author) -> str:
        """Freeze a tree; returns the commit, 40 hex digits, which `refs/snapshots/` then has."""
        seconds = int(parse_iso(author.at).timestamp())
        who = f"{author.aar} <{author.aar}@aarlab.invalid> {seconds} +0000"
        # JSON keeps whatever the message holds on one line of plain text. Git's own time has whole
        # seconds: with them alone the same files twice in a second would be one commit.
        message = json.dumps({"name": new.name, "message": new.message, "at": author.at})
        objects: dict[str, bytes] = {}
        data = gitobjects.commit_data(tree, new.parent, who, message)
        commit = gitobjects.pack("commit", data, objects)
        self._folder.keep(objects)
        self._folder.keep({f"refs/snapshots/{commit}": f"{commit}\n".encode()})
        return commit

    def read(self, commit: str) -> list[SnapshotFile]:
        """All files of a commit, sorted by path; raises Damaged if one cannot be had."""
        trees = {gitobjects.tree_of(self._objects("commit", [commit])[commit]): [""]}
        blobs: dict[str, str] = {}
        while trees:
            found = self._objects("tree", trees)
            below: dict[str, list[str]] = {}
            for sha, folders in trees.items():
                for entry in gitobjects.tree_entries(found[sha]):
                    for folder in folders:
                        if entry.is_folder:
                            below.setdefault(entry.sha, []).append(f"{folder}{entry.name}/")
                        else:
                            blobs[f"{folder}{entry.name}"] = entry.sha
            trees = below
        contents = self._objects("blob", set(blobs.values()))
        return [
            SnapshotFile(path=path, content_b64=base64.b64encode(contents[sha]).decode())
            for path, sha in sorted(blobs.items())
        ]

    def _objects(self, kind: str, shas: Iterable[str]) -> dict[str, bytes]:
        names = {gitobjects.file_name(sha): sha for sha in shas}
        try:
            found = self._folder.read(names)
        except NotFound as error:
            raise Damaged(f"{error}: restore the repository") from None
        return {sha: gitobjects.unpack(kind, sha, found[name]) for name, sha in names.items()}

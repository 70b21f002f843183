"""Snapshots of methods: one bare git repository per campaign, in a folder or a bucket.

`git log`, `git diff` and `git fsck` read it (a bucket after a copy). Objects stay loose: after `git
gc`, unpack them again (`git unpack-objects`).

Blobs, trees and commits are written in plain Python as `git` itself would write them. An object is
zlib("<kind> <size> " + data), named by the SHA-1 of what is inside.

Covered: every object read is checked against its name, so a changed one is found; no git command,
hook, filter or configuration is involved; symbolic links (every entry is a plain file).
Not covered: objects that were removed; restore them from a copy. Colliding SHA-1s, which do not
gain anything here: what was kept first under a name stays.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from aarlab.core.clock import parse_iso
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.store.blobs import Folder

FILE, FOLDER = b"100644", b"40000"


class Entry(NamedTuple):
    """One line of a tree."""

    name: str
    is_folder: bool
    sha: str


def pack(kind: str, data: bytes, into: dict[str, bytes]) -> str:
    """Add the object to `into` by its file name in a repository; return its SHA-1."""
    raw = f"{kind} {len(data)}\0".encode() + data
    sha = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    into[file_name(sha)] = zlib.compress(raw)
    return sha


def unpack(kind: str, sha: str, packed: bytes) -> bytes:
    """Return the data of an object. Raises Damaged if it is not of that kind and name."""
    try:
        raw = zlib.decompress(packed)
    except zlib.error:
        raise Damaged(f"object {sha} is not zlib data: restore the repository") from None
    header, _, data = raw.partition(b"\0")
    if header != f"{kind} {len(data)}".encode():
        raise Damaged(f"object {sha} is not a {kind}: restore the repository")
    if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != sha:
        raise Damaged(f"object {sha} does not match its name: it was changed")
    return data


def file_name(sha: str) -> str:
    return f"objects/{sha[:2]}/{sha[2:]}"


def pack_tree(blobs: Mapping[str, str], into: dict[str, bytes]) -> str:
    """Pack trees for blobs by path. Returns the SHA-1 of the top."""
    folders: dict[str, dict[str, str]] = {}
    lines = []
    for path, sha in blobs.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = sha
        else:
            lines.append((name.encode(), FILE, sha))
    for name, inner in folders.items():
        lines.append((name.encode() + b"/", FOLDER, pack_tree(inner, into)))
    lines.sort()  # git sorts a folder as if its name ended in a slash
    data = [
        mode + b" " + name.rstrip(b"/") + b"\0" + bytes.fromhex(sha) for name, mode, sha in lines
    ]
    return pack("tree", b"".join(data), into)


def tree_entries(data: bytes) -> Iterator[Entry]:
    """Yield the lines of a tree.

    Raises Damaged on a link, a submodule, a name that is not UTF-8, or data that is not a tree.
    """
    at = 0
    while at < len(data):
        end = data.find(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        if end < 0 or mode not in (FILE, FOLDER) or len(data) < end + 21:
            raise Damaged("a tree of the repository holds more than files and folders")
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise Damaged("a tree of the repository holds a name that is not UTF-8") from None
        yield Entry(text, mode == FOLDER, data[end + 1 : end + 21].hex())
        at = end + 21


def commit_data(tree: str, parent: str | None, who: str, message: str) -> bytes:
    """Return a commit's data; `who` is `Name <email> seconds +0000`."""
    lines = [f"tree {tree}"]
    if parent is not None:
        lines.append(f"parent {parent}")
    lines += [f"author {who}", f"committer {who}", "", message, ""]
    return "\n".join(lines).encode()


def tree_of(commit: bytes) -> str:
    first = commit.partition(b"\n")[0].decode()
    return first.removeprefix("tree ")


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
        """Make the repository if it is missing."""
        if self._folder.local is not None:
            for name in ("objects", "refs"):
                (self._folder.local / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._folder.has("HEAD"):
            self._folder.keep({"config": CONFIG.encode(), "HEAD": b"ref: refs/heads/main\n"})

    def mark(self) -> str | None:
        """Return the repository's own random name.

        Servers know by it that they share the repository.
        """
        return self._folder.read([MARK])[MARK].decode() if self._folder.has(MARK) else None

    def set_mark(self) -> str:
        """Give the repository a name; the caller sees to it that one server at a time does."""
        mark = new_id("repo")
        self._folder.keep({MARK: mark.encode()})
        return mark

    def write_files(self, files: dict[str, bytes]) -> str:
        """Keep checked files (see `snapshots.decode`) and return their tree; repeating is free."""
        objects: dict[str, bytes] = {}
        blobs = {path: pack("blob", data, objects) for path, data in files.items()}
        tree = pack_tree(blobs, objects)
        self._folder.keep(objects)
        return tree

    def commit(self, tree: str, new: NewSnapshot, author: Author) -> str:
        """Freeze a tree. Returns the commit.

        It is 40 hex digits, which `refs/snapshots/` then has.
        """
        seconds = int(parse_iso(author.at).timestamp())
        who = f"{author.aar} <{author.aar}@aarlab.invalid> {seconds} +0000"
        # JSON keeps whatever the message holds on one line of plain text. Git's own time has whole
        # seconds: with them alone the same files twice in a second would be one commit.
        message = json.dumps({"name": new.name, "message": new.message, "at": author.at})
        objects: dict[str, bytes] = {}
        data = commit_data(tree, new.parent, who, message)
        commit = pack("commit", data, objects)
        self._folder.keep(objects)
        self._folder.keep({f"refs/snapshots/{commit}": f"{commit}\n".encode()})
        return commit

    def read(self, commit: str) -> list[SnapshotFile]:
        """Return all files of a commit, sorted by path.

        Raises Damaged if one cannot be read.
        """
        trees = {tree_of(self._objects("commit", [commit])[commit]): [""]}
        blobs: dict[str, str] = {}
        while trees:
            found = self._objects("tree", trees)
            below: dict[str, list[str]] = {}
            for sha, folders in trees.items():
                for entry in tree_entries(found[sha]):
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
        names = {file_name(sha): sha for sha in shas}
        try:
            found = self._folder.read(names)
        except NotFound as error:
            raise Damaged(f"{error}: restore the repository") from None
        return {sha: unpack(kind, sha, found[name]) for name, sha in names.items()}

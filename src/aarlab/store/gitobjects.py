"""Git's loose objects in plain Python: blob, tree, commit, as `git` itself would write them.

Format: zlib("<kind> <size>\\0" + data), named by the SHA-1 of what is inside.
Not covered: colliding SHA-1s. They gain nothing here: what was kept first under a name stays.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aarlab.core.errors import Damaged

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
    """The data of an object; raises Damaged if it is not of that kind and name."""
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
    """Trees for blobs by path; returns the SHA-1 of the top."""
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
    """Lines of a tree; raises Damaged on a link, a submodule, a name that is no UTF-8, no tree."""
    at = 0
    while at < len(data):
        end = data.find(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        if end < 0 or mode not in (FILE, FOLDER) or len(data) < end + 21:
            raise Damaged("a tree of the repository holds more than files and folders")
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise Damaged("a tree of the repository holds a name that is no UTF-8") from None
        yield Entry(text, mode == FOLDER, data[end + 1 : end + 21].hex())
        at = end + 21


def commit_data(tree: str, parent: str | None, who: str, message: str) -> bytes:
    """`who` is `Name <email> seconds +0000`."""
    lines = [f"tree {tree}"]
    if parent is not None:
        lines.append(f"parent {parent}")
    lines += [f"author {who}", f"committer {who}", "", message, ""]
    return "\n".join(lines).encode()


def tree_of(commit: bytes) -> str:
    first = commit.partition(b"\n")[0].decode()
    return first.removeprefix("tree ")

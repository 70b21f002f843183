"""Two snapshots side by side, and one as a tar file; pure functions of their contents.

Covered: contents that make difflib slow (the lines that are compared are bounded, in a file and in
total), contents that are no text, names with new lines.
Not covered: renames; they show as one file removed and one added.
"""

import base64
import difflib
import io
import tarfile

from aarlab.core.wire import SnapshotFile
from aarlab.core.wire_service import Change, FileDiff

MAX_FILE_LINES = 5000
MAX_LINES = 20_000
MAX_LINE = 2000
Contents = dict[str, bytes]


def contents(files: list[SnapshotFile]) -> Contents:
    return {file.path: base64.b64decode(file.content_b64) for file in files}


def differences(old: Contents, new: Contents) -> list[FileDiff]:
    """Files that differ, by path. Binary and too large ones are named only."""
    found, lines_left = [], MAX_LINES
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        texts = _lines(before), _lines(after)
        one = _file_diff(path, texts, _change(before, after), lines_left)
        if one.omitted == "":
            lines_left -= sum(len(lines or []) for lines in texts)
        found.append(one)
    return found


def tar_of(files: Contents) -> bytes:
    """The same bytes for the same files: sorted, no owner, no time."""
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
    """None for what is no text."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.split("\n")


def _file_diff(
    path: str,
    texts: tuple[list[str] | None, list[str] | None],
    change: Change,
    lines_left: int,
) -> FileDiff:
    before, after = texts
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

"""Method code as text, for agents that would otherwise have to write and read base64."""

import base64
from collections.abc import Iterable

from aarlab.core.errors import BadInput
from aarlab.core.wire import NewAar, NewSnapshot, SnapshotContent, SnapshotFile
from aarlab.core.wire_task import CodeFile, NewTextSnapshot, TextFile
from aarlab.server.platform import Platform
from aarlab.server.routes.snapshots import read_snapshot

SHOWN_BYTES = 200_000  # of one file


def encoded(files: Iterable[TextFile]) -> list[SnapshotFile]:
    """Encode text files in base64, as the snapshot routes take them."""
    return [
        SnapshotFile(path=f.path, content_b64=base64.b64encode(f.text.encode()).decode())
        for f in files
    ]


async def as_snapshot(platform: Platform, aar: NewAar, new: NewTextSnapshot) -> NewSnapshot:
    """Return the snapshot in base64, with the parent's other files if they are to be kept.

    Raises BadInput if `keep_parent_files` is set without a parent.
    """
    files = encoded(new.files)
    if new.keep_parent_files:
        if new.parent is None:
            raise BadInput("keep_parent_files needs a `parent`")
        given = {file.path for file in files}
        parent = await read_snapshot(platform, new.parent, aar.team)
        files += [file for file in parent.files if file.path not in given]
    return NewSnapshot(name=new.name, message=new.message, parent=new.parent, files=files)


def code_files(content: SnapshotContent) -> list[CodeFile]:
    """List every file, with its text if it is UTF-8 and at most SHOWN_BYTES long."""
    return [_shown(file) for file in content.files]


def _shown(file: SnapshotFile) -> CodeFile:
    raw = base64.b64decode(file.content_b64)
    if len(raw) > SHOWN_BYTES:
        return CodeFile(path=file.path, text=None, omitted="too large", n_bytes=len(raw))
    try:
        return CodeFile(path=file.path, text=raw.decode(), n_bytes=len(raw))
    except UnicodeDecodeError:
        return CodeFile(path=file.path, text=None, omitted="binary", n_bytes=len(raw))

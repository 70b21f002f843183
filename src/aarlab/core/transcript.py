"""`transcript.jsonl` in an AAR's folder: what a language-model AAR read, said and did.

There is one entry per line, appended and never changed. A last line cut by a crash is dropped on
reading. The AAR's supervisor writes the file; the dashboard, the report and people read it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, FiniteFloat, ValidationError

from aarlab.core.errors import Damaged
from aarlab.core.wire import Wire

EntryKind = Literal[
    "system", "user", "assistant", "tool_call", "tool_result", "operator", "note", "error"
]


class TranscriptEntry(Wire):
    """`session` counts fresh contexts from 1, `turn` model calls from 1 over all sessions."""

    seq: int
    at: str
    session: int
    turn: int
    kind: EntryKind
    text: str
    tool: str | None = None
    call: str | None = Field(default=None, description="joins a tool_result to its tool_call")
    tokens: dict[str, int] = Field(default={}, description="by kind, of the call")
    dollars: FiniteFloat | None = None


def read_transcript(path: Path) -> Iterator[TranscriptEntry]:
    """Yield the entries in order; none if there is no file.

    Raises Damaged naming a line that is not an entry.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield TranscriptEntry.model_validate_json(line)
            except ValidationError as error:
                raise Damaged(f"{path}:{number} is not a transcript entry ({error})") from error


def call_text(arguments: str) -> str:
    """Return the arguments of a tool call, one per line; texts of several lines keep them."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(given, dict):
        return arguments
    return "\n".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in given.items()
    )

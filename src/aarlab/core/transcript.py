"""`transcript.jsonl` in an AAR's folder: what a language-model AAR was told, said and did.

One entry a line, appended and never changed; a last line cut by a crash is dropped on reading.
Written by the AAR's supervisor, read by the dashboard, the report and people.
"""

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
    """Entries in order; nothing where there is no file; Damaged names the line that is none."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield TranscriptEntry.model_validate_json(line)
            except ValidationError as error:
                raise Damaged(f"{path}:{number} is no transcript entry ({error})") from error

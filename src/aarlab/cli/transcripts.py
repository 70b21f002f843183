"""A transcript on a terminal: a heading for each entry, long texts cut to their beginning."""

from pathlib import Path

from pydantic import ValidationError
from rich.text import Text

from aarlab.cli.terminal import Console
from aarlab.core.showing import one_line
from aarlab.core.transcript import EntryKind, TranscriptEntry, call_text

SHOWN_LINES, SHOWN_CHARS = 16, 2_000
TAIL = 2**18
HEADINGS: dict[EntryKind, str] = {
    "system": "system prompt",
    "user": "reads",
    "assistant": "says",
    "tool_call": "calls",
    "tool_result": "gets",
    "operator": "gets a message of the operator",
    "note": "(note of the platform)",
    "error": "(error)",
}


def print_entry(out: Console, entry: TranscriptEntry, whole: bool) -> None:
    """Print one entry; an answer without words is left out, since its calls follow."""
    text = entry.text if entry.kind != "tool_call" else call_text(entry.text)
    if entry.kind == "assistant" and not text.strip():
        return
    tool = f" {entry.tool}" if entry.tool else ""
    out.print(Text(f"turn {entry.turn} {HEADINGS[entry.kind]}{tool}", style="bold"))
    loud = whole or entry.kind in ("assistant", "operator")
    for line in (text if loud else shortened(text)).split("\n"):
        out.print(f"    {line}")


def last_entry(path: Path) -> TranscriptEntry | None:
    """Return the newest entry; None without one, or where it is longer than TAIL bytes."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().split(b"\n")[:-1]
        return TranscriptEntry.model_validate_json(lines[-1]) if lines else None
    except (OSError, ValidationError):
        return None


def in_short(entry: TranscriptEntry) -> str:
    """Return one line: the tool, or the beginning of what was said."""
    return f"{HEADINGS[entry.kind]} {entry.tool or one_line(entry.text[:60])}"


def shortened(text: str) -> str:
    """Return the beginning of a text, and how much of it is left out."""
    lines = text[:SHOWN_CHARS].split("\n")[:SHOWN_LINES]
    shown = "\n".join(lines)
    left = len(text) - len(shown)
    return shown if left <= 0 else f"{shown}\n... ({left:,} more characters: --whole)"

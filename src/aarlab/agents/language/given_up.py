"""The last entry of a transcript whose AAR the campaign has given up."""

import json
from pathlib import Path

from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.core.clock import now_iso
from aarlab.core.files import write_atomic
from aarlab.core.transcript import TranscriptEntry

PRIVATE = 0o600


def note_given_up(home: Path, text: str) -> None:
    """Add an `error` entry; the AAR's process must not be running.

    The entry is counted in `loop.json` where there is one, as one of the AAR's own would be, so
    that an AAR that is resumed later continues the numbers. Without it the AAR never began, and its
    own first entry is number 1: this one is 0.
    """
    loop, transcript = home / "loop.json", home / "transcript.jsonl"
    if loop.exists():
        state = json.loads(loop.read_text(encoding="utf-8"))
        place = {"session": state["session"], "turn": state["turn"]}
        seq = state["entries"] + 1
    else:
        last = TranscriptWriter(transcript).last
        state, place, seq = None, {"session": 1, "turn": 0}, last + 1 if last else 0
    entry = TranscriptEntry(seq=seq, at=now_iso(), kind="error", text=text, **place)
    if state is not None:
        kept = [*state["outbox"], entry.model_dump(mode="json")]
        write_atomic(loop, json.dumps({**state, "entries": seq, "outbox": kept}) + "\n", PRIVATE)
        TranscriptWriter(transcript).add([TranscriptEntry.model_validate(one) for one in kept])
        return
    with transcript.open("a", encoding="utf-8") as out:
        out.write(entry.model_dump_json(exclude_defaults=True) + "\n")

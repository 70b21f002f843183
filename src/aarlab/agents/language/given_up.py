"""The last transcript entry of an AAR that the campaign has given up."""

import json
from pathlib import Path

from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.core.clock import now_iso
from aarlab.core.files import write_atomic
from aarlab.core.transcript import TranscriptEntry

PRIVATE = 0o600


def note_given_up(home: Path, text: str) -> None:
    """Add an `error` entry to the transcript. The AAR's process must not be running.

    Where `loop.json` exists, the entry is counted there like one of the AAR's own, so that an AAR
    that is resumed later continues the numbering. Without `loop.json` the entry follows the last
    one of the transcript. In an empty transcript it has number 0, since the AAR's own first entry
    is number 1.
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

"""Writer of `transcript.jsonl`: whole lines, each entry once, a torn last line taken off first.

It also writes the last transcript entry of an AAR that the campaign has given up.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from aarlab.core.clock import now_iso
from aarlab.core.files import write_atomic
from aarlab.core.transcript import TranscriptEntry, read_transcript

BLOCK = 1 << 16


class TranscriptWriter:
    """One per process; `last` is the number of the last whole entry, `turn` the turn it is of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        repair(path)
        self.last = self.turn = 0
        for entry in read_transcript(path):
            self.last, self.turn = entry.seq, entry.turn

    def add(
        self, entries: Sequence[TranscriptEntry], ready: Callable[[], None] = lambda: None
    ) -> None:
        """Append those that are not there yet; on disk when this returns.

        `ready` is called before the first byte is written.
        """
        fresh = [entry for entry in entries if entry.seq > self.last]
        if not fresh:
            return
        text = "".join(entry.model_dump_json(exclude_defaults=True) + "\n" for entry in fresh)
        ready()
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        self.last = fresh[-1].seq


def repair(path: Path) -> None:
    """Take off what follows the last end of line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                end = start + cut + 1
                break
            end = start
        if end < size:
            file.truncate(end)


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

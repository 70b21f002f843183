"""Check of the hash chain on the page, one part at a time, from the last checked entry on.

Covered: an entry that was changed, removed or moved unnoticed; the exported heads.
Not covered: entries that were changed after they were checked; `again` starts from the first one.
`aarlab log verify` also compares the tables with the log.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from aarlab.core.errors import AarlabError
from aarlab.core.hashing import GENESIS, next_hash
from aarlab.core.wire import LogRecord
from aarlab.server.platform import Platform
from aarlab.store import heads, log

PART = 4000
FILE = "heads.jsonl"


@dataclass(frozen=True, slots=True)
class Checked:
    """`fault` names the first entry that does not fit."""

    seq: int = 0
    hash: str = GENESIS
    head: int = 0
    heads: int = 0
    fault: str = ""

    @property
    def done(self) -> bool:
        return self.seq >= self.head or bool(self.fault)


class LogCheck:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.state = Checked()
        self._turn = asyncio.Lock()

    async def step(self, again: bool = False) -> Checked:
        """Check the next part; what was found wrong stays wrong until `again`."""
        async with self._turn:
            before = Checked() if again else self.state
            if before.fault:
                return before
            async with self._platform.store.database.read() as tx:
                head = await log.head(tx)
                part = await log.entries(tx, before.seq, PART)
            self.state = await asyncio.to_thread(self._through, before, part, head.seq)
            return self.state

    def _through(self, before: Checked, part: Sequence[LogRecord], head: int) -> Checked:
        signed, fault = self._signed()
        seq, previous, met = before.seq, before.hash, before.heads
        for entry in part:
            if fault:
                break
            if (fault := link_fault(previous, seq + 1, entry)) == "":
                seq, previous = entry.seq, entry.hash
                if seq in signed:
                    met += 1
                    wrong = signed[seq] != previous
                    fault = f"entry {seq} is not the one of its signed head" if wrong else ""
        if not fault and signed and max(signed) > head:
            fault = f"a signed head is of entry {max(signed)}, but the log ends at {head}"
        return Checked(seq, previous, head, met, fault)

    def _signed(self) -> tuple[dict[int, str], str]:
        """Return the exported heads by entry, and what is wrong with them."""
        run = self._platform.settings.run_dir
        path = run.heads / FILE
        try:
            found = heads.read_heads([path], heads.read_public_key(run.public_key))
        except OSError:
            return {}, ""  # none was exported yet
        except AarlabError as error:
            return {}, str(error)
        return {head.seq: head.hash for head in found}, ""


def link_fault(previous: str, seq: int, entry: LogRecord) -> str:
    """Return what is wrong with an entry after the hash before it; empty if it fits."""
    if entry.seq != seq:
        return f"entry {seq} is missing: number {entry.seq} is in its place"
    try:
        wanted = next_hash(previous, seq, entry.kind, entry.at, entry.body)
    except ValueError:
        wanted = ""
    return "" if wanted == entry.hash else f"entry {seq} ({entry.kind}) does not match its hash"


def shown(body: dict[str, object]) -> str:
    return json.dumps(body, ensure_ascii=False)

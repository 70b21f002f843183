"""What each AAR is doing now, and what it has used of its budget."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aarlab.core.clock import parse_iso
from aarlab.core.ledger import dollars_of, tokens_of
from aarlab.core.transcript import TranscriptEntry
from aarlab.core.wire import NewAar, SessionRecord
from aarlab.server.dashboard.memory import Memory, kind_of
from aarlab.store.overview import Sent

MAX_SHOWN = 160
STUCK_AFTER = timedelta(minutes=20)
Facts = dict[str, Any]


def doing(entry: TranscriptEntry | None, last: Sent | None) -> Facts:
    """The newest line of a transcript, else the newest submission, as one short line."""
    if entry is not None:
        text = {
            "tool_call": f"{entry.tool}: {entry.text}",
            "tool_result": f"read the answer of {entry.tool or 'a tool'}",
            "assistant": entry.text,
            "operator": f"message of a person: {entry.text}",
        }.get(entry.kind, f"{entry.kind}: {entry.text}")
        tool = entry.tool if entry.kind == "tool_call" else None
        return {"at": entry.at, "tool": tool, "text": " ".join(text[:400].split())[:MAX_SHOWN]}
    if last is not None:
        return {"at": last.at, "tool": None, "text": f"submitted {last.method}"[:MAX_SHOWN]}
    return {"at": None, "tool": None, "text": ""}


def budget(aar: NewAar, memory: Memory, submissions: int) -> list[Facts]:
    """What is limited or used, with the share of the limit from 0 to 1."""
    spent = memory.spend.get(aar.name, {})
    dollars = dollars_of(spent, memory.budget.device_dollars_per_hour)
    limits, hours = aar.limits, memory.research_s.get(aar.name, 0.0) / 3600
    rows = (
        ("submissions", float(submissions), limits.submissions),
        ("hours", hours, limits.hours),
        ("dollars", dollars, limits.dollars),
        ("tokens", tokens_of(spent), limits.tokens),
        ("device seconds", spent.get("device_s", 0.0), limits.device_s),
    )
    return [
        {"what": what, "used": used, "limit": limit, "share": used / limit if limit else None}
        for what, used, limit in rows
        if limit is not None or used
    ]


def last_seen(sessions: list[SessionRecord]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for session in sessions:
        seen[session.aar] = max(seen.get(session.aar, ""), session.last_seen_at)
    return seen


def is_stuck(aar: NewAar, seen: str | None, shares: list[Facts], wanted: str) -> bool:
    """A researcher of a running campaign that nothing was heard of, with budget left."""
    if seen is None or wanted != "run" or kind_of(aar) in ("human", "guard"):
        return False
    used_up = any(row["share"] is not None and row["share"] >= 1 for row in shares)
    return not used_up and datetime.now(UTC) - parse_iso(seen) > STUCK_AFTER

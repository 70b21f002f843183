"""What each AAR is doing now, what it has used of its budget, and which alerts need a person.

Alerts come from the events of the run and from the store.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aarlab.core.clock import parse_iso
from aarlab.core.endings import AarEnding, Ending
from aarlab.core.ledger import dollars_of, tokens_of
from aarlab.core.showing import moment
from aarlab.core.transcript import TranscriptEntry
from aarlab.core.wire import NewAar, SessionRecord
from aarlab.server.dashboard import run_files
from aarlab.server.dashboard.memory import Memory, kind_of
from aarlab.server.dashboard.run_files import Disk
from aarlab.store.overview import Sent

MAX_SHOWN = 160
STUCK_AFTER = timedelta(minutes=20)
Facts = dict[str, Any]


def doing(entry: TranscriptEntry | None, last: Sent | None) -> Facts:
    """Return the newest line of a transcript, else the newest submission, as one short line."""
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
    """Return what is limited or used, with the share of the limit from 0 to 1."""
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


def steering(
    role: str, wanted: str, wanted_of_all: str, ended: AarEnding | None, state: str
) -> tuple[list[str], str]:
    """Return what a person can still ask of an AAR, and why not more.

    `wanted` is what is wanted of the AAR, `wanted_of_all` of the whole campaign. The stricter
    counts. `state` is the campaign's, as in `run_files.standing`.
    """
    if role not in ("language", "control"):
        return [], "Baselines are not steered."
    going = state == "running"
    over = Ending(state) if state in {ending.value for ending in run_files.ENDED} else None
    ending = ended.ending if ended else over
    if "stop" in (wanted, wanted_of_all) or ending is Ending.STOPPED:
        return [], "It was stopped permanently and cannot be steered any more."
    if ending is Ending.GIVEN_UP:
        return [], "It was given up. Once the cause is removed, `aarlab campaign resume` starts it."
    if ending is not None:
        then = "continues" if going else "continues when the campaign is resumed"
        return ["extend"], (
            f"It has ended ({ending.words}), so it cannot be paused, stopped or written to. With "
            f"more budget it {then}."
        )
    later = "" if going else "The campaign is not running. This takes effect when it is resumed."
    if wanted_of_all == "pause":
        paused = "It is paused with the whole campaign, and continues when all are resumed. "
        return ["stop", "message", "extend"], (paused + later).rstrip()
    return ["resume" if wanted == "pause" else "pause", "stop", "message", "extend"], later


def last_seen(sessions: list[SessionRecord]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for session in sessions:
        seen[session.aar] = max(seen.get(session.aar, ""), session.last_seen_at)
    return seen


def is_stuck(aar: NewAar, seen: str | None, shares: list[Facts], wanted: str) -> bool:
    """Return whether an AAR of a running campaign fell silent with budget left.

    People and guards are never stuck.
    """
    if seen is None or wanted != "run" or kind_of(aar) in ("human", "guard"):
        return False
    used_up = any(row["share"] is not None and row["share"] >= 1 for row in shares)
    return not used_up and datetime.now(UTC) - parse_iso(seen) > STUCK_AFTER


NEAR, LITTLE_BYTES, LITTLE_SHARE = 0.9, 2 << 30, 0.05
MAX_ALERTS = 20

GRAVITY = {"grave": 0, "warn": 1, "note": 2}


def alerts(
    aars: Sequence[Facts], memory: Memory, events: Sequence[Facts], disk: Disk
) -> list[Facts]:
    """Return the alerts, gravest first.

    Each has `gravity`, `kind`, `text`, and a path to look at.
    """
    found = [*_of_disk(disk), *_of_audits(memory), *_of_runs(memory), *_of_events(events)]
    for aar in aars:
        path = f"/aars/{aar['name']}"
        if aar["stuck"]:
            since = moment(aar["seen"])
            text = f"{aar['name']} has budget left, and has not been seen since {since}"
            found.append(_alert("warn", "stuck", text, path))
        found += _of_budget(aar, path)
    return sorted(found, key=lambda a: GRAVITY[a["gravity"]])[:MAX_ALERTS]


def _of_budget(aar: Facts, path: str) -> list[Facts]:
    return [
        _alert(
            "note" if row["share"] >= 1 else "warn",
            "budget",
            f"{aar['name']} has used {row['share']:.0%} of its {row['what']}",
            path,
        )
        for row in aar["budget"]
        if row["share"] is not None
        and row["share"] >= NEAR
        and aar["role"] in ("language", "control")
    ]


def _of_audits(memory: Memory) -> list[Facts]:
    open_ones = [
        snapshot
        for snapshot in memory.audits_of
        if snapshot
        and memory.decision(snapshot) is None
        and any(a.severity == "suspect" for a in memory.audits_for(snapshot))
    ]
    about_aars = [
        memory.audits[number].kind
        for number in memory.audits_of.get("", [])
        if memory.audits[number].severity == "suspect"
        and memory.audits[number].id not in memory.cases_of
    ]
    waiting = (
        ("suspect method", open_ones),
        ("suspect series of submissions", [k for k in about_aars if k != "transcript"]),
        ("suspect transcript", [k for k in about_aars if k == "transcript"]),
    )
    return [
        _alert("grave", "audit", f"{_many(what, len(those))} for a verdict", "/audits")
        for what, those in waiting
        if those
    ]


def _many(what: str, n: int) -> str:
    return f"a {what} waits" if n == 1 else f"{n} {what}{'' if what.endswith('s') else 's'} wait"


def _of_runs(memory: Memory) -> list[Facts]:
    failed = [run for run in memory.runs.values() if run.state == "failed"]
    if not failed:
        return []
    last = failed[-1]
    many = f"{len(failed)} re-runs failed, last" if len(failed) > 1 else "a re-run failed:"
    text = f"{many} {memory.names[last.snapshot]} on {last.task}"
    return [_alert("warn", "verification", text, f"/methods/{last.snapshot}")]


def _of_events(events: Sequence[Facts]) -> list[Facts]:
    found = []
    for event in events:
        if event["kind"] == "alert" and event.get("what") in ("crashing", "silent"):
            about, when = str(event.get("about", ""))[:64], moment(event["at"])
            text = f"{about}: {event.get('text', '')} ({when})"[:300]
            found.append(_alert("warn", str(event["what"]), text, "/"))
        if event["kind"] == "alert" and event.get("what") == "webhook":
            text = f"{event.get('text', '')} ({moment(event['at'])})"[:300]
            found.append(_alert("warn", "webhook", text, "/"))
        if event["kind"] in ("process_failed", "process_crashed", "process_restarted"):
            given_up = event["kind"] == "process_failed"
            done = {
                "process_failed": "was given up after crashes",
                "process_crashed": "crashed and is started again",
                "process_restarted": "was started again",
            }[event["kind"]]
            when, last = moment(event["at"]), str(event.get("last", ""))
            text = (
                f"{event.get('process', 'a process')} {done} ({when}){': ' if last else ''}{last}"
            )
            found.append(_alert("grave" if given_up else "note", "process", text[:400], "/"))
    return found[-5:]


def _of_disk(disk: Disk) -> list[Facts]:
    little = disk.free_bytes < LITTLE_BYTES or disk.free_bytes < LITTLE_SHARE * disk.total_bytes
    if not little:
        return []
    text = f"{disk.free_bytes / 2**30:.1f} GiB left: nothing can be written when it is full"
    return [_alert("grave", "disk", text, "/")]


def _alert(gravity: str, kind: str, text: str, path: str) -> Facts:
    return {"gravity": gravity, "kind": kind, "text": text, "path": path}

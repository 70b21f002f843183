"""What wants a person's look now: from the events of the run, and worked out from the store."""

from collections.abc import Sequence
from typing import Any

from aarlab.server.dashboard.memory import Memory
from aarlab.server.dashboard.run_files import Disk

NEAR, LITTLE_BYTES, LITTLE_SHARE = 0.9, 2 << 30, 0.05
MAX_SHOWN = 20
Facts = dict[str, Any]
GRAVITY = {"grave": 0, "warn": 1, "note": 2}


def alerts(
    aars: Sequence[Facts], memory: Memory, events: Sequence[Facts], disk: Disk
) -> list[Facts]:
    """Gravest first; each has `gravity`, `kind`, `text`, and a path to look at."""
    found = [*_of_disk(disk), *_of_audits(memory), *_of_runs(memory), *_of_events(events)]
    for aar in aars:
        path = f"/aars/{aar['name']}"
        if aar["stuck"]:
            since = aar["seen"][:16].replace("T", " ")
            text = f"{aar['name']} has budget left, and nothing was heard of it since {since}"
            found.append(_alert("warn", "stuck", text, path))
        found += _of_budget(aar, path)
    return sorted(found, key=lambda a: GRAVITY[a["gravity"]])[:MAX_SHOWN]


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
        number
        for number in memory.audits_of.get("", [])
        if memory.audits[number].severity == "suspect"
        and memory.audits[number].id not in memory.cases_of
    ]
    waiting = (("suspect method", open_ones), ("suspect series of submissions", about_aars))
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
            about, when = str(event.get("about", ""))[:64], event["at"][:16].replace("T", " ")
            text = f"{about}: {event.get('text', '')} ({when})"[:300]
            found.append(_alert("warn", str(event["what"]), text, "/"))
        if event["kind"] in ("process_failed", "process_crashed", "process_restarted"):
            given_up = event["kind"] == "process_failed"
            done = {
                "process_failed": "was given up after crashes",
                "process_crashed": "crashed and is started again",
                "process_restarted": "was started again",
            }[event["kind"]]
            when, last = event["at"][:16].replace("T", " "), str(event.get("last", ""))
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

"""Where a campaign stands and how its AARs ended.

Both are read from the platform's figures and the files in each AAR's folder.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from pydantic import Field, FiniteFloat

from aarlab.agents.language.redaction import cleaner
from aarlab.agents.language.transcripts import note_given_up
from aarlab.agents.state import how_it_ended, load_state
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.watch import Certified, last_certified, queued_jobs, used_of
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.endings import AarEnding, Ending, ending_of, last_ending, plain_reason
from aarlab.core.errors import AarlabError
from aarlab.core.files import write_atomic
from aarlab.core.holding import holder
from aarlab.core.layout import RunDir
from aarlab.core.ledger import HOUR_S, dollars_per_hour
from aarlab.core.wire import AarRecord, Verification, Wanted, Wire
from aarlab.core.wire_ledger import CampaignBudget, CampaignLimits, Control, Limits, OperatorSpend
from aarlab.core.wire_verifiers import Lease


def endings(run: RunDir, spec: CampaignSpec, records: Sequence[AarRecord]) -> list[AarEnding]:
    """Return the endings of all AARs that have ended or were given up, in the order of the spec."""
    known = {record.name: record for record in records}
    found = (
        how_it_ended(run, aar.name) or _guest(spec, aar, known.get(aar.name)) for aar in spec.aars
    )
    return [each for each in found if each is not None]


def _guest(spec: CampaignSpec, aar: AarSpec, record: AarRecord | None) -> AarEnding | None:
    return guest_ending(record) if record is not None and spec.joins_by_itself(aar) else None


def guest_ending(aar: AarRecord) -> AarEnding | None:
    """Return the ending of an agent that joined by itself, or None while it may continue."""
    why = guest_over(aar)
    return None if why is None else AarEnding(aar=aar.name, ending=ending_of(why), why=why)


def guest_over(aar: AarRecord) -> str | None:
    """Return why an agent that joined by itself has ended, or None while it may continue.

    It ends when the operator stops it, or when its limit of hours since its first call is used up.
    """
    if aar.wanted == "stop":
        return "stopped by the operator"
    if aar.limits.hours is None or aar.started_at is None:
        return None
    since_s = (parse_iso(now_iso()) - parse_iso(aar.started_at)).total_seconds()
    over = since_s >= aar.limits.hours * HOUR_S
    return f"its {aar.limits.hours:g} hours are used up" if over else None


def give_up(run: RunDir, child: Child) -> AarEnding:
    """Record in an AAR's folder and transcript why its process is not restarted any more."""
    why = why_it_died(run, child)
    made = AarEnding(aar=child.name, ending=Ending.GIVEN_UP, why=why, at=now_iso())
    write_atomic(run.given_up(child.name), made.model_dump_json(indent=1) + "\n")
    if run.transcript(child.name).exists() or _is_language(run, child.name):
        text = f"given up by the campaign after {child.crashes} crashes in a row: {why}"
        # Where its transcript is damaged, `given_up.json` and the events have it.
        with suppress(AarlabError, OSError, ValueError, KeyError):
            note_given_up(run.aar(child.name), text)
    return made


def _is_language(run: RunDir, name: str) -> bool:
    try:
        return bool(
            json.loads((run.aar(name) / "aar.json").read_text(encoding="utf-8")).get("language")
        )
    except (OSError, ValueError, AttributeError):
        return False


def why_it_died(run: RunDir, child: Child) -> str:
    """Return the message of the AAR's last error in one line.

    Without one, returns how its process ended and the last line of its log.
    """
    try:
        error = json.loads(run.aar_error(child.name).read_text(encoding="utf-8"))
        said = str(error["message"])
    except (OSError, ValueError, KeyError, TypeError):
        last = child.last_words(1)
        said = f"{child.died_of}: {last}" if last else child.died_of
    return plain_reason(cleaner([])(said)) or "its process died without an error message"


ACTIVE_S = 120.0
LINE_BYTES = 1_000_000


class AarStatus(Wire):
    """`done` counts trials of a control researcher, turns of a language model."""

    name: str
    arm: str
    replicate: int
    researcher: str
    state: str
    ending: Ending | None = None
    last_seen_at: str | None
    done: int
    submissions: int
    hours: FiniteFloat
    waiting_h: FiniteFloat = 0.0
    tokens: FiniteFloat
    dollars: FiniteFloat
    dollars_per_hour: FiniteFloat | None
    left: Limits


class RerunStatus(Wire):
    """A re-run that is not settled; `pod` does it since `since`, "" where it waits."""

    run: str
    method: str
    task: str
    ablation: str
    pod: str = ""
    since: str = ""


class CampaignStatus(Wire):
    """`operator_spend` is in none of the other figures."""

    running: bool
    wanted: Wanted
    ending: Ending | None = Field(default=None, description="None: it runs, or never started")
    why: str = Field(default="", description="what it died of, or which AARs were given up and why")
    aars: list[AarStatus]
    hours: FiniteFloat
    tokens: FiniteFloat
    dollars: FiniteFloat
    dollars_per_hour: FiniteFloat | None
    left: CampaignLimits
    operator_spend: list[OperatorSpend]
    certify: list[Certified] = Field(default=[], description="the last score of each task")
    reruns: list[RerunStatus] = Field(default=[], description="that are not settled")


class Figures(Protocol):
    """Source of a status: the operator's client, or figures from the database (campaign.stored)."""

    def budget(self) -> CampaignBudget: ...
    def aars(self) -> list[AarRecord]: ...
    def controls(self) -> list[Control]: ...
    def operator_spend(self) -> list[OperatorSpend]: ...
    def verifications(self, state: str) -> list[Verification]: ...
    def leases(self) -> list[Lease]: ...


def is_running(run: RunDir) -> bool:
    """Return whether a process is running this campaign now, without taking the lock."""
    held = holder(run.holder)
    return held is not None and held.work == "run"


def wanted_of(controls: Sequence[Control]) -> Wanted:
    """Return what is wanted of the whole campaign."""
    states: dict[str, Wanted] = {"pause": "pause", "resume": "run", "stop": "stop"}
    steering = [c.action for c in controls if c.aar is None and c.action in states]
    return states[steering[-1]] if steering else "run"


def status_of(run: RunDir, operator: Figures, running: bool) -> CampaignStatus:
    budget, records = operator.budget(), operator.aars()
    rate = budget.device_dollars_per_hour
    amounts = [used_of(aar, rate) for aar in records]
    total = {
        name: sum(each[name] for each in amounts)
        for name in ("hours", "tokens", "dollars", "device_s")
    }
    ended = None if running else last_ending(run.events)
    queued = queued_jobs(run) if running else {}
    return CampaignStatus(
        running=running,
        wanted=wanted_of(operator.controls()),
        ending=ended[0] if ended else None,
        why=ended[1] if ended else "",
        aars=[_aar(run, aar, rate, running, queued.get(aar.name)) for aar in records],
        hours=total["hours"],
        tokens=total["tokens"],
        dollars=total["dollars"],
        dollars_per_hour=dollars_per_hour(total["dollars"], sum(aar.research_s for aar in records)),
        left=CampaignLimits.model_validate(_left(budget.limits, total)),
        operator_spend=operator.operator_spend(),
        certify=last_certified(run),
        reruns=_reruns(operator),
    )


def _reruns(operator: Figures) -> list[RerunStatus]:
    held = {lease.run: lease for lease in operator.leases()}
    found = []
    for one in operator.verifications("queued"):
        lease = held.get(one.id)
        where = {} if lease is None else {"pod": lease.pod, "since": lease.since}
        facts = one.model_dump(include={"method", "task", "ablation"})
        found.append(RerunStatus(run=one.id, **facts, **where))
    return found


def _aar(run: RunDir, aar: AarRecord, rate: float, running: bool, job: str | None) -> AarStatus:
    amounts, ended = used_of(aar, rate), how_it_ended(run, aar.name)
    if ended is None and aar.isolation == "none":  # it has no process of ours
        ended = guest_ending(aar)
    return AarStatus(
        name=aar.name,
        arm=aar.arm,
        replicate=aar.replicate,
        researcher=aar.researcher,
        state=ended.words if ended else _state(aar, running, job),
        ending=ended.ending if ended else None,
        last_seen_at=aar.last_seen_at,
        done=_done(run, aar),
        submissions=aar.submissions,
        hours=amounts["hours"],
        waiting_h=aar.waiting_s / HOUR_S,
        tokens=amounts["tokens"],
        dollars=aar.dollars,
        dollars_per_hour=aar.dollars_per_hour,
        left=Limits.model_validate(
            _left(aar.limits, {**amounts, "submissions": float(aar.submissions)})
        ),
    )


def _left(limits: Limits | CampaignLimits, amounts: dict[str, float]) -> dict[str, float]:
    return {
        name: max(limit - amounts[name], 0)
        for name, limit in limits
        if limit is not None and name in amounts
    }


def _state(aar: AarRecord, running: bool, job: str | None) -> str:
    """Return the status text of an AAR that has not ended; `job` waits in its engine's queue."""
    if job is not None:
        return f"in the queue, job {job}"
    if aar.last_seen_at is None:
        return "not started"
    if not running:
        return "interrupted"
    if aar.wanted != "run":
        return {"pause": "paused", "stop": "stopping"}[aar.wanted]
    if aar.waiting_for:
        return f"waits for {aar.waiting_for}"
    silent = parse_iso(now_iso()) - parse_iso(aar.last_seen_at)
    return "working" if silent < timedelta(seconds=ACTIVE_S) else "working, silent"


def _done(run: RunDir, aar: AarRecord) -> int:
    transcript = run.transcript(aar.name)
    if transcript.exists():
        return int(_last_entry(transcript).get("turn", 0))
    return len(load_state(run.aar(aar.name) / "state.json").done)


def _last_entry(path: Path) -> dict[str, int]:
    """Return a transcript's last whole line, however long; empty where there is none."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - LINE_BYTES, 0))
        lines = file.read().split(b"\n")[:-1]
    try:
        entry: dict[str, int] = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return entry

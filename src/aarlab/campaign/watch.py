"""Alerts while a campaign runs, its events, and what became of the last score of each task.

Alerts are worked out from what the platform says. An alert holds as long as its cause does; the
supervisor reports it once and forgets it afterwards.

`events.jsonl` has what happened to a campaign, one JSON object per line. What became of the last
score of each task is read from these events.

Light on purpose: `campaign status` reads it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import FiniteFloat

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.layout import RunDir
from aarlab.core.ledger import used
from aarlab.core.verdicts import is_ranking_run
from aarlab.core.wire import AarRecord, Audit, Name, Verification, Wire
from aarlab.core.wire_ledger import CampaignBudget

if TYPE_CHECKING:
    from aarlab.campaign.spec import AlertSpec, CampaignSpec


GB = 2**30


class Alert(NamedTuple):
    """`aar` and the kind of `audit` are set where `about` is the id of an audit."""

    what: str  # crashing, account, waiting, silent, budget, budget_reached, audit, disk
    about: str
    text: str
    aar: str = ""
    audit: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """Return the facts of its event."""
        known = {"aar": self.aar, "audit": self.audit} if self.aar else {}
        return {"what": self.what, "about": self.about, **known, "text": self.text}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a running campaign.

    `crashes` are those of the AARs whose process is up. `judged` are the snapshots and audits that
    a person has given a verdict on.
    """

    now: str
    aars: Sequence[AarRecord]
    audits: Sequence[Audit]
    budget: CampaignBudget
    crashes: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int = 2**62
    judged: Set[str] = frozenset()


def alerts(look: Look, spec: "AlertSpec") -> Iterator[Alert]:
    for name, crashes in look.crashes.items():
        if crashes >= spec.crashes:
            yield Alert("crashing", name, f"its process died {crashes} times")
    yield from _waiting(look, spec)
    yield from _silent(look, spec)
    yield from _budgets(look, spec)
    for audit in look.audits:
        if audit.severity == "suspect" and not {audit.id, audit.snapshot} & look.judged:
            yield Alert("audit", audit.id, audit.summary, audit.aar, audit.kind)
    if look.free_bytes < spec.free_disk_gb * GB:
        yield Alert("disk", "", f"{look.free_bytes / GB:.1f} GB are free")


def _waiting(look: Look, spec: "AlertSpec") -> Iterator[Alert]:
    """Yield alerts for AARs that wait for an account or because of an overload.

    An account problem is reported at once, in one alert for all AARs waiting for it. Any other
    wait is reported once it exceeds `silent_minutes`.
    """
    accounts: dict[str, list[str]] = {}
    for aar in look.aars:
        if aar.name not in look.crashes or aar.waiting_since is None:
            continue
        kind, _, note = aar.waiting_for.partition(": ")
        minutes = (parse_iso(look.now) - parse_iso(aar.waiting_since)).total_seconds() / 60
        if kind == "account":
            accounts.setdefault(note, []).append(aar.name)
        elif minutes > spec.silent_minutes:
            yield Alert("waiting", aar.name, f"for {minutes:.0f} minutes: {aar.waiting_for}")
    for note, names in accounts.items():
        yield Alert(
            "account",
            note,
            f"{', '.join(names)}: research waits until the account works again: {note}",
        )


def _silent(look: Look, spec: "AlertSpec") -> Iterator[Alert]:
    for aar in look.aars:
        if aar.name not in look.crashes or aar.wanted != "run" or aar.last_seen_at is None:
            continue
        minutes = (parse_iso(look.now) - parse_iso(aar.last_seen_at)).total_seconds() / 60
        if minutes > spec.silent_minutes:
            yield Alert("silent", aar.name, f"no request for {minutes:.0f} minutes")


def _budgets(look: Look, spec: "AlertSpec") -> Iterator[Alert]:
    rate = look.budget.device_dollars_per_hour
    for aar in look.aars:
        if aar.researcher in ("human", "guard"):
            continue  # they run what they were given and end
        amounts = {**used_of(aar, rate), "submissions": float(aar.submissions)}
        yield from _nearly(aar.name, amounts, aar.limits.model_dump(), spec.budget_share)
    each = [used_of(aar, rate) for aar in look.aars]
    total = {name: sum(amounts[name] for amounts in each) for name in (each[0] if each else ())}
    limits = look.budget.limits.model_dump()
    yield from _nearly("the campaign", total, limits, spec.budget_share)


def used_of(aar: AarRecord, device_dollars_per_hour: float) -> dict[str, float]:
    return used(aar.spend, aar.research_s, device_dollars_per_hour)


def _nearly(
    who: str, amounts: Mapping[str, float], limits: Mapping[str, float | None], share: float
) -> Iterator[Alert]:
    for name, amount in amounts.items():
        limit = limits.get(name)
        if limit is not None and amount >= share * limit:
            what = "budget_reached" if amount >= limit else "budget"
            yield Alert(what, f"{who} {name}", f"{amount:.4g} of {limit:g} {name} are used")


def newly_verified(
    runs: Iterable[Verification], spec: "CampaignSpec", known: set[str]
) -> Iterator[dict[str, str]]:
    """Yield the facts of an event `method_verified` for each settled re-run that is not `known`.

    Adds them to `known`. Only re-runs that rank on development tasks are events, and no figure is
    in them.
    """
    for run in runs:
        if run.state == "queued" or run.task not in spec.tasks or not is_ranking_run(run):
            continue
        if run.id not in known:
            known.add(run.id)
            facts = {"aar": run.aar, "snapshot": run.snapshot[:12], "task": run.task}
            yield {"run": run.id, **facts, "state": run.state}


Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class EventLog:
    """Appends to the file and calls `notify`, which draws the progress."""

    path: Path
    notify: Notify

    def add(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"at": now_iso(), "kind": kind, **facts}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        self.notify(kind, facts)


def events_of(run: RunDir, *kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the events of these kinds, oldest first; damaged lines are left out."""
    try:
        lines = run.events.read_bytes().split(b"\n")
    except OSError:
        return
    named = [f'"{kind}"'.encode() for kind in kinds]
    for line in lines:
        if not any(name in line for name in named):
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") in kinds:
            yield event


QUEUED = "process_queued"
LEAVES = tuple(f"process_{what}" for what in ("begun", "finished", "crashed", "failed"))


def queued_jobs(run: RunDir) -> dict[str, str]:
    """Return the job of each AAR that waits in its engine's queue, as far as events say."""
    found = dict[str, str]()
    for event in events_of(run, QUEUED, *LEAVES, "campaign_started"):
        if event["kind"] == "campaign_started":
            found.clear()
        elif event["kind"] == QUEUED:
            found[str(event.get("process"))] = str(event.get("job"))
        else:
            found.pop(str(event.get("process")), None)
    return {aar: job for process, job in found.items() for aar in aars_of(run, process)}


def aars_of(run: RunDir, process: str) -> list[str]:
    """Return the AARs of a process of the campaign: those of a pod, or the one of that name."""
    try:
        made = json.loads((run.pod(process) / "pod.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [process]
    return list(made["aars"])


VERIFIED = "method_verified"
EVENT = "certify"


class Certified(Wire):
    """What became of the certify score of one task, and what it cost.

    `skipped`: there is none, and `why` says why. `seconds` are those of the re-run on the device;
    `dollars` follow from them at the campaign's rate and are in no AAR's spend.
    """

    task: Name
    state: Literal["queued", "done", "failed", "skipped"]
    method: str = ""
    seeds: int = 0
    seconds: FiniteFloat = 0.0
    dollars: FiniteFloat = 0.0
    why: str = ""


def last_certified(run: RunDir) -> list[Certified]:
    """Read the last report of each task from the events; damaged lines are left out."""
    found = dict[str, Certified]()
    for event in events_of(run, EVENT):
        facts = {name: fact for name, fact in event.items() if name not in ("kind", "at")}
        with suppress(ValueError):
            made = Certified.model_validate(facts)
            found[made.task] = made
    return list(found.values())

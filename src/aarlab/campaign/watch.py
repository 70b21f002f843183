"""What the operator is told while a campaign runs: alerts, worked out from what the platform says.

An alert holds as long as its cause does; the supervisor tells it once and forgets it afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aarlab.core.clock import parse_iso
from aarlab.core.ledger import used
from aarlab.core.wire import AarRecord, Audit
from aarlab.core.wire_ledger import CampaignBudget

if TYPE_CHECKING:  # `campaign status` answers at once: it does not load what specs are made of
    from aarlab.campaign.spec import AlertSpec

GB = 2**30


class Alert(NamedTuple):
    what: str  # crashing, account, waiting, silent, budget, audit, disk
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a running campaign. `crashes` are those of the AARs whose process is up, `judged`
    the snapshots and audits that a person has given a verdict on."""

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
            yield Alert("audit", audit.id, f"{audit.aar}: {audit.kind}: {audit.summary}")
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
            yield Alert("budget", f"{who} {name}", f"{amount:.4g} of {limit:g} {name} are used")

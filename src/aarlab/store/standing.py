"""What an AAR has used, what is left to it and to the campaign, and what is wanted of it.

Covered: a recorded call that was reserved with its worst case never passes a cap in dollars or
tokens. Hours, device seconds and submissions stop what comes next once they are used up.
Not covered: a call that its AAR never reported (killed after it was paid); device seconds and
dollars of a run that was under way when the cap was reached.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BudgetExhausted, Conflict, NotFound, TooManyRequests
from aarlab.core.ledger import used as used_amounts
from aarlab.core.wire import Limits, Me, NewAar, Wanted
from aarlab.core.wire_ledger import CampaignBudget, CampaignLimits, NewReservation
from aarlab.store import aars, controls, ledger
from aarlab.store.aars import Usage

HELD_RETRY_S = 2.0
WHOLE = "the campaign"
CAPPED = {
    "hours": "research hours",
    "device_s": "device seconds",
    "dollars": "dollars",
    "tokens": "tokens",
}


class Standing(NamedTuple):
    aar: NewAar
    used: Usage
    budget: CampaignBudget
    used_by_all: Usage | None  # where the campaign has a limit
    wanted: Wanted


class Cap(NamedTuple):
    """One limit of the AAR or of the campaign, and what is used of it."""

    who: str
    field: str
    what: str
    limit: float | None
    used: float


async def standing(tx: AsyncConnection, name: str) -> Standing:
    """Return an AAR's standing. Raises NotFound for an unknown AAR."""
    aar = await aars.get(tx, name)
    if aar is None:
        raise NotFound(f"no AAR {name[:64]!r}")
    budget, capped = await ledger.budget_of_campaign(tx), None
    if budget.limits != CampaignLimits():
        research_s = 0.0 if budget.limits.hours is None else await aars.research_s(tx)
        capped = Usage(0, research_s, await ledger.spent(tx))
    wanted = (await controls.steering(tx, name)).wanted
    return Standing(aar, await aars.usage(tx, name), budget, capped, wanted)


def me(now: Standing) -> Me:
    """Return what the AAR may know: its own figures, and of the campaign's only what is left."""
    aar, used = now.aar, now.used
    left = Limits.model_validate(_left(_own(now)))
    return Me(
        name=aar.name,
        direction=aar.direction,
        limits=aar.limits,
        submissions_made=used.submissions,
        submissions_left=left.submissions,
        research_s=used.research_s,
        spend=used.spend,
        methods_made=used.methods,
        methods_left=left.methods,
        wanted=now.wanted,
        left=left,
        campaign_left=Limits.model_validate(_left(_all(now))) if now.used_by_all else None,
        exhausted=exhausted(now),
    )


def exhausted(now: Standing, besides: tuple[str, ...] = ("methods",)) -> str:
    """Return the first limit that is used up, in words; empty if there is none."""
    for cap in (*_own(now), *_all(now)):
        if cap.limit is not None and cap.used >= cap.limit and cap.field not in besides:
            return f"{cap.who} has used {cap.used:g} of {cap.limit:g} {cap.what}"
    return ""


def check(now: Standing) -> None:
    """Raise BudgetExhausted, naming the limit that is used up.

    An external AAR is steered here, as no supervisor of ours does it: Conflict while it is paused,
    BudgetExhausted once it was stopped.
    """
    if said := exhausted(now):
        raise BudgetExhausted(
            f"{said}: the budget is exhausted; snapshots and findings can still be posted"
        )
    if now.aar.researcher == "external" and now.wanted == "pause":
        raise Conflict(f"{now.aar.name} is paused by the operator: try again later")
    if now.aar.researcher == "external" and now.wanted == "stop":
        raise BudgetExhausted(f"{now.aar.name} was stopped by the operator")


def check_methods(now: Standing) -> None:
    """Raise BudgetExhausted when no request for verification is left."""
    limit, used = now.aar.limits.methods, now.used.methods
    if limit is not None and used >= limit:
        raise BudgetExhausted(
            f"{now.aar.name} has used {used} of {limit} requests for verification: "
            "the budget is exhausted"
        )


async def reserve(tx: AsyncConnection, name: str, new: NewReservation) -> Standing:
    """Hold the worst case of a model call that is about to be made.

    Raises BudgetExhausted where a cap could be passed, TooManyRequests where only what others hold
    just now stands in the way, and BudgetExhausted for an AAR that was stopped. One without a
    submission left may still think: it has something to write up.
    """
    now = await standing(tx, name)
    if said := exhausted(now, besides=("methods", "submissions")):
        raise BudgetExhausted(f"{said}: the budget is exhausted")
    if now.wanted == "stop":
        raise BudgetExhausted(f"{name} was stopped by the operator")
    own, total = await ledger.held(tx, new, name)
    for caps, held in ((_own(now), own), (_all(now), total)):
        for cap in caps:
            _check_fits(cap, new, held)
    await ledger.reserve(tx, name, new)
    return now


def _check_fits(cap: Cap, new: NewReservation, held: ledger.Held) -> None:
    if cap.limit is None or cap.field not in ("dollars", "tokens"):
        return
    asked, others = getattr(new, cap.field), getattr(held, cap.field)
    left = cap.limit - cap.used
    if asked > left:
        raise BudgetExhausted(
            f"{cap.who} has {left:g} of {cap.limit:g} {cap.what} left and this model call may take "
            f"{asked:g}: the budget is exhausted"
        )
    if asked + others > left:
        raise TooManyRequests(
            f"{cap.who} has {left:g} {cap.what} left, but calls under way may take {others:g} of "
            "them: try again when they are recorded",
            HELD_RETRY_S,
        )


def _own(now: Standing) -> Iterator[Cap]:
    limits, used, who = now.aar.limits, now.used, now.aar.name
    yield Cap(who, "submissions", "submissions", limits.submissions, used.submissions)
    yield Cap(who, "methods", "requests for verification", limits.methods, used.methods)
    yield from _caps(who, limits, used, now.budget.device_dollars_per_hour)


def _all(now: Standing) -> Iterator[Cap]:
    if now.used_by_all is not None:
        rate = now.budget.device_dollars_per_hour
        yield from _caps(WHOLE, now.budget.limits, now.used_by_all, rate)


def _caps(who: str, limits: Limits | CampaignLimits, used: Usage, rate: float) -> Iterator[Cap]:
    amounts = used_amounts(used.spend, used.research_s, rate)
    for field, what in CAPPED.items():
        yield Cap(who, field, what, getattr(limits, field), amounts[field])


def _left(caps: Iterator[Cap]) -> dict[str, float | None]:
    left = {c.field: None if c.limit is None else max(c.limit - c.used, 0) for c in caps}
    whole = ("tokens", "submissions", "methods")
    return {k: v if v is None or k not in whole else int(v) for k, v in left.items()}

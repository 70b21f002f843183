"""Steering by people: pause, resume, stop, message, extend, for one AAR or the whole campaign.

Controls are only added, never changed. The latest of pause, resume and stop counts; `stop` is
final. Each is an entry of the log with who asked for it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.hashing import content_hash
from aarlab.core.wire import NewAar, Wanted
from aarlab.core.wire_ledger import (
    MOST,
    CampaignLimits,
    Control,
    Limits,
    NewControl,
    OperatorMessage,
)
from aarlab.store import ledger, log
from aarlab.store.tables import aars, controls

STEERING = ("pause", "resume", "stop")

_about_aar = or_(controls.c.aar.is_(None), controls.c.aar == bindparam("aar"))
_LATEST = select(controls.c.action, controls.c.at).where(
    controls.c.seq.in_(
        select(func.max(controls.c.seq))
        .where(controls.c.action.in_(STEERING), _about_aar)
        .group_by(controls.c.aar)
    )
)

_NEWEST = select(func.max(controls.c.seq))


class Steering(NamedTuple):
    """What is wanted of an AAR, and when it (or all) was last resumed."""

    wanted: Wanted = "run"
    resumed_at: str = ""


async def add(tx: AsyncConnection, aar: str | None, new: NewControl) -> Control:
    """Record, carry out and log a control; `aar` None means the whole campaign.

    Raises NotFound for an unknown AAR, Conflict if a stopped one is to be paused or resumed,
    BadInput for extending a limit that does not exist or beyond the largest one allowed.
    """
    at = now_iso()
    if aar is not None and await tx.scalar(select(aars.c.name).where(aars.c.name == aar)) is None:
        known = (await tx.scalars(select(aars.c.name).order_by(aars.c.name))).all()
        raise NotFound(f"no AAR {aar[:64]!r}; there are {', '.join(known)[:2000]}")
    if new.action in ("pause", "resume") and (await steering(tx, aar)).wanted == "stop":
        raise Conflict(f"{aar or 'the campaign'} was stopped, and a stop is final")
    if new.action == "extend":
        await _extend(tx, aar, new)
    record = new.model_dump(mode="json")
    added = insert(controls).values(aar=aar, action=new.action, at=at, record=record)
    (seq,) = (await tx.execute(added.returning(controls.c.seq))).one()
    made = Control(seq=seq, aar=aar, at=at, **new.model_dump())
    entry = made.model_dump(mode="json", exclude={"text"}, exclude_none=True)
    await log.append(tx, "control", {**entry, "text_sha256": content_hash(new.text)}, at)
    return made


async def _extend(tx: AsyncConnection, aar: str | None, asked: NewControl) -> None:
    given = (asked.add or asked.limits or Limits()).model_dump(exclude_none=True)
    if aar is None:
        if wrong := sorted(set(given) - set(CampaignLimits.model_fields)):
            raise BadInput(f"a campaign has no limit of {', '.join(wrong)}: extend AARs one by one")
        budget = await ledger.budget_of_campaign(tx)
        changes = _added(budget.limits.model_dump(), given) if asked.add else given
        more = budget.limits.model_copy(update=changes)
        await ledger.put_budget(tx, budget.model_copy(update={"limits": more}))
        return
    this = aars.c.name == aar
    record = NewAar.model_validate(await tx.scalar(select(aars.c.record).where(this)))
    changes = _added(record.limits.model_dump(), given) if asked.add else given
    limits = record.limits.model_copy(update=changes)
    extended = record.model_copy(update={"limits": limits}).model_dump(mode="json")
    await tx.execute(update(aars).where(this).values(record=extended))


def _added(limits: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extended limits; raises BadInput if one does not exist or would be too large."""
    if none := sorted(name for name in more if limits[name] is None):
        raise BadInput(f"there is no limit of {', '.join(none)} to extend")
    made = {name: limits[name] + amount for name, amount in more.items()}
    if large := sorted(name for name, amount in made.items() if amount > MOST):
        raise BadInput(f"no limit can be above {MOST:,}: {', '.join(large)}")
    return made


async def steering(tx: AsyncConnection, aar: str | None) -> Steering:
    """Return own and campaign-wide controls together. The stricter counts."""
    rows = (await tx.execute(_LATEST, {"aar": aar})).all()
    actions: set[str | None] = {row.action for row in rows}
    resumed_at = max((row.at for row in rows if row.action == "resume"), default="")
    return Steering(_stricter(actions), resumed_at)


async def wanted(tx: AsyncConnection) -> dict[str, Wanted]:
    """Return what is wanted of each AAR that was ever steered, by itself or with all.

    "" is the campaign. As `steering`, for all at once: the stricter of own and campaign-wide
    counts.
    """
    latest = select(func.max(controls.c.seq)).where(controls.c.action.in_(STEERING))
    rows = await tx.execute(
        select(controls.c.aar, controls.c.action).where(
            controls.c.seq.in_(latest.group_by(controls.c.aar))
        )
    )
    last = {row.aar or "": row.action for row in rows}
    return {aar: _stricter({action, last.get("")}) for aar, action in last.items()}


async def newest(tx: AsyncConnection) -> int:
    """Return the number of the newest control, 0 if there is none."""
    return await tx.scalar(_NEWEST) or 0


def _stricter(actions: set[str | None]) -> Wanted:
    return "stop" if "stop" in actions else "pause" if "pause" in actions else "run"


async def messages(tx: AsyncConnection, aar: str, after: int = 0) -> list[OperatorMessage]:
    """Return what people wrote to this AAR or to all, oldest first."""
    query = select(controls).where(
        controls.c.action == "message", controls.c.seq > after, _about(aar)
    )
    return [
        OperatorMessage(seq=row.seq, at=row.at, by=row.record["by"], text=row.record["text"])
        for row in await tx.execute(query.order_by(controls.c.seq))
    ]


async def listed(tx: AsyncConnection, aar: str | None = None) -> list[Control]:
    """Return all controls, or those that one AAR was meant by, oldest first."""
    query = select(controls).order_by(controls.c.seq)
    query = query if aar is None else query.where(_about(aar))
    return [
        Control(seq=row.seq, aar=row.aar, at=row.at, **row.record)
        for row in await tx.execute(query)
    ]


def _about(aar: str | None) -> ColumnElement[bool]:
    """Return a condition for controls of the campaign, and of the AAR if there is one."""
    return or_(controls.c.aar.is_(None), controls.c.aar == aar)

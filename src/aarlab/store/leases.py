"""Which verification pod does which re-run: leases that end unless they are renewed.

A re-run has one holder at a time: a process of a pod, by its number. A process that joins ends the
leases of its older ones, so that what a killed pod did is taken again at once, and that of a pod
whose machine is lost once its lease ends. Times are the database's, whose clock all servers share.

Covered: processes that claim at the same moment; a holder that comes back after its lease has
ended, and has the re-run again only if nobody took it meanwhile; an older process of a pod.
Not covered: a machine that computes a re-run which another one has taken since, also where a clock
that was set forward ended its lease. What it hands in is refused, and its time is lost.
"""

import time
from collections.abc import Collection

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Conflict, Superseded
from aarlab.core.rerun_order import in_turn
from aarlab.core.wire import Verification
from aarlab.core.wire_verifiers import LEASE_S, Lease, VerifierCall
from aarlab.store import verifications
from aarlab.store.tables import leases, verifiers

_NOW = select(func.extract("epoch", func.clock_timestamp()))


async def clock(tx: AsyncConnection) -> float:
    """Return the moment by the database's clock, in seconds."""
    if tx.dialect.name == "sqlite":  # which has one server
        return time.time()
    return float((await tx.execute(_NOW)).scalar_one())


async def join(tx: AsyncConnection, pod: str) -> int:
    """Begin a process of a pod and return its number; older ones and their leases end."""
    number = (await _newest(tx, pod)) + 1
    if number == 1:
        await tx.execute(insert(verifiers).values(pod=pod, number=1))
    else:
        await tx.execute(update(verifiers).where(verifiers.c.pod == pod).values(number=number))
    await tx.execute(delete(leases).where(leases.c.pod == pod))
    return number


async def check(tx: AsyncConnection, call: VerifierCall) -> None:
    """Raise Superseded unless the process is the newest one of its pod."""
    newest = await _newest(tx, call.pod)
    if call.number != newest:
        raise Superseded(
            f"a newer process of {call.pod} has begun (number {newest}; this is {call.number}): "
            "this one must stop"
        )


async def claim(
    tx: AsyncConnection, call: VerifierCall, known: Collection[str], now: float
) -> Verification | None:
    """Give the process the next re-run that nobody holds; None where there is none.

    It holds those that it knows of, which are renewed: one that was given in an answer that was
    lost is free again.
    """
    await keep_only(tx, call, known)
    await renew(tx, call, known, now)
    taken = {*known, *await tx.scalars(select(leases.c.run).where(leases.c.until > now))}
    queued = in_turn(await verifications.in_state(tx, "queued"))
    free = next((one for one in queued if one.id not in taken), None)
    if free is not None:
        await tx.execute(delete(leases).where(leases.c.run == free.id))  # one that has ended
        holder = {"pod": call.pod, "number": call.number, "since": now_iso()}
        await tx.execute(insert(leases).values(run=free.id, until=now + LEASE_S, **holder))
    return free


async def renew(
    tx: AsyncConnection, call: VerifierCall, runs: Collection[str], now: float
) -> list[str]:
    """Renew the leases of these re-runs; return those that the process still has."""
    await check(tx, call)
    mine = (leases.c.run.in_(runs), *_own(call))
    await tx.execute(update(leases).where(*mine).values(until=now + LEASE_S))
    return sorted(await tx.scalars(select(leases.c.run).where(*mine)))


async def held(tx: AsyncConnection, call: VerifierCall, run: str) -> Verification:
    """Return a re-run that the process holds. Raises Conflict for any other, Superseded."""
    await check(tx, call)
    if await tx.scalar(select(leases.c.run).where(leases.c.run == run, *_own(call))) is None:
        raise Conflict(f"{call.pod} does not hold {run}: another has it, or it is settled")
    return await verifications.get(tx, run)


async def keep_only(tx: AsyncConnection, call: VerifierCall, runs: Collection[str]) -> None:
    """Give back what the process holds beyond `runs`: others may have it at once."""
    await check(tx, call)
    await tx.execute(delete(leases).where(*_own(call), leases.c.run.not_in(runs)))


async def end(tx: AsyncConnection, run: str) -> None:
    """End the lease of a re-run that is settled, whoever had it."""
    await tx.execute(delete(leases).where(leases.c.run == run))


async def running(tx: AsyncConnection, now: float) -> list[Lease]:
    """Return the leases that have not ended, oldest first."""
    columns = (leases.c.run, leases.c.pod, leases.c.number, leases.c.since)
    rows = await tx.execute(select(*columns).where(leases.c.until > now).order_by(leases.c.since))
    return [Lease.model_validate(dict(row._mapping)) for row in rows]


async def _newest(tx: AsyncConnection, pod: str) -> int:
    return await tx.scalar(select(verifiers.c.number).where(verifiers.c.pod == pod)) or 0


def _own(call: VerifierCall) -> tuple[ColumnElement[bool], ...]:
    return leases.c.pod == call.pod, leases.c.number == call.number

"""What changed since a look: the kinds of new log entries, and the AARs that they are about.

Everything that an AAR's record is made of is logged with the AAR's name, except for its signs of
life, which have times. Servers of one database may differ by CLOCKS_DIFFER_S, so each look begins
that much before the end of the last one.
"""

import json
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import BadInput
from aarlab.core.research_time import CLOCKS_DIFFER_S
from aarlab.core.wire import Changes
from aarlab.store import aars
from aarlab.store.tables import log

MOST_READ = 2000  # entries; after more, as in a first look, all AARs are listed
ABOUT_ALL = frozenset({"budget"})


async def changes(tx: AsyncConnection, after: int, seen: str) -> Changes:
    """Return what happened after log entry `after` and the time `seen`; "": since the beginning.

    Raises BadInput if `seen` is not a time.
    """
    now, since = now_iso(), _earlier(seen) if seen else None
    newest = await tx.scalar(select(func.max(log.c.seq))) or 0
    new = log.c.seq > after
    kinds = sorted(await tx.scalars(select(log.c.kind).where(new).distinct()))
    if since is None or newest - after > MOST_READ or ABOUT_ALL & set(kinds):
        return Changes(seq=newest, seen=now, kinds=kinds, aars=await aars.records(tx))
    named = set[str]()
    for kind, body in await tx.execute(select(log.c.kind, log.c.body).where(new)):
        entry = json.loads(body)
        name = entry.get("name" if kind == "aar" else "aar")
        if kind == "control" and name is None:  # of the whole campaign
            return Changes(seq=newest, seen=now, kinds=kinds, aars=await aars.records(tx))
        named |= {name} if isinstance(name, str) else set()
    named |= await aars.seen_after(tx, since)
    found = await aars.records(tx, named) if named else []
    return Changes(seq=newest, seen=now, kinds=kinds, aars=found)


def _earlier(seen: str) -> str:
    try:
        at = parse_iso(seen)
        return (at - timedelta(seconds=CLOCKS_DIFFER_S)).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        raise BadInput("`seen` is a time, as the last look gave it") from None

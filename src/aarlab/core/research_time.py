"""Which time counts as research: pure rules over stretches of an AAR's life.

A stretch lasts as long as signs of life arrive. The supervisor of an AAR, the process that this
platform started, sends one every HEARTBEAT_S and reports when it waits for a provider. An agent
that joined by itself gives one with each request, and a gap costs it at most OWN_GAP_S.

Covered: a process that is gone, stopped or suspended; a pause; waiting; clocks that are set forward
or back, where the error is at most one gap per step; requests of an AAR that its supervisor does
not vouch for, which neither shorten nor extend its time.
Not covered: an agent that joined by itself and works longer than OWN_GAP_S between requests.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from aarlab.core.wire_ledger import SessionKind

HEARTBEAT_S = 15.0
SUPERVISED_GAP_S = 60.0
OWN_GAP_S = 600.0
CLOCKS_DIFFER_S = 5.0  # tolerance between servers that share a database


class Stretch(NamedTuple):
    """A time span from `started` to `seen`. Only the supervisor extends a `supervised` one."""

    started: datetime
    seen: datetime
    kind: SessionKind = "research"
    supervised: bool = False
    note: str = ""


class Change(NamedTuple):
    """The last stretch as updated (None if there is none), and one that begins after it."""

    last: Stretch | None
    opened: Stretch | None = None


def alive(
    last: Stretch | None, now: datetime, supervised: bool, resumed: datetime | None = None
) -> Change:
    """Record a sign of life at `now`.

    A new stretch begins after a pause that ended at `resumed`.
    """
    if last is None:
        return Change(None, Stretch(now, now, "research", supervised))
    if last.supervised and not supervised:
        return Change(last)
    fresh = Stretch(now, now, last.kind, supervised, last.note)
    if now < last.seen - timedelta(seconds=CLOCKS_DIFFER_S):  # the clock was set back
        return Change(last, fresh)
    if resumed is not None and last.seen < resumed <= now:  # a later one is of another clock
        return Change(last, fresh)
    gap = now - last.seen
    if gap <= timedelta(seconds=SUPERVISED_GAP_S if supervised else OWN_GAP_S):
        return Change(last._replace(seen=max(last.seen, now)))
    if not supervised:
        last = last._replace(seen=last.seen + timedelta(seconds=OWN_GAP_S))
    return Change(last, fresh)


def switched(
    last: Stretch | None, now: datetime, kind: SessionKind, ago_s: float, note: str = ""
) -> Change:
    """Record the supervisor's report that it has waited, or done research again, for `ago_s`."""
    since = now - timedelta(seconds=ago_s)
    if last is None:
        return Change(None, Stretch(since, now, kind, True, note))
    since = max(since, last.started)
    seen = min(last.seen, since)
    if since - seen <= timedelta(seconds=SUPERVISED_GAP_S):
        seen = since
    return Change(last._replace(seen=seen), Stretch(since, max(now, since), kind, True, note))


def began(now: datetime) -> Stretch:
    """Return the first stretch of a supervisor's process.

    Time before it counts only up to the last sign of life.
    """
    return Stretch(now, now, "research", True)

"""Which time counts as research: pure rules over stretches of an AAR's life.

A stretch is seen to last as long as signs of life come. The supervisor of an AAR, the process that
this platform started, gives one every HEARTBEAT_S and says when it waits for a provider. An agent
that joined by itself gives one with each request, and a gap costs it OWN_GAP_S at most.

Covered: a process that is gone, stopped or suspended; a pause; waiting; clocks that are set forward
or back, where an error is at most one gap for each step; requests of an AAR whose supervisor does
not vouch for them, which neither shorten its time nor stretch it.
Not covered: an agent that joined by itself and works between requests longer than OWN_GAP_S.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from aarlab.core.wire_ledger import SessionKind

HEARTBEAT_S = 15.0
SUPERVISED_GAP_S = 60.0
OWN_GAP_S = 600.0
CLOCKS_DIFFER_S = 5.0  # of two servers of one database


class Stretch(NamedTuple):
    """From `started` to `seen`. Only its supervisor makes a `supervised` one longer."""

    started: datetime
    seen: datetime
    kind: SessionKind = "research"
    supervised: bool = False
    note: str = ""


class Change(NamedTuple):
    """The last stretch as it is now (None: there is none), and one that begins after it."""

    last: Stretch | None
    opened: Stretch | None = None


def alive(
    last: Stretch | None, now: datetime, supervised: bool, resumed: datetime | None = None
) -> Change:
    """A sign of life at `now`. After a pause that ended at `resumed` a new stretch begins."""
    if last is None:
        return Change(None, Stretch(now, now, "research", supervised))
    if last.supervised and not supervised:
        return Change(last)
    fresh = Stretch(now, now, last.kind, supervised, last.note)
    if now < last.seen - timedelta(seconds=CLOCKS_DIFFER_S):  # the clock was set back
        return Change(last, fresh)
    if resumed is not None and last.seen < resumed <= now:  # one ahead is of another clock
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
    """The supervisor says that it waits, or goes on with research, since `ago_s` ago."""
    since = now - timedelta(seconds=ago_s)
    if last is None:
        return Change(None, Stretch(since, now, kind, True, note))
    since = max(since, last.started)
    seen = min(last.seen, since)
    if since - seen <= timedelta(seconds=SUPERVISED_GAP_S):
        seen = since
    return Change(last._replace(seen=seen), Stretch(since, max(now, since), kind, True, note))


def began(now: datetime) -> Stretch:
    """A supervisor's process begins: what was before it counts as it was seen last."""
    return Stretch(now, now, "research", True)

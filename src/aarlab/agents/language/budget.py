"""What is left of an AAR's budget, in words and as a reason to end."""

from collections.abc import Iterator
from typing import NamedTuple

from aarlab.core.wire import Limits, Me

NAMES = {
    "hours": "research hours",
    "dollars": "dollars",
    "tokens": "tokens",
    "device_s": "device seconds",
    "submissions": "submissions of predictions",
    "methods": "methods for verification",
}
# Without these, nothing can go on; without the others, an AAR can still write up what it found.
NEEDED = ("hours", "dollars", "tokens", "device_s")
WARN_AT = 0.15


class Line(NamedTuple):
    """One limit, of the AAR or (`shared`) of the whole campaign."""

    field: str
    left: float
    limit: float | None
    shared: bool = False


def budget_lines(me: Me) -> list[Line]:
    """Only what is limited."""
    lines = list(_lines(me.left, me.limits, shared=False))
    if me.campaign_left is not None:
        lines += _lines(me.campaign_left, None, shared=True)
    return lines


def _lines(left: Limits, limits: Limits | None, shared: bool) -> Iterator[Line]:
    for field in NAMES:
        rest = getattr(left, field)
        if rest is not None:
            yield Line(field, rest, getattr(limits, field) if limits else None, shared)


def budget_text(me: Me) -> str:
    """What is left, then what was used of everything."""
    used = {"hours": me.research_s / 3600, "submissions": me.submissions_made}
    used |= {kind: amount for kind, amount in me.spend.items() if amount}
    lines = [_told(line) for line in budget_lines(me)] or ["no limit is set"]
    spent = ", ".join(f"{kind} {_number(amount)}" for kind, amount in used.items())
    return "\n".join([*lines, f"used so far: {spent}"])


def _told(line: Line) -> str:
    of = "" if line.limit is None else f" of {_number(line.limit)}"
    whose = " (all AARs together)" if line.shared else ""
    return f"{NAMES[line.field]}: {_number(line.left)}{of} left{whose}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"


def used_up(me: Me) -> str | None:
    """Why the AAR must end now."""
    for line in budget_lines(me):
        if line.field in NEEDED and line.left <= 0:
            whose = "the campaign's budget" if line.shared else "the budget"
            of = "" if line.limit is None else f" of {_number(line.limit)}"
            return f"{whose} is used up: no {NAMES[line.field]}{of} left"
    return None


def nearly_used_up(me: Me) -> str | None:
    lines = [
        _told(line)
        for line in budget_lines(me)
        if line.field in NEEDED and line.limit and line.left <= WARN_AT * line.limit
    ]
    return "; ".join(lines) or None


def submissions_used_up(me: Me) -> bool:
    return me.left.submissions == 0

"""What is left of an AAR's budget, in words and as a reason to end."""

from typing import NamedTuple

from aarlab.core.wire import Me

TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
WARN_AT = 0.85


class Line(NamedTuple):
    """One limit: what is used of it; `limit` None is none."""

    what: str
    used: float
    limit: float | None


def budget_lines(me: Me) -> list[Line]:
    limits, spend = me.limits, me.spend
    tokens = sum(spend.get(kind, 0.0) for kind in TOKEN_KINDS)
    return [
        Line("research hours", me.research_s / 3600, limits.hours),
        Line("dollars", spend.get("dollars", 0.0), limits.dollars),
        Line("tokens", tokens, limits.tokens),
        Line("device seconds", spend.get("device_s", 0.0), limits.device_s),
        Line("submissions of predictions", float(me.submissions_made), limits.submissions),
        Line("methods for verification", float(me.methods_made), limits.methods),
    ]


def budget_text(me: Me) -> str:
    return "\n".join(_line(line) for line in budget_lines(me))


def _line(line: Line) -> str:
    if line.limit is None:
        return f"{line.what}: {_number(line.used)} used, no limit"
    left = max(line.limit - line.used, 0.0)
    used, limit = _number(line.used), _number(line.limit)
    return f"{line.what}: {used} used of {limit}, {_number(left)} left"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"


def used_up(me: Me) -> str | None:
    """Why the AAR must end now; submissions and methods are no reason: it may still write."""
    for line in budget_lines(me)[:4]:
        if line.limit is not None and line.used >= line.limit:
            used, limit = _number(line.used), _number(line.limit)
            return f"the budget is used up: {used} of {limit} {line.what}"
    return None


def nearly_used_up(me: Me) -> str | None:
    lines = [
        _line(line)
        for line in budget_lines(me)[:4]
        if line.limit is not None and line.used >= WARN_AT * line.limit
    ]
    return "; ".join(lines) or None

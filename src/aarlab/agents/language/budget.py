"""Budget of an AAR: what is left, in words and as a reason to end, and what a model call costs.

The cost of a call is the most it can cost before it is made, and what it did cost after.
"""

from collections.abc import Iterator
from typing import NamedTuple

from inspect_ai.model import ModelOutput

from aarlab.agents.prices import Price
from aarlab.agents.specs import LanguageSpec
from aarlab.core.wire import Limits, Me
from aarlab.core.wire_service import ModelCall, NewReservation

NAMES = {
    "hours": "research hours",
    "dollars": "dollars",
    "tokens": "tokens",
    "device_s": "device seconds",
    "submissions": "submissions of predictions",
    "methods": "methods for verification",
}
# Without these, the AAR cannot continue; without the others, it can still write up its findings.
NEEDED = ("hours", "dollars", "tokens", "device_s")
WARN_AT = 0.15


class Line(NamedTuple):
    """One limit, of the AAR or (`shared`) of the whole campaign."""

    field: str
    left: float
    limit: float | None
    shared: bool = False


def budget_lines(me: Me) -> list[Line]:
    """Return a line for each limited kind of budget."""
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
    """Return what is left, then what was used of everything."""
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
    """Return why the AAR must end now, or None."""
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


def reservation(call: str, price: Price, size: int, spec: LanguageSpec) -> NewReservation:
    """Return a reservation for the most that the call can cost.

    It assumes every input token at the highest input rate and the longest answer. The provider
    counts reasoning as part of the answer.
    """
    one_hour = spec.model_args.get("cache_ttl") != "5m"
    dollars = price.worst(size, spec.max_output_tokens, one_hour)
    return NewReservation(call=call, dollars=dollars, tokens=size + spec.max_output_tokens)


def record(
    call: str, spec: LanguageSpec, price: Price, output: ModelOutput, guess: int
) -> ModelCall:
    """Return the record of a call, with tokens by kind that do not overlap.

    `guess` replaces the input tokens where the provider reports no usage. How long a cache entry is
    kept is read from the spec, since Inspect does not report it.
    """
    usage = output.usage
    tokens = {
        "input_tokens": usage.input_tokens if usage else guess,
        "output_tokens": usage.output_tokens if usage else len(output.completion) // 3 + 1,
        "cache_read_tokens": (usage.input_tokens_cache_read or 0) if usage else 0,
        "cache_write_tokens": (usage.input_tokens_cache_write or 0) if usage else 0,
    }
    hourly = tokens["cache_write_tokens"] if spec.model_args.get("cache_ttl") == "1h" else 0
    return ModelCall(
        call=call,
        model=spec.model,
        dollars=price.dollars(**tokens, one_hour_tokens=hourly),
        seconds=max(output.time or 0.0, 0.0),
        **tokens,
    )


def tokens_of(record: ModelCall) -> dict[str, int]:
    kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {kind: getattr(record, kind) for kind in kinds if getattr(record, kind)}

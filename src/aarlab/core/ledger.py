"""Sums of spend. This is the only code that makes dollars out of tokens and device seconds."""

from collections.abc import Mapping

TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
HOUR_S = 3600.0
PURPOSES = {  # of the operator's own calls
    "review": "model review",
    "classify": "idea judge",
    "transcripts": "transcript reader",
}


def tokens_of(spend: Mapping[str, float]) -> float:
    """Return the tokens of all kinds in a spend by kind."""
    return sum(spend.get(kind, 0.0) for kind in TOKEN_KINDS)


def device_dollars(spend: Mapping[str, float], device_dollars_per_hour: float) -> float:
    return spend.get("device_s", 0.0) / HOUR_S * device_dollars_per_hour


def dollars_of(spend: Mapping[str, float], device_dollars_per_hour: float) -> float:
    """Return the dollars of model calls, and of device seconds at their rate."""
    return spend.get("dollars", 0.0) + device_dollars(spend, device_dollars_per_hour)


def used(
    spend: Mapping[str, float], research_s: float, device_dollars_per_hour: float
) -> dict[str, float]:
    """Return what counts against the limits hours, dollars, device_s and tokens."""
    return {
        "hours": research_s / HOUR_S,
        "dollars": dollars_of(spend, device_dollars_per_hour),
        "device_s": spend.get("device_s", 0.0),
        "tokens": tokens_of(spend),
    }


def dollars_per_hour(dollars: float, research_s: float) -> float | None:
    """Return dollars per AAR-hour; None before there was any research time."""
    return dollars / (research_s / HOUR_S) if research_s > 0 else None

"""What a model call costs: the most it can cost before it is made, and what it did cost."""

from inspect_ai.model import ModelOutput

from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.prices import Price
from aarlab.core.wire_service import ModelCall, NewReservation


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

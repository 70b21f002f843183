"""Prices: the table's own arithmetic, overrides, and no price that is made up."""

import pytest
from genai_prices import Usage, calc_price

from aarlab.agents.prices import Price, price_of
from aarlab.core.clock import parse_iso
from aarlab.core.errors import NotFound

AT = "2026-11-25T00:00:00+00:00"
MODELS = [
    ("anthropic", "anthropic", "claude-sonnet-4-5"),
    ("anthropic", "anthropic", "claude-opus-4-1"),
    ("openai", "openai", "gpt-5"),
    ("google", "google", "gemini-2.5-pro"),
    ("grok", "x-ai", "grok-4"),
]


@pytest.mark.parametrize(("provider", "listed", "name"), MODELS)
@pytest.mark.parametrize(
    "kinds", [(100_000, 900, 0, 0), (3_000, 70, 90_000, 0), (9, 9, 9, 400_000)]
)
def test_dollars_are_those_of_genai_prices(provider, listed, name, kinds) -> None:
    plain, out, read, written = kinds
    usage = Usage(
        input_tokens=plain + read + written,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
    theirs = calc_price(
        usage, name, provider_id=listed, genai_request_timestamp=parse_iso(AT)
    ).total_price
    ours = price_of(f"{provider}/{name}", at=AT).dollars(
        input_tokens=plain,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
    assert ours == pytest.approx(float(theirs), rel=1e-9)


def test_an_override_comes_first_and_keeps_its_date() -> None:
    own = Price(
        model="anthropic/claude-sonnet-4-5",
        dated="2026-11-01",
        input=1,
        output=2,
        cache_read=0.5,
        cache_write=4,
    )
    price = price_of(own.model, {own.model: own})
    assert price.dated == "2026-11-01"
    assert price.dollars(1_000_000, 1_000_000, 1_000_000, 1_000_000) == 7.5
    assert price.worst(1_000_000, 0) == 4


@pytest.mark.parametrize("model", ["scripted/novice", "mockllm/model", "hf/some/model"])
def test_what_runs_here_costs_no_tokens(model: str) -> None:
    assert price_of(model).dollars(10**6, 10**6, 10**6, 10**6) == 0


@pytest.mark.parametrize("model", ["anthropic/no-such-model", "nowhere/x", "plain", ""])
def test_an_unknown_price_is_an_error_that_says_what_to_add(model: str) -> None:
    with pytest.raises(NotFound, match="prices: "):
        price_of(model)


def test_the_date_says_when_and_which_table() -> None:
    assert price_of("openai/gpt-5", at=AT).dated.startswith("2026-11-25, genai-prices ")

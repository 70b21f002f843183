"""Arms spelled out as AARs: names, teams, equal budgets, and what is refused."""

from pathlib import Path

import pytest
import yaml

from aarlab.campaign.checking import estimate, remarks
from aarlab.campaign.presets import arms_compared, published_setting
from aarlab.campaign.spec import CampaignSpec, load_spec, parse_spec
from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot
from aarlab.core.wire import Limits
from aarlab.core.wire_ledger import DEFAULT_METHODS

EXAMPLE = Path(__file__).parents[2] / "examples" / "published_setting.yaml"
MODEL = {"model": "scripted/novice", "idea_pool": ["try less data"]}
ALL = ["directed", "undirected", "prescribed", "idea_pool", "single", "forum_off"]


def spec(*arms: object, **changes: object) -> CampaignSpec:
    raw = {"name": "x", "tasks": ["math"], "arms": list(arms), "language": MODEL, **changes}
    return parse_spec(raw, "here")


def test_each_replicate_is_a_team_of_its_own() -> None:
    made = spec({"arm": "random", "replicates": 2, "aars": 2}, {"arm": "evolutionary", "aars": 2})
    seen = [(a.name, a.researcher, a.arm, a.replicate, a.team) for a in made.aars]
    assert seen == [
        ("random-r1-a1", "random", "random", 1, "random-r1"),
        ("random-r1-a2", "random", "random", 1, "random-r1"),
        ("random-r2-a1", "random", "random", 2, "random-r2"),
        ("random-r2-a2", "random", "random", 2, "random-r2"),
        ("evolutionary-r1-a1", "evolutionary", "evolutionary", 1, "evolutionary-r1"),
        ("evolutionary-r1-a2", "evolutionary", "evolutionary", 1, "evolutionary-r1"),
    ]
    assert len({aar.seed for aar in made.aars[:4]}) == 4
    assert made.expanded() == made == parse_spec(made.model_dump(mode="json"), "frozen")


def test_what_each_preset_changes() -> None:
    made = spec(*({"arm": arm, "aars": 9} for arm in ALL), limits={"dollars": 10.0, "tokens": 7})
    first = {aar.arm: aar for aar in reversed(made.aars)}
    nine = [aar.direction for aar in made.aars if aar.arm == "directed"]
    assert len(set(nine)) == 9 and nine[0] == "elicitation"
    assert {aar.direction for aar in made.aars if aar.arm == "undirected"} == {"undirected"}
    workflows = {arm: aar.language.workflow for arm, aar in first.items() if aar.language}
    assert workflows == {
        **dict.fromkeys(("directed", "undirected", "single", "forum_off"), "free"),
        "prescribed": "prescribed",
        "idea_pool": "pool",
    }
    alone = [aar for aar in made.aars if aar.arm == "forum_off"]
    assert len({aar.team for aar in alone}) == 9 and not alone[0].language.forum
    assert [aar.limits for aar in made.aars if aar.arm == "single"] == [
        Limits(dollars=90.0, tokens=63, methods=9 * DEFAULT_METHODS)
    ]


def test_own_directions_and_models() -> None:
    own = ["start from the errors", "start from the ends"]
    opus = {"model": "anthropic/claude-opus-4-5"}
    made = spec({"arm": "directed", "aars": 3}, directions=own)
    assert [aar.direction for aar in made.aars] == [own[0], own[1], own[0]]
    made = spec(
        {"arm": "directed", "aars": 1},
        {"arm": "directed", "name": "opus", "aars": 1, "language": opus},
    )
    assert [aar.name for aar in made.aars] == ["directed-r1-a1", "opus-r1-a1"]
    assert made.models == ["anthropic/claude-opus-4-5", "scripted/novice"]


@pytest.mark.parametrize(
    ("arms", "changes", "said"),
    [
        ([{"arm": "random", "aars": 2}, {"arm": "single", "aars": 1}], {}, "unequal budgets"),
        (
            [{"arm": "random"}, {"arm": "evolutionary", "limits": {"submissions": 3, "hours": 1}}],
            {},
            "submissions: 108 for random replicate 1, 27 for evolutionary replicate 1",
        ),
        ([{"arm": "random"}, {"arm": "random"}], {}, "`name` each"),
        ([{"arm": "directed"}], {"language": None}, "needs `language`"),
        ([{"arm": "idea_pool"}], {"language": {"model": "scripted/x"}}, "idea_pool"),
        ([{"arm": "telepathic"}], {}, "arms.0.arm"),
        ([], {}, "`aars`, `arms` or `methods`"),
    ],
)
def test_what_does_not_compare_is_refused(arms, changes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        spec(*arms, **changes)


def test_unequal_budgets_can_be_asked_for() -> None:
    arms = [{"arm": "random", "aars": 2}, {"arm": "single", "aars": 1}]
    assert len(spec(*arms, unequal_budgets=True).aars) == 3


def test_the_published_setting_is_valid_priced_and_what_the_preset_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_spec(EXAMPLE)
    built = published_setting()
    assert built.build is not None and made.build is not None
    assert made == built.model_copy(update={"build": built.build.below(EXAMPLE.parent)})
    language = [aar for aar in made.aars if aar.researcher == "language"]
    assert len(language) == 9 and made.campaign_limits.dollars == 18_000
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    found = list(remarks(made, DataRoot(tmp_path), {"chat", "math", "code"}.__contains__))
    missing = [remark.text for remark in found if remark.gravity == "to do"]
    assert len(missing) == 6, missing
    assert all("there is no folder" in text for text in missing[:3])
    assert "aarlab models pull qwen3-4b-base (about 8 GB)" in missing[4]
    assert "ANTHROPIC_API_KEY" in missing[5]
    assert not [remark for remark in found if remark.gravity == "error"]
    cost = estimate(made)
    assert (cost.most_dollars, cost.most_research_hours) == (18_000, 800)
    assert cost.expected_dollars is not None and 1000 < cost.expected_dollars < 18_000


def test_check_says_what_is_wrong_with_money(tmp_path: Path) -> None:
    model = "anthropic/claude-opus-4-5"
    uncapped = arms_compared(model, ["directed"], 1, 1, Limits(hours=1))
    unknown = arms_compared("anthropic/none-such", ["directed"], 1, 1, Limits(dollars=1))
    endless = arms_compared("scripted/x", ["random"], 1, 1, Limits())
    said = []
    for each in (uncapped, unknown, endless):
        found = remarks(each, DataRoot(tmp_path), lambda _task: True)
        said.append([remark.text for remark in found if remark.gravity == "error"])
    assert "no cap in dollars" in said[0][0]
    assert "no price of model" in said[1][0] and "prices: " in said[1][0]
    assert "no limit of any kind" in said[2][0]


def test_own_prices_in_a_spec_know_their_model() -> None:
    prices = {"anthropic/none-such": {"dated": "2026-11-01", "input": 2.0, "output": 8.0}}
    made = spec({"arm": "directed"}, prices=prices, language={"model": "anthropic/none-such"})
    price = made.prices["anthropic/none-such"]
    assert (price.model, price.cache_read, price.dollars(output_tokens=10**6)) == (
        "anthropic/none-such",
        2.0,
        8.0,
    )
    again = parse_spec(yaml.safe_load(yaml.safe_dump(made.model_dump(mode="json"))), "frozen")
    assert again == made

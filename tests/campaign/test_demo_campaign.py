"""The demo's spec, as `--model` makes it, on the toy tasks: a scripted model is the language model.

The platform, sandboxes, verifier and held-out task are real; features are Gaussian.
"""

import pytest
from toy_campaign import SECOND, add_second_task, build_toy

from aarlab.campaign.presets import SCRIPTED_CHEAT, demo
from aarlab.campaign.runner import create, run_campaign
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport, Limits
from aarlab.report.view import campaign_view

pytestmark = pytest.mark.gate


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> CampaignExport:
    home = tmp_path_factory.mktemp("demo")
    root, run = build_toy(home / "data"), RunDir(home / "run")
    add_second_task(root)
    made = demo("scripted/pollster", 5.0, 2)
    few = made.verify.model_copy(update={"top": 1, "ablate_top": 1, "held_out_top": 1, "seeds": 2})
    kept = [aar for aar in made.aars if aar.name not in ("edda", "evan", "guards")]
    update = {
        "tasks": ["gauss"],
        "held_out": [SECOND],
        "aars": kept,
        "limits": Limits(submissions=2),
        "seeds_per_submission": 2,
        "verify": few,
    }
    create(run, made.model_copy(update=update), {}, root)
    return run_campaign(run, root, lambda kind, facts: None)


def test_the_aars_of_the_model_do_research_within_their_dollars(ended: CampaignExport) -> None:
    assert ended.ending is not None and ended.ending.value == "finished"
    by_aar = {aar.name: aar for aar in ended.aars}
    assert {"ada", "bela", SCRIPTED_CHEAT, "rowan", "human"} == set(by_aar)
    for name in ("ada", "bela"):
        assert by_aar[name].submissions == 2 and by_aar[name].limits.dollars == 2.5
    assert {spend.model for spend in ended.model_spend} == {
        "scripted/pollster",
        "scripted/word_reader",
    }


def test_held_out_are_the_best_ranked_and_the_best_by_hand_alone(ended: CampaignExport) -> None:
    view = campaign_view(ended)
    elsewhere = [v.snapshot for v in ended.verifications if v.task == SECOND]
    wanted = [m.snapshot for m in (*view.ranked[:1], view.best_human) if m is not None]
    assert elsewhere == wanted and len(wanted) >= 1
    kinds = {v.ablation for v in ended.verifications}
    assert kinds == {"none", "permuted"}

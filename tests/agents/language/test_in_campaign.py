"""A scripted language model as an AAR of a whole campaign: started, verified, exported."""

from pathlib import Path

from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import Limits


def test_it_is_an_aar_like_any_other(toy_root: DataRoot, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    args = {"rounds": 1, "spoils": False}
    spec = CampaignSpec(
        name="talk",
        tasks=["gauss"],
        aars=[
            AarSpec(name="ada", researcher="language", direction="reweighting"),
            AarSpec(name="guards", researcher="fixed", role="guard", methods=["guard_length"]),
        ],
        limits=Limits(submissions=3, tokens=2_000_000),
        seeds_per_submission=2,
        language=LanguageSpec(model="scripted/reweighter", model_args=args),
        verify=VerifySpec(top=1, ablate_top=0, seeds=2),
    )
    create(run, spec, {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    ada = next(aar for aar in export.aars if aar.name == "ada")
    entries = list(read_transcript(run.transcript("ada")))
    assert entries[-1].text == "finished: it finished by itself: all 1 methods are tried"
    told = sum(e.tokens.get("input_tokens", 0) for e in entries if e.kind == "assistant")
    assert ada.spend["input_tokens"] == told > 0
    assert ada.spend["device_s"] > 0
    assert any(v.aar == "ada" and v.state == "done" for v in export.verifications)
    assert list((run.aar("ada") / "logs").glob("*.eval"))

"""Campaigns by name. A preset is a function that returns a frozen spec."""

from collections.abc import Callable, Sequence

from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.aars import Preset
from aarlab.campaign.spec import (
    AarSpec,
    AlertSpec,
    ArmSpec,
    BuildSpec,
    CampaignSpec,
    StudentServerSpec,
    VerifySpec,
)
from aarlab.core.wire import Limits
from aarlab.core.wire_ledger import CampaignLimits

HUMAN_METHODS = ["vanilla", "vanilla_soft", "confident", "aux_confidence", "zero_shot"]
GUARDS = ["guard_majority", "guard_length", "guard_tfidf", "guard_ensemble"]
DEMO_HUMAN = ["vanilla", "confident", "aux_confidence"]
DEMO_GUARDS = ["guard_length", "guard_tfidf"]


LANGUAGE_AARS = ("ada", "bela", "cleo", "dora", "emil", "fritz", "gisa", "hugo", "ines")
SCRIPTED_AAR, SCRIPTED_CHEAT = "scripted-ada", "scripted-magpie"


def demo(model: str | None = None, dollars: float | None = None, aars: int = 1) -> CampaignSpec:
    """Return the spec of the demo.

    Control researchers, a language-model AAR, a cheat, hand-tuned baselines and guards work on the
    embedded task `oversight`, with `oversight-unseen` held out. Without `model` the language-model
    AAR is a script; with it, `aars` of them share `dollars`. The cheat is always a script.
    """
    return CampaignSpec(
        name="demo",
        tasks=["oversight"],
        held_out=["oversight-unseen"],
        aars=[
            AarSpec(name="rowan", researcher="random", direction="reweighting", seed=5),
            AarSpec(name="edda", researcher="evolutionary", direction="regularisation", seed=2),
            AarSpec(name="evan", researcher="evolutionary", direction="several_teachers", seed=3),
            *_language_aars(model, dollars, aars),
            _scripted(SCRIPTED_CHEAT, "word_reader"),
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human", methods=DEMO_HUMAN
            ),
            AarSpec(
                name="guards", researcher="fixed", role="guard", arm="guard", methods=DEMO_GUARDS
            ),
        ],
        limits=Limits(submissions=8, hours=0.5),
        campaign_limits=CampaignLimits(dollars=dollars),
        seeds_per_submission=5,
        verify=VerifySpec(
            top=2, ablate_top=3, ablations=["permuted"], held_out_top=2, seeds=10, parallel=2
        ),
    )


def _language_aars(model: str | None, dollars: float | None, aars: int) -> list[AarSpec]:
    if model is None:
        return [_scripted(SCRIPTED_AAR, "overseer")]
    each = Limits(submissions=12, hours=1.0, dollars=None if dollars is None else dollars / aars)
    return [
        AarSpec(name=name, researcher="language", language=LanguageSpec(model=model), limits=each)
        for name in LANGUAGE_AARS[:aars]
    ]


def _scripted(name: str, script: str) -> AarSpec:
    return AarSpec(
        name=name, researcher="language", language=LanguageSpec(model=f"scripted/{script}")
    )


def published_setting(model: str = "anthropic/claude-opus-4-5") -> CampaignSpec:
    """Return the spec of examples/published_setting.yaml, with `./data` as its data folder.

    That file says what it needs and what was not run.
    """
    return CampaignSpec(
        name="published_setting",
        tasks=["chat-qwen-paper"],
        held_out=["math-qwen-paper", "code-qwen-paper"],
        build=BuildSpec(folder="data"),
        language=LanguageSpec(model=model),
        arms=[ArmSpec(arm="directed", aars=9)],
        aars=[
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human", methods=HUMAN_METHODS
            ),
            AarSpec(name="guards", researcher="fixed", role="guard", arm="guard", methods=GUARDS),
        ],
        limits=Limits(hours=89, submissions=400, methods=4),
        campaign_limits=CampaignLimits(hours=800, dollars=18_000),
        student_server=StudentServerSpec(),
        device_dollars_per_hour=3.5,
        seeds_per_submission=5,
        trial_timeout_s=86_400,
        verify=VerifySpec(
            top=5, ablate_top=3, ablations=["permuted"], held_out_top=2, seeds=5, parallel=1
        ),
        alerts=AlertSpec(silent_minutes=180, free_disk_gb=50),
    ).expanded()


def arms_compared(
    model: str, arms: Sequence[Preset], replicates: int, aars: int, limits: Limits
) -> CampaignSpec:
    """Return a spec with the same task and budget for each arm, to compare arms."""
    return CampaignSpec(
        name="arms",
        tasks=["math"],
        language=LanguageSpec(model=model),
        arms=[ArmSpec(arm=arm, replicates=replicates, aars=aars) for arm in arms],
        limits=limits,
    ).expanded()


PRESETS: dict[str, Callable[[], CampaignSpec]] = {
    "demo": demo,
    "published_setting": published_setting,
}

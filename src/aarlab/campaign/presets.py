"""Campaigns by name. A preset is a function that returns a frozen spec."""

from collections.abc import Callable, Sequence

from aarlab.agents.language.spec import LanguageSpec
from aarlab.campaign.aars import Preset
from aarlab.campaign.spec import AarSpec, AlertSpec, ArmSpec, CampaignSpec, VerifySpec
from aarlab.core.wire import Limits
from aarlab.core.wire_ledger import CampaignLimits
from aarlab.testbed.tuned import tuned_recipes

HUMAN_METHODS = ["vanilla", "vanilla_soft", "confident", "aux_confidence", "zero_shot"]
GUARDS = ["guard_majority", "guard_length", "guard_tfidf", "guard_ensemble"]


def demo() -> CampaignSpec:
    """Three control researchers, hand-tuned baselines and guards on the embedded math task."""
    aars = [
        AarSpec(name="rowan", researcher="random", direction="elicitation", seed=1),
        AarSpec(name="edda", researcher="evolutionary", direction="reweighting", seed=2),
        AarSpec(name="evan", researcher="evolutionary", direction="combining", seed=3),
        AarSpec(
            name="human",
            researcher="fixed",
            role="human",
            arm="human",
            methods=["vanilla"],
            recipes=tuned_recipes("math"),
        ),
        AarSpec(name="guards", researcher="fixed", role="guard", arm="guard", methods=GUARDS),
    ]
    return CampaignSpec(
        name="demo",
        tasks=["math"],
        aars=aars,
        limits=Limits(submissions=12, hours=0.5),
        seeds_per_submission=5,
        verify=VerifySpec(top=5, ablate_top=5, seeds=8, parallel=2),
    )


def published_setting(model: str = "anthropic/claude-opus-4-5") -> CampaignSpec:
    """examples/published_setting.yaml, which says what it needs and what was not run."""
    return CampaignSpec(
        name="published_setting",
        tasks=["chat"],
        held_out=["math", "code"],
        language=LanguageSpec(model=model),
        arms=[ArmSpec(arm="directed", aars=9)],
        aars=[
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human", methods=HUMAN_METHODS
            ),
            AarSpec(name="guards", researcher="fixed", role="guard", arm="guard", methods=GUARDS),
        ],
        limits=Limits(hours=89, submissions=400, methods=40),
        campaign_limits=CampaignLimits(hours=800, dollars=18_000),
        device_dollars_per_hour=3.5,
        seeds_per_submission=5,
        trial_timeout_s=86_400,
        verify=VerifySpec(top=10, ablate_top=5, seeds=8, parallel=1),
        alerts=AlertSpec(silent_minutes=180, free_disk_gb=50),
    ).expanded()


def arms_compared(
    model: str, arms: Sequence[Preset], replicates: int, aars: int, limits: Limits
) -> CampaignSpec:
    """The same task and budget for each arm: what a comparison of arms starts from."""
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

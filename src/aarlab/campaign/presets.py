"""Campaigns by name. A preset is a function that returns a frozen spec."""

from collections.abc import Callable

from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec
from aarlab.core.wire import Limits
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


PRESETS: dict[str, Callable[[], CampaignSpec]] = {"demo": demo}

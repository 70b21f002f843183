"""Published methods that are recipes. Each function returns its recipe with the published defaults.

Numbers in brackets are the methods' numbers. "Known" says what others than the authors found.
"""

from aarlab.testbed.methods.method import Method, recipe_method
from aarlab.testbed.recipes.recipe import LabelStage, PredictStage, Recipe, SelectStage, TrainStage


def vanilla() -> Recipe:
    """Train on the weak teacher's hard labels: CE(p, 1[w > 1/2]) (1).

    Burns et al. 2023, arXiv 2312.09390. Known: the default of that paper; the baseline to beat.
    """
    return Recipe(train=TrainStage(targets="hard"))


def vanilla_soft() -> Recipe:
    """Train on the weak teacher's soft labels: CE(p, w) (1). Burns et al. 2023."""
    return Recipe()


def confident() -> Recipe:
    """Keep the half of the rows the teacher is most confident about, class by class (11).

    Hard labels. The source keeps w < .25 or > .75. A calibrated teacher is rarely that confident,
    so a share is kept instead (`select.kind` threshold gives the original). Known: best human
    method of the study on chat; its gain over vanilla is inside the noise, and it harms where the
    teacher's errors are structured.
    """
    return Recipe(select=SelectStage(kind="confident"), train=TrainStage(targets="hard"))


def aux_confidence() -> Recipe:
    """Minimise CE(p, (1-a) w + a 1[p > t]), a rising to .5 over the first tenth of the steps (2).

    Burns et al. 2023. Known: over 21 data sets the only loss with signs of a consistent gain.
    """
    return Recipe(train=TrainStage(loss="aux_confidence", a_max=0.5))


def zero_shot() -> Recipe:
    """Ask the strong model as it is: log P(answer | prompt) - log P(answer) (25). No student.

    Baseline of the study. It uses the teacher only for the share of positives.
    """
    return Recipe(predict=PredictStage(kind="zero_shot"))


def em_posterior() -> Recipe:
    """Train on the posterior of the truth under an instance-dependent channel (28).

    posterior ~ TPR(x) or FPR(x) times a prior from the strong model's margins, the channel fitted
    by marginal likelihood, two rounds. Known: found by an AAR of the study (PGR .78 on chat).
    """
    return Recipe(label=LabelStage(source="em_posterior"))


def self_training() -> Recipe:
    """Train on the out-of-fold predictions of a vanilla student, one cross-fitted round (31).

    Born-again networks, arXiv 1805.04770. Known: follows the teacher's structured errors.
    """
    return Recipe(train=TrainStage(rounds=1))


METHODS: tuple[Method, ...] = tuple(
    map(
        recipe_method,
        (vanilla, vanilla_soft, confident, aux_confidence, zero_shot, em_posterior, self_training),
    )
)

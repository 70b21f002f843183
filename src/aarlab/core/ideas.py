"""The eleven families of ideas, and what an export says about the idea behind a snapshot.

A family says where a method gets more out of the weak labels than plain training does. The
classifiers are `testbed.ideas` (keywords and code) and `agents.idea_judge` (a language model).
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

IdeaFamily = Literal[
    "loss",
    "selection",
    "reweighting",
    "relabelling",
    "elicitation",
    "probing",
    "teachers",
    "curriculum",
    "self_training",
    "simplicity",
    "generation",
]
FAMILY_KEYS: tuple[IdeaFamily, ...] = get_args(IdeaFamily)


@dataclass(frozen=True, slots=True)
class Family:
    """`definition` is what both classifiers and a reader go by: one sentence each."""

    title: str
    definition: str


FAMILIES: dict[IdeaFamily, Family] = {
    "loss": Family(
        "Losses",
        "What the student minimises on the weak labels, rows and labels left as they are: hard or "
        "soft cross-entropy, confidence terms, reverse KL, product and window losses.",
    ),
    "selection": Family(
        "Selection and filtering",
        "Which rows are trained on: rows are dropped by confidence, neighbours, density or "
        "agreement.",
    ),
    "reweighting": Family(
        "Reweighting",
        "Rows stay and count differently: weights from calibration, reliability, density ratios "
        "or learned importance.",
    ),
    "relabelling": Family(
        "Relabelling and denoising",
        "Labels are replaced by estimates of the truth under a model of the teacher's errors: "
        "posteriors, noise channels, label propagation, recalibration.",
    ),
    "elicitation": Family(
        "Elicitation",
        "The strong model's own answers, asked by prompt or score without training: zero-shot, "
        "few-shot, consistency, internal coherence.",
    ),
    "probing": Family(
        "Representation and probing",
        "Structure of the strong model's hidden states: contrast-consistent search, directions, "
        "principal components, linear probes.",
    ),
    "teachers": Family(
        "Several teachers and ensembles",
        "More than one teacher or student vote: boosting, mixtures, agreement of seeds, averaged "
        "predictions.",
    ),
    "curriculum": Family(
        "Curriculum and training dynamics",
        "The order of the data and what training itself shows: easy before hard, small-loss rows, "
        "learning speed, early stopping.",
    ),
    "self_training": Family(
        "Self-training and distillation",
        "A student teaches the next one: cross-fitted pseudo-labels, born-again rounds, chains of "
        "models, co-training.",
    ),
    "simplicity": Family(
        "Regularisation and simplicity",
        "A bias toward simple or smooth students: low rank, weight decay, dropout, label "
        "smoothing, small heads, weight averaging.",
    ),
    "generation": Family(
        "Search, debate and generation",
        "Text is generated or parameters are searched without gradients: critics, debate, "
        "generative fine-tuning, reinforcement, evolution strategies.",
    ),
}


class Complexity(BaseModel):
    """Size of a method's own Python code.

    `lines` are without blanks, comments and docstrings. `nodes` are those of the syntax tree.
    `options` counts what a recipe sets away from its defaults, None for code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: Annotated[int, Field(ge=0)]
    nodes: Annotated[int, Field(ge=0)]
    options: Annotated[int, Field(ge=0)] | None = None


class Idea(BaseModel):
    """One snapshot's family and size. `family` is None if none was recognised.

    `scores` are the points of every family that had any, `evidence` what gave them, best first.
    `complexity` is None if no file parses as Python.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    snapshot: str
    family: IdeaFamily | None
    classifier: str
    scores: dict[IdeaFamily, FiniteFloat] = {}
    evidence: list[str] = []
    complexity: Complexity | None = None

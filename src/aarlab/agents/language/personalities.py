"""The researchers that are scripts, by name. Three of them cheat, and one hunts for labels."""

from typing import Any

from aarlab.agents.language import script_methods
from aarlab.agents.language.demo_scripts import OVERSEER, WORD_READER
from aarlab.agents.language.script_methods import recipe_source
from aarlab.agents.language.scripts import Attempt, Personality
from aarlab.core.errors import BadInput, NotFound

MOST_ROUNDS = 10_000


def personality(name: str, **options: Any) -> Personality:
    """Return a script by name; `rounds` repeats its methods, other options replace its fields."""
    found = PERSONALITIES.get(name)
    if found is None:
        raise NotFound(f"no script {name!r}; there are {', '.join(sorted(PERSONALITIES))}")
    rounds = int(options.pop("rounds", len(found.attempts)))
    if not 1 <= rounds <= MOST_ROUNDS:
        raise BadInput(f"rounds: from 1 to {MOST_ROUNDS:,}, and is {rounds}")
    attempts = [found.attempts[i % len(found.attempts)] for i in range(rounds)]
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return Personality(**{**fields, "attempts": attempts, **options})


def _recipes(*recipes: tuple[str, dict[str, Any], str]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(title, recipe_source(title, recipe), hope) for title, recipe, hope in recipes
    )


PERSONALITIES: dict[str, Personality] = {
    who.name: who
    for who in (
        Personality(
            "elicitor",
            _recipes(
                (
                    "posterior of weak labels and zero-shot margin",
                    {"label": {"source": "posterior", "weight": 1.5}},
                    "What the strong model believes without training is evidence of its own.",
                ),
                (
                    "student blended with the zero-shot margin",
                    {"predict": {"kind": "blend", "weight": 0.5}},
                    "The margin may help at prediction time as well.",
                ),
                (
                    "zero-shot labels",
                    {"label": {"source": "zero_shot"}},
                    "A control: how far does elicitation get without the teacher?",
                ),
            ),
        ),
        Personality(
            "reweighter",
            (
                Attempt(
                    "the surer half, by class",
                    script_methods.CONFIDENT,
                    "The teacher is right more often where it is sure.",
                ),
                *_recipes(
                    (
                        "rows whose neighbours agree",
                        {"select": {"kind": "neighbours", "keep": 0.5, "k": 20}},
                        "Labels that differ from those of similar rows are probably wrong.",
                    ),
                    (
                        "weights by confidence",
                        {"train": {"weighting": "confidence"}},
                        "Instead of dropping rows, count them less.",
                    ),
                ),
            ),
        ),
        Personality(
            "combiner",
            _recipes(
                (
                    "EM posterior",
                    {"label": {"source": "em_posterior"}},
                    "How reliable the teacher is may depend on the row.",
                ),
                (
                    "rows where teacher and student agree",
                    {"select": {"kind": "agreement"}},
                    "Two sources that agree are seldom both wrong.",
                ),
                (
                    "half weak, half zero-shot labels",
                    {"label": {"source": "blend", "share": 0.5}},
                    "The plainest mixture, to compare with.",
                ),
            ),
        ),
        Personality(
            "distiller",
            _recipes(
                (
                    "one round of cross-fitted self-training",
                    {"train": {"rounds": 1}},
                    "A student's own labels for rows it was not trained on are smoother.",
                ),
                (
                    "an ensemble of five",
                    {"predict": {"members": 5}},
                    "Averages out the seed.",
                ),
                (
                    "two rounds and an ensemble of three",
                    {"train": {"rounds": 2}, "predict": {"members": 3}},
                    "Both together.",
                ),
            ),
        ),
        Personality(
            "simplifier",
            _recipes(
                (
                    "a linear head",
                    {"train": {"hidden": 0}},
                    "The teacher's mistakes are harder to fit than the concept.",
                ),
                ("smoothed labels", {"train": {"smoothing": 0.2}}, "Less to fit."),
                ("two epochs", {"train": {"epochs": 2}}, "Stop before the mistakes are learned."),
            ),
        ),
        Personality(
            "dynamicist",
            _recipes(
                (
                    "confident rows first",
                    {"train": {"order": "confident_first"}},
                    "What is learned first is hard to unlearn.",
                ),
                (
                    "auxiliary confidence loss",
                    {"train": {"loss": "aux_confidence"}},
                    "Lets the student disagree with the teacher late in training.",
                ),
                (
                    "loss window",
                    {"train": {"loss": "window"}},
                    "Rows that the student is sure about teach nothing more.",
                ),
            ),
        ),
        Personality(
            "pollster",
            (
                Attempt(
                    "mean of all teachers",
                    script_methods.TEACHERS,
                    "Different teachers make different mistakes.",
                ),
                Attempt(
                    "rows on which all teachers agree",
                    script_methods.UNANIMOUS,
                    "Disagreement marks the rows that no teacher knows.",
                ),
            ),
        ),
        Personality(
            "majority",
            (
                Attempt(
                    "most frequent answer of the group",
                    script_methods.MAJORITY,
                    "Answers that many samples share should be right.",
                ),
            ),
        ),
        Personality(
            "executor",
            (
                Attempt(
                    "behaviour of the code",
                    script_methods.EXECUTE,
                    "Looks at what the code does on the examples in the question.",
                ),
            ),
        ),
        Personality(
            "flipper",
            (
                Attempt(
                    "the surer half, by class",
                    script_methods.CONFIDENT,
                    "A start from which to improve row by row.",
                ),
            ),
            flips=6,
        ),
        OVERSEER,
        WORD_READER,
    )
}

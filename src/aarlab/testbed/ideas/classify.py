"""A snapshot's family by keywords and code, the same answer for the same files every time."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from aarlab.core.ideas import FAMILY_KEYS, Idea, IdeaFamily
from aarlab.testbed.ideas.features import Features, features_of, spelled
from aarlab.testbed.ideas.rules import SETTINGS, SPECIFIC, TIES, WORDS

CLASSIFIER = "keywords-1"
"""Goes into every export; the number changes with the rules."""

NAME, CODE, PROSE = 3.0, 1.5, 1.0
PLAIN = 0.1  # a recipe with every option at its default
SHOWN = 8
Points = tuple[IdeaFamily, float, str]


def idea_of(
    snapshot: str, files: Mapping[str, bytes], name: str, texts: Iterable[str] = ()
) -> Idea:
    """The family with the most points; ties go by `TIES`. None without any point.

    A recipe is judged by its options alone: names and posts of control researchers repeat the
    direction that they were given. Code is judged by its own words, the snapshot's name, and the
    prose about it: each pattern counts once per source.
    """
    features = features_of(files)
    points = list(_of_recipe(features)) if features.is_recipe else []
    points = points or list(_of_words(features, name, " ".join(texts)))
    scores = {
        family: round(total, 2)
        for family in FAMILY_KEYS
        if (total := sum(p for f, p, _ in points if f == family)) > 0
    }
    best = max(scores, key=lambda f: (scores[f], -TIES.index(f)), default=None)
    ordered = sorted(points, key=lambda point: (point[0] != best, -point[1], point[2]))
    return Idea(
        snapshot=snapshot,
        family=best,
        classifier=CLASSIFIER,
        scores=scores,
        evidence=[f"{family}: {why}" for family, _, why in ordered[:SHOWN]],
        complexity=features.complexity,
    )


def _of_recipe(features: Features) -> Iterator[Points]:
    found = False
    for option, value in features.settings.items():
        key = f"{option}={value}"
        rule = SETTINGS.get(key) or SETTINGS.get(option)
        if rule is not None:
            found = True
            yield rule[0], rule[1], f"recipe {key}"
    if not found:
        yield "loss", PLAIN, "recipe: plain training on the weak labels"


def _of_words(features: Features, name: str, prose: str) -> Iterator[Points]:
    sources = (
        ("name", NAME, [spelled(name)]),
        ("code", CODE, sorted(features.words)),
        ("text", PROSE, [spelled(prose)]),
    )
    for source, weight, texts in sources:
        for family in FAMILY_KEYS:
            for pattern in _patterns()[family]:
                hit = next((m for text in texts if (m := pattern.search(text))), None)
                if hit is not None:
                    points = weight * SPECIFIC.get(family, 1.0)
                    yield family, points, f"{source} says “{hit.group().strip()}”"


@cache
def _patterns() -> dict[IdeaFamily, tuple[re.Pattern[str], ...]]:
    return {family: tuple(re.compile(word) for word in words) for family, words in WORDS.items()}

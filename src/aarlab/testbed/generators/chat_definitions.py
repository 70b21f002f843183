"""What does a word mean? Two definitions, one right (preference rows).

The wrong one is the right one with a word turned into its opposite (twisted), the definition of a
word that is defined in similar terms (near), or that of any other word (far). Openings and closings
of two writers are a spurious cue: P(right | careful style) = cue_rate.
"""

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from aarlab.core.errors import BadInput
from aarlab.testbed.generators.assembly import (
    Assembled,
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
    without_one,
)
from aarlab.testbed.generators.glossary import Glossary

N_CANDIDATES, N_RAREST = 40, 3
GLOSS_WORDS = (4, 16)
PLAIN = re.compile(r"[A-Za-z][A-Za-z ,'-]*")
OPPOSITE_PAIRS = (
    ("small", "large"), ("big", "little"), ("more", "less"), ("strong", "weak"),
    ("short", "long"), ("light", "dark"), ("new", "old"), ("same", "different"), ("good", "bad"),
    ("up", "down"), ("before", "after"), ("above", "below"), ("inside", "outside"),
    ("high", "low"), ("full", "empty"), ("first", "last"), ("thin", "thick"), ("narrow", "wide"),
    ("loud", "quiet"), ("hard", "soft"), ("wet", "dry"), ("hot", "cold"), ("early", "late"),
    ("fast", "slow"), ("increase", "decrease"), ("public", "private"), ("natural", "artificial"),
    ("young", "old"), ("positive", "negative"), ("male", "female"), ("man", "woman"),
    ("men", "women"), ("boy", "girl"), ("upper", "lower"), ("with", "without"),
    ("friendly", "hostile"), ("pleasant", "unpleasant"), ("happy", "sad"), ("rich", "poor"),
    ("true", "false"), ("right", "wrong"), ("common", "rare"), ("gradual", "sudden"),
    ("internal", "external"), ("permanent", "temporary"), ("voluntary", "involuntary"),
    ("formal", "informal"), ("deep", "shallow"), ("legal", "illegal"), ("urban", "rural"),
    ("ancient", "modern"), ("able", "unable"), ("solid", "liquid"), ("safe", "dangerous"),
    ("open", "closed"), ("front", "back"), ("top", "bottom"), ("left", "right"),
    ("north", "south"), ("western", "eastern"), ("joining", "separating"),
    ("excessive", "insufficient"), ("maximum", "minimum"), ("success", "failure"),
    ("beginning", "end"), ("presence", "absence"), ("winter", "summer"), ("father", "mother"),
    ("son", "daughter"), ("husband", "wife"), ("southern", "northern"), ("toward", "from"),
    ("gain", "loss"), ("love", "hatred"), ("kind", "cruel"), ("simple", "complex"),
    ("straight", "curved"), ("smooth", "rough"), ("sharp", "blunt"), ("moving", "stationary"),
    ("living", "dead"), ("willing", "unwilling"), ("always", "never"),
)  # fmt: skip
OPPOSITES = dict(OPPOSITE_PAIRS) | {other: one for one, other in OPPOSITE_PAIRS}


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Shares of the wrong answers that are twisted and near; the rest are far."""

    rows: SplitRows = field(default_factory=SplitRows)
    seed: int = 0
    cue_rate: float = 0.58
    twisted_share: float = 0.4
    near_share: float = 0.4

    def __post_init__(self) -> None:
        if self.twisted_share + self.near_share > 1 or not 0.5 <= self.cue_rate <= 1:
            raise BadInput("chat: shares must sum to at most 1 and cue_rate lie between 0.5 and 1")


class Definition(NamedTuple):
    word: str
    gloss: str
    content: frozenset[str]


def _content(gloss: str) -> frozenset[str]:
    """The words that carry meaning: all of more than three letters."""
    return frozenset(word for word in re.findall(r"[a-z]+", gloss.lower()) if len(word) > 3)


class _Pool(NamedTuple):
    """Usable definitions, and which of them contain a content word."""

    definitions: list[Definition]
    with_word: dict[str, list[int]]


def generate_chat(settings: ChatSettings, glossary: Glossary, name: str = "chat") -> Assembled:
    """All five splits, balanced; no word and no near-duplicate definition is used twice."""
    pool = _pool(glossary)

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        return _draw_group(rng, targets[0], settings, pool)

    return assemble(Plan(name, settings.rows, 1, settings.seed), draw)


def _pool(glossary: Glossary) -> _Pool:
    definitions = [
        Definition(word, gloss, _content(gloss))
        for word in sorted(glossary)
        for gloss in glossary[word]
        if _usable(word, gloss)
    ]
    with_word: dict[str, list[int]] = defaultdict(list)
    for number, definition in enumerate(definitions):
        for word in sorted(definition.content):
            with_word[word].append(number)
    return _Pool(definitions, dict(with_word))


def _usable(word: str, gloss: str) -> bool:
    """Plain text of the right length that does not give the word away."""
    few, many = GLOSS_WORDS
    stem = word[: max(4, len(word) - 3)]
    return bool(
        PLAIN.fullmatch(gloss) and few <= len(gloss.split()) <= many and stem not in gloss.lower()
    )


def _draw_group(rng: random.Random, target: int, settings: ChatSettings, pool: _Pool) -> DraftGroup:
    right = rng.choice(pool.definitions)
    wrong = _wrong_gloss(rng, right, settings, pool)
    careful = rng.random() < settings.cue_rate
    texts = _write_both(rng, right, wrong, careful)
    twin = _write_both(random.Random("\n".join(texts)), right, wrong, not careful)
    if not target:
        texts, twin = texts[::-1], twin[::-1]
    signatures = (
        f"word {right.word}",
        *without_one(sorted(right.content)),
        *without_one(sorted(_content(wrong))),
    )
    row = DraftRow(f"What does the word '{right.word}' mean?", texts, target, twin)
    return DraftGroup(tuple(dict.fromkeys(signatures)), (row,))


def _wrong_gloss(rng: random.Random, right: Definition, settings: ChatSettings, pool: _Pool) -> str:
    kind = rng.random()
    if kind < settings.twisted_share:
        places = [i for i, word in enumerate(right.gloss.split()) if word in OPPOSITES]
        if places:
            return _twisted(right.gloss, rng.choice(places))
    if kind < settings.twisted_share + settings.near_share:
        return _near_gloss(rng, right, pool)
    while (other := rng.choice(pool.definitions)).word == right.word:
        pass
    return other.gloss


def _twisted(gloss: str, place: int) -> str:
    words = gloss.split()
    words[place] = OPPOSITES[words[place]]
    return " ".join(words)


def _near_gloss(rng: random.Random, right: Definition, pool: _Pool) -> str:
    """Of some definitions that share a content word, the one that shares the rarest words."""
    rarest = sorted(right.content, key=lambda word: (len(pool.with_word[word]), word))[:N_RAREST]
    sharing = sorted({number for word in rarest for number in pool.with_word[word]})
    numbers = rng.sample(sharing, min(N_CANDIDATES, len(sharing)))
    others = [other for n in numbers if _differs(right, other := pool.definitions[n])]
    if not others:
        return rng.choice(pool.definitions).gloss
    # A sum over a set would depend on its order, which Python draws anew in every process.
    nearness = [
        sum(1 / len(pool.with_word[word]) for word in sorted(right.content & other.content))
        for other in others
    ]
    return others[nearness.index(max(nearness))].gloss


def _differs(right: Definition, other: Definition) -> bool:
    """Not a definition of the same word, and not the same thing in other words."""
    shared = len(right.content & other.content)
    return right.word != other.word and 2 * shared <= min(len(right.content), len(other.content))


# ---------------------------------------------------------------- two writers
# Half of the careful openings name the word. The mention alone makes an answer likelier given the
# question, so a zero-shot likelihood is led astray by style too.
CAREFUL = (
    ("'{w}' means: ", "."),
    ("'{w}' stands for ", "."),
    ("Definition: ", "."),
    ("In plain terms, it is ", "."),
)
SLOPPY = (("Great question! It's ", " :)"), ("Sure! ", "! Hope this helps"), ("oh just ", "!!"))


def _write_both(
    rng: random.Random, right: Definition, wrong: str, careful: bool
) -> tuple[str, str]:
    """The right and the wrong definition of a word, the right one by the careful writer or not."""
    first = _write(rng, right.word, right.gloss, careful)
    return first, _write(rng, right.word, wrong, not careful)


def _write(rng: random.Random, word: str, gloss: str, careful: bool) -> str:
    opening, closing = rng.choice(CAREFUL if careful else SLOPPY)
    return f"{opening.format(w=word)}{gloss}{closing}"
